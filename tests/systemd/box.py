"""A real systemd as PID 1, in namespaces and a cgroup subtree of its own, as root of nothing outside."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

BOOT = Path(__file__).with_name("boot.sh")
BOOT_WITHIN = 20.0
"""Seconds; on an idle machine it takes half of one."""
_SUBTREES = "flowsched-test-"
_TOOLS = ("unshare", "nsenter", "setpriv", "systemctl", "journalctl", "tar", "curl")
_SYSTEMD = Path("/lib/systemd/systemd")
_UIDS_EACH = 65_536


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended in a box."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """All that it said."""
        return self.out + self.err


def why_not() -> str | None:
    """Say why no box can be booted here; None: one can."""
    if os.geteuid() != 0:
        return "it takes root to boot a systemd in namespaces"
    if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        return f"not installed: {', '.join(missing)}"
    if not _SYSTEMD.exists():
        return f"no systemd at {_SYSTEMD}"
    root = _cgroup2()
    if root is None or not os.access(root, os.W_OK):
        return "no cgroup2 that can be written to"
    tried = subprocess.run(
        ["unshare", "-U", "-m", "-p", "-u", "-i", "-n", "-C", "--fork", "true"],  # noqa: S607 - of this machine
        capture_output=True,
        text=True,
        check=False,
    )
    return None if tried.returncode == 0 else f"no namespaces here: {tried.stderr.strip()}"


class Box:
    """One booted systemd. `binds` are folders of this machine to be seen, read-only, as /srv/box/NAME.

    Whatever happens to the process that made it, nothing of it goes on living; its folder and its cgroup
    subtree go when it is closed, or else when the next box is made.
    """

    def __init__(self, binds: Mapping[str, Path]) -> None:
        _sweep()
        self.folder = Path(tempfile.mkdtemp(prefix="flowsched-box-"))
        self.folder.chmod(0o755)
        self._cgroup = _subtree(self.folder.name)
        self._boot: subprocess.Popen[bytes] | None = None
        self.pid = 0
        """Its PID 1, by its number out here."""
        try:
            self._boot = self._start(binds)
            self.pid = self._wait()
        except BaseException:
            self.close()
            raise

    def _start(self, binds: Mapping[str, Path]) -> subprocess.Popen[bytes]:
        base = _base(os.getpid())
        for path in (self._cgroup / "box", *(self._cgroup / "box" / name for name in _DELEGATED)):
            os.chown(path, base, base)
        environ = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "BOX_BASE": str(base),
            "BOX_CGROUP": str(self._cgroup),
            "BOX_BINDS": "\n".join(f"{path.resolve()} {name}" for name, path in binds.items()),
        }
        with self._log.open("wb") as log:
            return subprocess.Popen(  # noqa: S603 - our own script
                ["unshare", "-m", "--propagation", "private", "sh", str(BOOT), "outside", str(self.folder)],  # noqa: S607
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environ,
                start_new_session=True,  # a Ctrl-C is for the tests; they close the box
            )

    @property
    def _log(self) -> Path:
        return self.folder.with_suffix(".log")

    def _wait(self) -> int:
        """Return the pid, out here, of its PID 1, once its basic.target is reached."""
        assert self._boot
        deadline = time.monotonic() + BOOT_WITHIN
        while time.monotonic() < deadline and self._boot.poll() is None:
            # The children before it are those of the script, and the machine's own files are in sight until
            # the box has become what it is to be: look at both.
            for pid in _children(self._boot.pid):
                if _name(pid) == "systemd" and Path(f"/proc/{pid}/root/run/systemd/private").exists():
                    self.pid = pid
            if self.pid and self._is_up(self._boot.pid):
                return self.pid
            time.sleep(0.05)
        raise RuntimeError(f"no systemd came up; {self._how_far()}")

    def _is_up(self, boot: int) -> bool:
        # A foreign process in its root keeps systemd from turning controllers on.
        with suppress(OSError):
            (self._cgroup / "sup" / "cgroup.procs").write_text(str(boot))
        return self.run("systemctl", "is-active", "box.target").out.strip() == "active"

    def _how_far(self) -> str:
        said = f"it said {self._log.read_text()!r}"
        if not self.pid:
            return said
        jobs = self.run("systemctl", "list-jobs").text
        return f"{said}; it waits for {jobs!r}; {self.run('systemctl', '--failed').text!r}"

    def run(
        self, *command: str, user: int = 0, groups: Sequence[int] = (), text: str = "", within: float = 60
    ) -> Done:
        """Run a command inside, as a uid of the box and as that gid and `groups`; its input is `text`."""
        done = subprocess.run(  # noqa: S603 - inside the box
            [*self._entering(user, groups), *command],
            input=text,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
            env=_ENVIRON,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def _entering(self, user: int, groups: Sequence[int]) -> list[str]:
        entering = ["nsenter", "-t", str(self.pid), "-a", "-S", "0", "-G", "0", "--"]
        if user:
            ids = ",".join(map(str, groups))
            rest = ["--groups", ids] if ids else ["--clear-groups"]
            entering += ["setpriv", "--reuid", str(user), "--regid", str(user), *rest, "--inh-caps=-all"]
        return entering

    def need(self, *command: str, text: str = "", within: float = 60) -> str:
        """Run a command inside as root that has to succeed, and return what it printed."""
        done = self.run(*command, text=text, within=within)
        assert done.code == 0, f"{' '.join(command)}: exit {done.code}: {done.text}"
        return done.out

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file inside, with the folders above it."""
        self.need("sh", "-euc", _WRITE, "-", path, f"{mode:o}", text=text)

    def send(self, path: Path, to: str, *leave_out: str) -> None:
        """Copy what a folder out here holds into one inside, readable by all."""
        packed = subprocess.run(  # noqa: S603 - our own files
            ["tar", "-C", str(path), *(f"--exclude={name}" for name in leave_out), "-c", "."],  # noqa: S607
            capture_output=True,
            check=True,
        )
        script = 'mkdir -p "$1"; tar -C "$1" -x --no-same-owner --no-same-permissions'
        subprocess.run(  # noqa: S603 - inside the box
            [*self._entering(0, ()), "sh", "-euc", script, "-", to],
            input=packed.stdout,
            capture_output=True,
            check=True,
            env=_ENVIRON,
        )

    def read(self, path: str) -> str:
        """Return what a file inside holds."""
        return self.need("cat", path)

    def close(self) -> None:
        """End all that lives in it, and remove all that it left."""
        if self._boot is not None:
            # With PID 1 go all that live there; who has started it is told, and ends.
            # Only as long as nobody has asked how it ended are these numbers surely its own.
            if self._boot.poll() is None:
                with suppress(ProcessLookupError):
                    os.kill(self.pid or self._boot.pid, signal.SIGKILL)
                _await_end(self._boot.pid, within=10)
                with suppress(ProcessLookupError):
                    os.killpg(self._boot.pid, signal.SIGKILL)
            self._boot.wait()
        _remove(self._cgroup)
        self.folder.rmdir()
        self._log.unlink(missing_ok=True)


_WRITE = 'mkdir -p "$(dirname "$1")"; cat >"$1.new"; chmod "$2" "$1.new"; mv "$1.new" "$1"'
_DELEGATED = ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads")
_ENVIRON = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "SYSTEMD_PAGER": "",
    "SYSTEMD_COLORS": "0",
}


def _cgroup2() -> Path | None:
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    return None


def _subtree(name: str) -> Path:
    root = _cgroup2()
    assert root
    subtree = root / f"{_SUBTREES}{os.getpid()}-{_born(os.getpid())}-{name}"
    subtree.mkdir()
    for controller in (root / "cgroup.controllers").read_text().split():
        with suppress(OSError):
            (subtree / "cgroup.subtree_control").write_text(f"+{controller}")
    for part in ("box", "sup"):
        (subtree / part).mkdir()
    return subtree


def _base(pid: int) -> int:
    """Return the uid that is root inside: far from those of this machine, and another for each process."""
    return 0x2000_0000 + pid % 4096 * _UIDS_EACH


def _remove(subtree: Path, within: float = 10) -> None:
    """Remove a subtree of cgroups; what lived there may take a moment to be gone."""
    deadline = time.monotonic() + within
    while subtree.exists():
        for folder, _, _ in os.walk(subtree, topdown=False):
            with suppress(OSError):
                Path(folder).rmdir()
        if time.monotonic() > deadline:
            raise RuntimeError(f"cannot be removed: {subtree}")
        time.sleep(0.02)


def subtrees() -> list[Path]:
    """Return the cgroup subtrees of all boxes there are, or were."""
    root = _cgroup2()
    return list(root.glob(f"{_SUBTREES}*")) if root else []


def _sweep() -> None:
    """Remove what boxes left whose maker was killed."""
    for subtree in subtrees():
        pid, born, name = subtree.name.removeprefix(_SUBTREES).split("-", 2)
        if _born(int(pid)) != born:
            folder = Path(tempfile.gettempdir(), name)
            with suppress(OSError, RuntimeError):
                _remove(subtree, within=1)
                folder.with_suffix(".log").unlink(missing_ok=True)
                folder.rmdir()


def _await_end(child: int, within: float) -> None:
    """Return when a child has ended, or after so long; its number stays its own until it is waited for."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
        time.sleep(0.02)


def _born(pid: int) -> str:
    """Return when a process began, in ticks since boot (proc(5)); empty: there is none."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _name(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def boxes(binds: Mapping[str, Path]) -> Iterator[Box]:
    """Boot a box, hand it out, and close it, whatever comes."""
    box = Box(binds)
    try:
        yield box
    finally:
        box.close()

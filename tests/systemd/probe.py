"""Runs inside the service's sandbox, as ExecStartPost=: tries what must not work, and notes what came."""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PLACES = ("/", "/etc", "/etc/flowsched", "/opt/flowsched", "/srv", "/usr", "/var", "/dev", "/sys", "/home")
OWN = ("/var/lib/flowsched", "/run/flowsched", "/tmp")  # noqa: S108 - a private one
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER = 0x1000_0000


def tried(action: Callable[[], object]) -> str:
    """Say what came of it: `done`, or the name of the error."""
    try:
        action()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "done"


def call(name: str, *arguments: object) -> str:
    """Make a call to the system by its name in libc."""
    ctypes.set_errno(0)
    return "done" if getattr(LIBC, name)(*arguments) == 0 else errno.errorcode[ctypes.get_errno()]


def write(folder: str) -> str:
    """Write a file there, and remove it."""
    path = Path(folder, "probe")

    def action() -> None:
        path.write_text("x")
        path.unlink()

    return tried(action)


def setuid_file() -> None:
    """Make a file that hands on its owner's rights."""
    path = Path("/var/lib/flowsched/setuid")
    path.write_text("x")
    try:
        path.chmod(0o4755)
    finally:
        path.unlink()


def foreign() -> list[str]:
    """Return the processes in sight that belong to somebody else."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if path.stat().st_uid != os.getuid():
                found.append(path.name)
        except OSError:
            continue
    return found


def status() -> dict[str, str]:
    """Return what the kernel has of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def probe() -> dict[str, object]:
    """Try it all."""
    own = status()
    umask = os.umask(0)
    return {
        "written": [place for place in PLACES if write(place) == "done"],
        "own": [write(place) for place in OWN],
        "home": tried(lambda: Path("/home/alice/letter").read_text()),
        "homes": tried(lambda: list(Path("/home").iterdir())),
        "processes": foreign(),
        "devices": sorted(path.name for path in Path("/dev").iterdir()),
        "tmp": sorted(path.name for path in Path("/tmp").iterdir()),  # noqa: S108 - that it is empty is the point
        "umask": f"{umask:04o}",
        "capabilities": own["CapBnd"],
        "no_new_privileges": own["NoNewPrivs"],
        "seccomp": own["Seccomp"],
        "mount": call("mount", b"none", b"/tmp", b"tmpfs", 0, None),
        "namespace": call("unshare", CLONE_NEWUSER),
        "personality": call("personality", 0x0008),
        "hostname": call("sethostname", b"other", 5),
        "priority": tried(lambda: os.setpriority(os.PRIO_PROCESS, 0, 5)),
        "realtime": tried(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))),
        "chown": tried(lambda: os.chown("/var/lib/flowsched", -1, os.getgid())),
        "clock": tried(lambda: time.clock_settime(time.CLOCK_REALTIME, time.time())),
        "setuid": tried(setuid_file),
        "executable": tried(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)),
        "packets": tried(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()),
        "netlink": tried(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()),
        "internet": tried(lambda: socket.socket(socket.AF_INET).close()),
        "child": subprocess.run(["/bin/true"], check=False).returncode,
        "cgroup": tried(lambda: Path("/sys/fs/cgroup/probe").mkdir()),
        "kernel_setting": tried(lambda: Path("/proc/sys/kernel/domainname").write_text("x")),
        "kernel_log": tried(lambda: Path("/dev/kmsg").read_bytes()),
        "modules": tried(lambda: list(Path("/usr/lib/modules").iterdir())),
        "core": os.popen("ulimit -c").read().strip(),  # noqa: S605, S607 - a builtin of the shell
        "files": os.popen("ulimit -Hn").read().strip(),  # noqa: S605, S607 - as above
    }


if __name__ == "__main__":
    Path("/var/lib/flowsched/probe.json").write_text(json.dumps(probe()))

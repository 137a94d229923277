"""docs/install.md leads from a bare machine to a service, and through its life, as it stands there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flowsched import __version__
from flowsched.simulator import Application, User
from tests.systemd.box import Box, Done, boxes, why_not
from tests.systemd.conftest import cannot
from tests.systemd.installation import ALICE, ROOT, SCHEDULES, SIMULATOR, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.systemd, pytest.mark.timeout(300)]

PAGE = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
NEXT = "0.2.0"
SIMULATOR_UNIT = """\
[Service]
ExecStart=/opt/flowsched-0.1.0/bin/flowsched simulate --port 8090
"""
REPOSITORY = "/var/git/schedules.git"
REPLACED = {
    "https://apim.example.com": SIMULATOR,
    "o15612345678901": User().org,
    "u15426865866571": User().id,
    "git@git.example.com:data/schedules.git": f"file://{REPOSITORY}",
}
"""What is a placeholder on the page, and what stands for it here."""


@dataclass(frozen=True, slots=True)
class Block:
    """One block of commands, and the heading that it stands under."""

    heading: str
    text: str


def blocks() -> list[Block]:
    """Return the blocks of the page that have no note that they are not run."""
    found, heading = [], ""
    heading_or_block = r"^## ([^\n]*)$|^(<!-- not run: [^\n]* -->\n)?```(\w+)\n(.*?)^```$"
    parts = re.finditer(heading_or_block, PAGE, re.DOTALL | re.MULTILINE)
    for part in parts:
        title, note, language, text = part.groups()
        heading = title or heading
        if text is not None and note is None:
            assert language == "sh", text
            found.append(Block(heading, text))
    return found


def a_release(folder: Path, version: str) -> Path:
    """Build what is copied to a machine; a later version has one more form of the ledger."""
    source, release = folder / f"source-{version}", folder / f"flowsched-{version}"
    source.mkdir()
    for name in ("flowsched", "systemd"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "requirements.txt"):
        shutil.copy(ROOT / name, source)
    if version != __version__:
        for name in ("pyproject.toml", "flowsched/__init__.py"):
            replace(source / name, f'"{re.escape(__version__)}"', f'"{version}"')
        later = r'MIGRATIONS = (\1, ("CREATE TABLE later (x INTEGER)",))'
        replace(source / "flowsched" / "ledger" / "migrations.py", r"^MIGRATIONS = \((.*)\)$", later)
    sh(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(release), cwd=source)
    shutil.copy(source / "requirements.txt", release)
    shutil.copytree(source / "systemd", release / "systemd")
    return release


def replace(path: Path, pattern: str, by: str) -> None:
    """Replace what a pattern matches, once."""
    text, times = re.subn(pattern, by, path.read_text(), count=1, flags=re.MULTILINE)
    assert times == 1, path
    path.write_text(text)


def sh(*command: str, cwd: Path | None = None) -> None:
    """Run a command out here that has to succeed."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pip would get from an index, as Debian's own Python wants it."""
    folder = tmp_path_factory.mktemp("wheels")
    python = "/usr/bin/python3"
    new_enough = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"
    if not Path(python).exists() or subprocess.run([python, "-c", new_enough], check=False).returncode:  # noqa: S603
        cannot(f"no {python} of version 3.11 or newer with venv")
    sh(python, "-m", "venv", str(folder / "environment"))
    got = subprocess.run(  # noqa: S603 - what our own list names, by its hashes
        [
            *(str(folder / "environment" / "bin" / "pip"), "download", "--quiet", "--require-hashes"),
            *("--only-binary=:all:", "--dest", str(folder / "wheels"), "-r", str(ROOT / "requirements.txt")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if got.returncode != 0:
        cannot(f"the packages of requirements.txt cannot be had: {got.stderr.strip()[-300:]}")
    return folder / "wheels"


class Machine:
    """A bare Debian with the packages of the page, and no network."""

    def __init__(self, box: Box, *releases: Path) -> None:
        self.box = box
        self.said: dict[str, str] = {}
        box.write("/etc/pip.conf", "[global]\nno-index = true\nfind-links = /srv/box/wheels\n")
        for release in releases:
            box.send(release, f"/root/{release.name}")
        repository = f"git init -q -b main {REPOSITORY}; cd {REPOSITORY}; cat >wind.yaml; {COMMIT}"
        box.need("sh", "-euc", repository, text=SCHEDULES)
        box.need("git", "config", "--system", "--add", "safe.directory", f"{REPOSITORY}/.git")

    def do(self, heading: str, *inputs: str) -> str:
        """Run the blocks under a heading, those that read with these inputs; return what they say."""
        given = iter(inputs)
        said = ""
        for block in BLOCKS:
            if block.heading == heading:
                said += self._run(block.text, next(given) if "&& cat >" in block.text else "")
        self.said[heading] = said
        return said

    def _run(self, script: str, text: str) -> str:
        for placeholder, here in REPLACED.items():
            script = script.replace(placeholder, here)
        done = self.box.run("sh", "-euc", script, text=text, within=120)
        assert done.code == 0, f"{script}\n{done.text}\n{self.journal()}"
        return done.text

    def journal(self) -> str:
        return self.box.run("journalctl", "-u", "flowsched", "-n", "30", "-o", "cat").out

    def flowsched(self, *arguments: str, user: int = 0, groups: tuple[int, ...] = ()) -> Done:
        return self.box.run("/opt/flowsched/bin/flowsched", *arguments, user=user, groups=groups)

    def is_(self, state: str) -> bool:
        return self.box.run("systemctl", "is-active", "flowsched").out.strip() == state

    def instances(self) -> int:
        books = self.box.need("curl", "-sf", f"{SIMULATOR}/_simulator/books")
        return books.count('"trigger_time"')


COMMIT = "git add -A; git -c user.name=a -c user.email=a@example.com commit -q -m change"
BLOCKS = blocks()


@pytest.fixture(scope="module")
def machine(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    if (reason := why_not()) is not None:
        cannot(reason)
    folder = tmp_path_factory.mktemp("releases")
    releases = a_release(folder, __version__), a_release(folder, NEXT)
    for box in boxes({"wheels": wheels}):
        yield Machine(box, *releases)


def test_the_page_leads_from_a_bare_machine_to_a_service_and_through_its_life(machine: Machine) -> None:
    application = Application()
    assert len(BLOCKS) == PAGE.count("```sh\n") - PAGE.count("<!-- not run: ") + PAGE.count("```ini\n")
    assert machine.do("The program").endswith(f"version {__version__}\n")
    machine.box.write("/etc/systemd/system/simulator.service", SIMULATOR_UNIT)
    machine.box.need("systemctl", "start", "simulator")
    machine.do("Operators")
    machine.do("Settings")
    machine.do("Keys", application.access_key + "\n", application.secret_key + "\n")
    assert "ssh-ed25519" in machine.do("Schedules from Git")
    started(machine)
    pulled(machine)
    upgraded(machine)
    rolled_back(machine)
    restored(machine)
    removed(machine)


def started(machine: Machine) -> None:
    looked_at = machine.do("The service")

    assert machine.is_("active")
    assert looked_at.count("1 schedule, 0 running, next ") >= 2
    assert "dubious" not in machine.journal()
    operators = int(machine.box.need("getent", "group", "flowsched-operators").split(":")[2])
    assert machine.flowsched("status", user=ALICE, groups=(operators,)).code == 0
    for name in ("enos-access-key", "enos-secret-key"):
        assert machine.box.need("stat", "-c", "%a %U", f"/etc/flowsched/{name}").strip() == "600 root"
    triggered = machine.flowsched("trigger", "new-year", "--reason", "a test", "--wait")
    assert triggered.code == 0, triggered.text


def pulled(machine: Machine) -> None:
    """A commit is pulled by the timer's service and in force, with its name, without anybody's doing."""
    change = f"cd {REPOSITORY}; sed -i s/new-year/new-year-at-noon/ wind.yaml; {COMMIT}; git rev-parse HEAD"
    commit = machine.box.need("sh", "-euc", change).strip()
    machine.box.need("systemctl", "start", "flowsched-schedules.service")

    eventually(lambda: "new-year-at-noon" in machine.flowsched("status").out, within=30)
    assert commit[:12] in machine.flowsched("log", "--format", "json").out
    assert machine.box.run("systemctl", "is-active", "flowsched-schedules.timer").out.strip() == "active"


def upgraded(machine: Machine) -> None:
    machine.do("Backup")
    assert machine.box.run("systemctl", "is-active", "flowsched-backup.timer").out.strip() == "active"
    modes = machine.box.need("sh", "-c", "stat -c %a /var/backups/flowsched/ledger-*.db").split()
    assert modes == ["600", "600"]
    kept_for_two_weeks(machine)

    machine.box.need("sh", "-euc", "sed -i '1i # a newer one' /root/flowsched-0.2.0/systemd/*")
    machine.do("Upgrade")

    assert machine.is_("active")
    assert units_with(machine, "a newer one") == len(list((ROOT / "systemd").iterdir()))
    assert machine.flowsched("--version").out.endswith(f"version {NEXT}\n")
    assert "triggered" in machine.flowsched("runs").out


def units_with(machine: Machine, text: str) -> int:
    """Return how many of our units on the machine hold a text."""
    script = 'cd /etc/systemd/system; cat flowsched*.service flowsched*.timer | grep -c "$1" || true'
    return int(machine.box.need("sh", "-c", script, "-", text))


def kept_for_two_weeks(machine: Machine) -> None:
    """The timer's own copies go after two weeks; those of people stay."""
    machine.box.need("sh", "-euc", "cd /var/backups/flowsched; touch -d '20 days ago' *.db")
    time.sleep(1)  # a copy is called by its second, and one that is there is not replaced

    machine.box.need("systemctl", "start", "flowsched-backup.service")

    names = machine.box.need("ls", "/var/backups/flowsched").split()
    assert names[0] == "ledger-by-hand.db"
    assert [name[:15] for name in names[1:]] == ["ledger-nightly-"]


def rolled_back(machine: Machine) -> None:
    """The newer version has changed the ledger, which the older one refuses; nothing is restarted in vain."""
    said = machine.do("Roll-back")

    assert "status=78" in said
    assert units_with(machine, "a newer one") == 0
    assert machine.is_("failed")
    assert "made by a newer flowsched" in machine.journal()


def restored(machine: Machine) -> None:
    said = machine.do("Restore")

    assert machine.is_("active")
    assert "nothing missing, nothing twice" in said
    assert "triggered" in machine.flowsched("runs").out
    assert machine.flowsched("--version").out.endswith(f"version {__version__}\n")
    again = machine.flowsched("trigger", "new-year-at-noon", "--reason", "a test", "--wait")
    assert again.code in {0, 1}, again.text
    machine.box.need("sleep", "1")  # the folder has the second in its name

    machine.do("Restore")

    assert machine.is_("active")
    aside = machine.box.need("sh", "-c", "cd /var/lib/private/flowsched; ls -d aside-*/ledger.db").split()
    assert len(aside) == 2, aside


def removed(machine: Machine) -> None:
    machine.do("Removal")

    assert machine.box.run("systemctl", "cat", "flowsched").code != 0
    left = machine.box.need("find", "/etc", "/opt", "/run", "/srv", "-name", "*flowsched*").split()
    assert left == []
    assert machine.box.run("test", "-e", "/var/lib/private/flowsched/ledger.db").code == 0


def test_the_page_names_the_version_that_there_is() -> None:
    assert set(re.findall(r"flowsched-(\d+\.\d+\.\d+)", PAGE)) == {__version__, NEXT}


def test_every_unit_that_ships_has_its_place_on_the_page() -> None:
    for unit in (ROOT / "systemd").iterdir():
        assert unit.stem in PAGE, unit


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_systemd_finds_nothing_to_say_about_any_unit() -> None:
    if (reason := why_not()) is not None:
        cannot(reason)
    for box in boxes({}):
        box.send(ROOT / "systemd", "/etc/systemd/system")
        box.write("/opt/flowsched/bin/flowsched", "#!/bin/sh\n", 0o755)

        done = box.run("sh", "-c", "systemd-analyze verify /etc/systemd/system/flowsched*")

        assert (done.code, done.text) == (0, "")

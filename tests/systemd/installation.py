"""flowsched as it ships, installed in a box, with a simulated EnOS beside it."""

from __future__ import annotations

import json
import sys
import sysconfig
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowsched.simulator import Application, Order, User
from flowsched.simulator.orders import written_order

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.systemd.box import Box, Done

ROOT = Path(__file__).parent.parent.parent
ALICE, MALLORY = 1001, 1002
"""Users of the box (boot.sh): an operator, if a test makes her one, and somebody else."""
OPERATORS = 2001
"""The group `flowsched-operators` of the box."""

SIMULATOR = "http://127.0.0.1:8090"
SETTINGS = f"""\
schedules: schedules
ledger: sqlite:////var/lib/flowsched/ledger.db
control:
  socket: /run/flowsched/control.sock
targets:
  default:
    url: {SIMULATOR}
    org_id: {User().org}
    user_id: {User().id}
    access_key: {{credential: enos-access-key}}
    secret_key: {{credential: enos-secret-key}}
"""
SCHEDULES = """\
defaults: {timezone: UTC, owner: wind-data}
schedules:
  new-year: {description: Once a year, cron: "0 0 1 1 *", flow: 3377}
"""
PROGRAM = """\
#!/bin/sh
export PYTHONPATH=/opt/flowsched/lib:/srv/box/site LD_LIBRARY_PATH=/srv/box/python/lib PYTHONSAFEPATH=1
exec /srv/box/python/bin/python3 "$@"
"""
SIMULATOR_UNIT = """\
[Service]
ExecStart=/opt/flowsched/bin/flowsched simulate --port 8090
"""


def binds() -> dict[str, Path]:
    """Return what a box is to see of this machine: the interpreter, and the libraries of this environment."""
    return {"python": Path(sys.base_prefix), "site": Path(sysconfig.get_path("purelib"))}


@dataclass
class Installation:
    """flowsched.service in a box, its files, and what is said of it."""

    box: Box
    unit: str = "flowsched.service"
    _since: float = field(default=0.0, init=False)

    def lay_out(self) -> None:
        """Put the program and all that does not change into the box."""
        self.box.send(ROOT / "flowsched", "/opt/flowsched/lib/flowsched", "__pycache__")
        self.box.write("/opt/flowsched/bin/python", PROGRAM, 0o755)
        self.box.write(
            "/opt/flowsched/bin/flowsched",
            '#!/bin/sh\nexec /opt/flowsched/bin/python -m flowsched "$@"\n',
            0o755,
        )
        self.box.need("groupadd", "-g", str(OPERATORS), "flowsched-operators")
        self.box.write("/etc/systemd/system/simulator.service", SIMULATOR_UNIT)

    def begin(self) -> None:
        """Set all to how it is before the first start: the unit as it ships, one schedule, no ledger."""
        application = Application()
        self.box.write("/etc/systemd/system/flowsched.service", (ROOT / "systemd" / self.unit).read_text())
        self.settings(SETTINGS)
        self.schedules(SCHEDULES)
        self.box.write("/etc/flowsched/enos-access-key", application.access_key + "\n", 0o600)
        self.box.write("/etc/flowsched/enos-secret-key", application.secret_key + "\n", 0o600)
        self.box.need("systemctl", "daemon-reload")
        self.box.need("systemctl", "restart", "simulator")
        eventually(lambda: self.box.run("curl", "-sf", f"{SIMULATOR}/_simulator/faults").code == 0)
        self._since = time.clock_gettime(time.CLOCK_MONOTONIC)

    def end(self) -> None:
        """Stop what runs, and remove what it left."""
        self.box.run("systemctl", "kill", "--signal=SIGKILL", self.unit)
        self.box.run("systemctl", "stop", self.unit, "simulator")
        self.box.run("systemctl", "reset-failed")
        self.box.need(
            "rm", "-rf", "/var/lib/private/flowsched", "/var/lib/flowsched", "/etc/flowsched",
            "/etc/systemd/system/flowsched.service.d",
        )  # fmt: skip

    def settings(self, text: str) -> None:
        """Write flowsched.yaml."""
        self.box.write("/etc/flowsched/flowsched.yaml", text)

    def schedules(self, text: str) -> None:
        """Write the one file of schedules."""
        self.box.write("/etc/flowsched/schedules/wind.yaml", text)

    def drop_in(self, name: str, *lines: str) -> None:
        """Change the service's part of the unit, as `systemctl edit` does."""
        self.box.write(
            f"/etc/systemd/system/flowsched.service.d/{name}.conf", "\n".join(["[Service]", *lines, ""])
        )
        self.box.need("systemctl", "daemon-reload")

    def start(self) -> None:
        """Start it, and return when systemd says that it is up."""
        done = self.systemctl("start")
        assert done.code == 0, done.text + self.box.run("journalctl", "-n", "50", "-u", self.unit).out

    def systemctl(self, verb: str, *options: str) -> Done:
        """Do something to the service."""
        return self.box.run("systemctl", verb, *options, self.unit, within=120)

    def show(self, name: str) -> str:
        """Return a property of the service, as systemd has it."""
        return self.box.need("systemctl", "show", "--value", "-p", name, self.unit).rstrip("\n")

    @property
    def pid(self) -> str:
        """The main process, by its number inside."""
        return self.show("MainPID")

    def flowsched(
        self, *arguments: str, user: int = 0, groups: tuple[int, ...] = (), within: float = 60
    ) -> Done:
        """Run a command of flowsched inside."""
        return self.box.run(
            "/opt/flowsched/bin/flowsched", *arguments, user=user, groups=groups, within=within
        )

    def order(self, order: Order) -> None:
        """Have the simulator do something wrong."""
        self.box.need("curl", "-sf", "-d", json.dumps(written_order(order)), f"{SIMULATOR}/_simulator/faults")

    def books(self) -> dict[str, list[dict[str, Any]]]:
        """Return what the simulator has seen and made."""
        books: dict[str, list[dict[str, Any]]] = json.loads(
            self.box.need("curl", "-sf", f"{SIMULATOR}/_simulator/books")
        )
        return books

    def triggers(self) -> list[dict[str, Any]]:
        """Return the calls that asked for an instance."""
        return [call for call in self.books()["calls"] if str(call["operation"]).startswith("flows.trigger")]

    def journal(self, *options: str) -> list[dict[str, Any]]:
        """Return what the journal has of the service since the test began, its own lines and systemd's."""
        self.box.need("journalctl", "--sync")
        text = self.box.need("journalctl", "-o", "json", "--all", "-u", self.unit, *options)
        # Not by --after-cursor: with a filter it leaves out the first line (systemd 252).
        lines = map(json.loads, text.splitlines())
        return [line for line in lines if int(line["__MONOTONIC_TIMESTAMP"]) > self._since * 1e6]

    def says(self, what: str) -> list[Mapping[str, Any]]:
        """Return the service's own lines with this text."""
        return [line for line in self.journal() if what in line["MESSAGE"] and line["_COMM"] != "systemd"]


def eventually(check: Callable[[], object], within: float = 20) -> None:
    """Return when the check holds; what it raises counts as not yet, until the last time."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            if check():
                return
        except (AssertionError, KeyError, ValueError):
            pass
        time.sleep(0.1)
    assert check()

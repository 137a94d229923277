"""Runs inside the box in place of flowsched: the daemon itself, with a way to have it hang.

SIGUSR1 has the ledger's thread hang for ever, SIGUSR2 the event loop. How long the ledger may be silent is
cut from half a minute to two seconds, so that a test need not wait for it.
"""

from __future__ import annotations

import signal
import threading

from flowsched.__main__ import main
from flowsched.daemon import pulse
from flowsched.ledger.thread import LedgerThread

hang = threading.Event()
take = LedgerThread._take


def _take_or_hang(self: LedgerThread) -> object:
    group = take(self)
    while hang.is_set():
        threading.Event().wait()
    return group


def _hang_here(*_: object) -> None:
    while True:
        threading.Event().wait(3600)


if __name__ == "__main__":
    pulse.LEDGER_WITHIN = 2.0
    LedgerThread._take = _take_or_hang  # type: ignore[assignment, method-assign]
    signal.signal(signal.SIGUSR1, lambda *_: hang.set())
    signal.signal(signal.SIGUSR2, _hang_here)
    main()

"""A call as it goes out, and how far it has got."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flowsched.enos.replies import LONGEST_BODY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class Call:
    """A request as it goes out; its headers hold secrets."""

    method: str
    url: str
    """Path and query, as they stand in the request line."""
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    longest_reply: int = field(default=LONGEST_BODY, repr=False)
    """Bytes of body beyond which the reply is not read on."""


class Progress:
    """How far a call has got; kept by the caller, since the call may be cancelled at any point."""

    def __init__(
        self, stage: str = "before connecting", on_sending: Callable[[], None] = lambda: None
    ) -> None:
        self.stage = stage
        """In words that go on after a comma."""
        self.sent = False
        """Whether a byte of the request may have left. Set before the first is written to a socket."""
        self._on_sending = on_sending

    def sending(self) -> None:
        """Take note that the first byte of the request is written next."""
        self.stage = "while sending"
        self.sent = True
        self._on_sending()

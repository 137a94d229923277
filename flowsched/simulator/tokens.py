"""The token service (enos-api section 7.1): one access key, one token at a time."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

from flowsched.simulator.messages import Refusal, json_object, natural
from flowsched.simulator.signature import expected_encryption, same

if TYPE_CHECKING:
    from datetime import datetime

    from flowsched.simulator.world import Application, Behaviour


class Tokens:
    """Issues, refreshes and knows the tokens of one application.

    The order of the checks is the simulator's own: empty, malformed, unknown key, wrong hash, repeated.
    """

    def __init__(self, application: Application, behaviour: Behaviour) -> None:
        self._application = application
        self._behaviour = behaviour
        self._expiry: dict[str, datetime] = {}
        self._current: str | None = None
        self._issued = 0
        self._seen: set[str] = set()

    def get(self, body: bytes, now: datetime) -> dict[str, object]:
        """Return the current token with the whole seconds it has left, or a new one if it is over."""
        self._authenticate(body)
        if self._current is None or not self.good(self._current, now):
            self._issue(now)
        return self._data(now)

    def refresh(self, body: bytes, now: datetime) -> dict[str, object]:
        """Replace the current token by one of full life; any other token cannot be refreshed."""
        old = self._authenticate(body, "accessToken")["accessToken"]
        if old != self._current or not self.good(old, now):
            raise Refusal(1204)
        if not self._behaviour.refresh_spares_old_token:
            self.revoke()
        self._issue(now)
        return self._data(now)

    def good(self, token: str, now: datetime) -> bool:
        """Tell whether calls may be made with this token at this instant."""
        expiry = self._expiry.get(token)
        return expiry is not None and now < expiry

    def revoke(self) -> None:
        """Make the current token, if any, worthless before its time."""
        self._expiry.pop(self._current or "", None)
        self._current = None

    def _authenticate(self, body: bytes, *further: str) -> dict[str, Any]:
        document = json_object(body)
        if document is None:
            raise Refusal(1004)
        if any(document.get(key) in (None, "") for key in ("appKey", "encryption", "timestamp", *further)):
            raise Refusal(1202)
        timestamp = natural(document["timestamp"])
        if timestamp is None or not isinstance(document["encryption"], str):
            raise Refusal(1004)
        if document["appKey"] != self._application.access_key:
            raise Refusal(1002)
        self._check_encryption(document["encryption"], str(document["timestamp"]))
        return document

    def _check_encryption(self, encryption: str, timestamp: str) -> None:
        key, secret = self._application.access_key, self._application.secret_key
        if not same(encryption, expected_encryption(key, timestamp, secret)):
            raise Refusal(1003)
        if encryption in self._seen:
            raise Refusal(1001)
        self._seen.add(encryption)

    def _issue(self, now: datetime) -> None:
        self._issued += 1
        self._current = sha256(f"{self._application.access_key} {now} {self._issued}".encode()).hexdigest()
        self._expiry[self._current] = now + self._behaviour.token_lifetime

    def _data(self, now: datetime) -> dict[str, object]:
        token = self._current or ""
        return {"accessToken": token, "expire": int((self._expiry[token] - now).total_seconds())}

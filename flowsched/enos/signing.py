"""The two digests by which EnOS knows an application (enos-api section 7)."""

from __future__ import annotations

from hashlib import sha256
from operator import itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def call_signature(
    token: str, query: Iterable[tuple[str, str]], body: bytes, timestamp: int, secret_key: str
) -> str:
    """Return the `apim-signature` of a call (enos-api section 7.2), as lowercase hex.

    `query` holds every parameter of the URL, decoded, in any order. `body` is the very bytes that are
    sent; empty where there is none. `timestamp` is in milliseconds, the same as in `apim-timestamp`.
    """
    parameters = "".join(name + value for name, value in sorted(query, key=itemgetter(0)))
    head = (token + parameters).encode()
    tail = f"{timestamp}{secret_key}".encode()
    return sha256(head + body + tail).hexdigest()


def token_encryption(access_key: str, timestamp: int, secret_key: str) -> str:
    """Return the `encryption` of a call to the token service (enos-api section 7.1), as lowercase hex.

    `timestamp` is in milliseconds, the same as in the body.
    """
    return sha256(f"{access_key}{timestamp}{secret_key}".encode()).hexdigest()

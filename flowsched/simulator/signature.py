"""What a signed call must look like (enos-api sections 7.1 and 7.2).

Written anew for the simulator, on purpose: a check that shared the client's code would share its mistakes.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

if TYPE_CHECKING:
    from collections.abc import Mapping


def decoded(query: str) -> dict[str, str]:
    """Return the parameters of a raw query, percent-decoded as UTF-8.

    As in the vendor's Java sample: `+` is a blank, of a repeated name the first value counts, and a
    parameter without `=` has the text `null`.
    """
    parameters: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        name, equals, value = pair.partition("=")
        parameters.setdefault(unquote_plus(name), unquote_plus(value) if equals else "null")
    return parameters


def expected_signature(
    token: str, parameters: Mapping[str, str], body: bytes, timestamp: str, secret_key: str
) -> str:
    """Return the `apim-signature` of a call; `body` is empty where the call has none."""
    digest = sha256(token.encode())
    for name in sorted(parameters):
        digest.update(f"{name}{parameters[name]}".encode())
    digest.update(body)
    digest.update(f"{timestamp}{secret_key}".encode())
    return digest.hexdigest()


def expected_encryption(access_key: str, timestamp: str, secret_key: str) -> str:
    """Return the `encryption` of a call to the token service."""
    return sha256(f"{access_key}{timestamp}{secret_key}".encode()).hexdigest()


def same(given: str, expected: str) -> bool:
    """Compare in constant time, as a gateway should; upper case is not lower case."""
    return hmac.compare_digest(given.encode(errors="surrogatepass"), expected.encode())

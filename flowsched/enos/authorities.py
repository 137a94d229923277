"""Whom TLS trusts, for all that flowsched calls."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from ssl import SSLContext


def tls_context(ca_file: str | None) -> SSLContext:
    """Return what trusts the authorities of certifi (or of `SSL_CERT_FILE`, `SSL_CERT_DIR`) and of `ca_file`.

    Making it takes 40 ms. Raises OSError where `ca_file`, a PEM file, cannot be used; None: no further ones.
    """
    context = httpx.create_ssl_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context


def why_unusable(error: OSError) -> str:
    """Return, for people, why a file of authorities cannot be used."""
    is_empty = isinstance(error, ssl.SSLError)
    return "no certificates are in it" if is_empty else error.strerror or type(error).__name__

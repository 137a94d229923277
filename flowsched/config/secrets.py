"""Secrets: read from where the settings say, and shown to nobody."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from flowsched.config.files import read_bounded
from flowsched.errors import Refused, SecretError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from flowsched.model import SecretSource

MOST_BYTES = 64 * 1024
_MASK = "<secret>"
_UNDECODED = re.compile("[\ud800-\udfff]")
"""What stands for bytes that are no UTF-8, in `os.environ` and below."""


class Secret:
    """A text that only `reveal` gives away: it prints as `<secret>`, and is not copied or pickled."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the secret itself, for the one place that needs it."""
        return self._text

    def __repr__(self) -> str:
        return _MASK

    def __format__(self, spec: str) -> str:
        return format(_MASK, spec)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is neither copied nor pickled")


def read_secret(source: SecretSource, environ: Mapping[str, str]) -> Secret:
    """Read a secret from an environment variable, a file, or a systemd credential.

    One line end at the end is left off. Raises SecretError, which names the source and never the value, where
    there is nothing to be read, or it is empty, not UTF-8, or longer than 64 KiB.
    """
    text = _from_environment(source, environ) if source.kind == "env" else _from_file(source, environ)
    if _UNDECODED.search(text):
        raise SecretError(f"{source}: is not text in UTF-8")
    text = text.removesuffix("\r\n" if text.endswith("\r\n") else "\n")
    if not text:
        raise SecretError(f"{source}: is empty")
    return Secret(text)


def read_secrets(sources: Iterable[SecretSource], environ: Mapping[str, str]) -> list[Secret]:
    """Read secrets as `read_secret` does. Raises SecretError with the faults of all that cannot be read."""
    secrets: list[Secret] = []
    faults: list[str] = []
    for source in sources:
        try:
            secrets.append(read_secret(source, environ))
        except SecretError as error:
            faults += error.faults
    if faults:
        raise SecretError(*faults)
    return secrets


def _from_environment(source: SecretSource, environ: Mapping[str, str]) -> str:
    try:
        return environ[source.name]
    except KeyError:
        raise SecretError(f"{source}: this environment variable is not set") from None


def _from_file(source: SecretSource, environ: Mapping[str, str]) -> str:
    try:
        # A failed decoding would be an exception that holds the secret.
        return read_bounded(_path(source, environ), MOST_BYTES).decode(errors="surrogateescape")
    except OSError as error:
        raise SecretError(f"{source}: cannot be read: {error.strerror}") from None
    except Refused as refused:
        raise SecretError(f"{source}: {refused}") from None


def _path(source: SecretSource, environ: Mapping[str, str]) -> Path:
    if source.kind == "file":
        return Path(source.name)
    folder = environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise SecretError(f"{source}: systemd passed no credentials (CREDENTIALS_DIRECTORY is not set)")
    return Path(folder, source.name)

"""Why something went wrong, in the words of the system."""

from __future__ import annotations

import os
import socket
import ssl


def reason(error: BaseException) -> str:
    """Return what went wrong at the bottom of a chain of exceptions, in the words of the system.

    Without a full stop: the sentence goes on.
    """
    while (cause := _cause(error)) is not None:
        error = cause
    return _words(error).rstrip(".") or type(error).__name__


def _words(error: BaseException) -> str:
    if isinstance(error, (ssl.SSLError, socket.gaierror)):  # their numbers are not the system's
        return error.strerror or str(error)
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error)


def _cause(error: BaseException) -> BaseException | None:
    if isinstance(error, BaseExceptionGroup):
        return error.exceptions[0]
    cause = error.__cause__ or error.__context__
    return None if isinstance(cause, ssl.SSLWantReadError) else cause  # TLS waited: nothing was wrong yet

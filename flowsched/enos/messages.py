"""A call as HTTP has it, and a reply of HTTP as flowsched has it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from flowsched import __version__
from flowsched.enos.replies import Reply

if TYPE_CHECKING:
    import h11

    from flowsched.enos.calls import Call

_ALWAYS = (
    "Accept: application/json\r\n"
    "Accept-Encoding: identity\r\n"
    "Connection: keep-alive\r\n"
    f"User-Agent: flowsched/{__version__}\r\n"
    "Content-Type: application/json;charset=UTF-8\r\n"
)

_UNFIT = re.compile(r"[^!-~]")
"""What would end a word of a request, or not be ASCII: no call has it in its target or its headers."""


def request_of(call: Call, host: str) -> bytes | None:
    """Return a call to that `Host` as it is sent; None where a word of it does not fit, which is not told."""
    if _UNFIT.search("".join([call.method, call.url, host, *call.headers, *call.headers.values()])):
        return None
    fields = "".join([f"{name}: {value}\r\n" for name, value in call.headers.items()])
    length = f"Content-Length: {len(call.body)}\r\n" if call.body else ""
    head = f"{call.method} {call.url} HTTP/1.1\r\nHost: {host}\r\n{_ALWAYS}{fields}{length}\r\n"
    return head.encode() + call.body


def tunnel_request(authority: str, authorization: str | None) -> bytes:
    """Return what asks a proxy for a tunnel to that host and port."""
    own = "" if authorization is None else f"Proxy-Authorization: {authorization}\r\n"
    return f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nAccept: */*\r\n{own}\r\n".encode()


def reply_of(head: h11.Response, body: bytes, flaw: str | None) -> Reply:
    """Return the reply; `flaw` is why `body` is not the whole body. One that is encoded counts as none."""
    fields: dict[bytes, bytes] = {}
    for raw_name, value in head.headers.raw_items():
        name = raw_name.lower()
        fields[name] = fields[name] + b", " + value if name in fields else value
    date = None if b"age" in fields else fields.get(b"date")
    if body and fields.get(b"content-encoding", b"").strip().lower() not in (b"", b"identity"):
        body, flaw = b"", flaw or "in an encoding that was not asked for"
    return Reply(head.status_code, body, flaw, _text(fields.get(b"retry-after")), _text(date))


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")

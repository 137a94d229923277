from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsched.enos.replies import (
    LONGEST_DETAIL,
    LONGEST_QUOTED,
    Reply,
    date,
    envelope,
    number,
    presentable,
    retry_after,
    said,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        ("3", 3),
        (" 120 ", 120),
        ("0", 0),
        ("-5", 0),
        ("Thu, 01 Jan 2026 12:01:30 GMT", 90),
        ("Thu, 01 Jan 2026 12:01:30 -0000", 90),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0),
        ("2678400", 31 * 86400),
        ("2678401", None),
        ("9" * 18, None),
        ("9" * 400, None),
        ("Fri, 01 Jan 2100 00:00:00 GMT", None),
        ("Thu, 99 Jan 2026 12:01:30 GMT", None),
        ("soon", None),
        ("1.5", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read_where_it_makes_sense(header: str | None, wait: int | None) -> None:
    reply = Reply(429, b"", retry_after=header)

    assert retry_after(reply, NOW) == (None if wait is None else timedelta(seconds=wait))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Thu, 01 Jan 2026 12:00:00 GMT", NOW),
        ("Thu, 01 Jan 2026 12:00:00 -0000", NOW),
        ("Thu, 01 Jan 2026 14:00:00 +0200", NOW),
        ("Thursday, 01-Jan-26 12:00:00 GMT", NOW),
        ("Thu Jan  1 12:00:00 2026", NOW),
        ("Thu, 01 Jan 99999 12:00:00 GMT", None),
        ("Thu, 01 Jan 2026 12:00:00 +9999", None),
        ("2026-01-01T12:00:00Z", None),
        ("now", None),
        (" ", None),
        ("", None),
        (None, None),
    ],
)
def test_the_date_of_a_reply_is_read_where_it_is_one(header: str | None, expected: datetime | None) -> None:
    assert date(Reply(200, b"", date=header)) == expected


@given(st.text(max_size=60) | st.text("0123456789 :,+-/ThuJanGMT\0\xa0", max_size=40))
def test_no_header_of_a_reply_breaks_its_reading(header: str) -> None:
    reply = Reply(429, b"", retry_after=header, date=header)

    wait, dated = retry_after(reply, NOW), date(reply)

    assert wait is None or wait >= timedelta(0)
    assert dated is None or dated.tzinfo is not None


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[1]", b"7", b'{"code": 0', b"\xff\xfe\xfa", b"[" * 60_000, b"1" * 5000],
)
def test_what_is_no_json_object_is_an_empty_envelope(body: bytes) -> None:
    assert envelope(Reply(200, body)) == {}


def test_a_body_that_is_not_whole_is_an_empty_envelope_though_it_parses() -> None:
    assert envelope(Reply(200, b'{"code": 0}', flaw="cut off")) == {}


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, 0), ("62102", 62102), ("-1", -1), (True, None), (1.0, None), ("", None), ("x", None), ([], None)],
)
def test_a_number_is_read_from_digits_too(value: object, expected: int | None) -> None:
    assert number({"code": value}, "code") == expected


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(429, b'{"message": "API rate limit exceeded"}'), "it says: API rate limit exceeded"),
        (Reply(200, b'{"code": 1, "msg": " Success"}'), "it says: Success"),
        (Reply(502, b"<h1>Bad Gateway</h1>"), "it says: <h1>Bad Gateway</h1>"),
        (Reply(204, b""), "it says nothing"),
        (Reply(200, b"Bad Gat", flaw="cut off"), "the body is cut off; it says: Bad Gat"),
        (Reply(200, b"", flaw="cut off"), "the body is cut off; it says nothing"),
        (Reply(500, b'{"msg": "", "message": "words"}'), "it says: words"),
    ],
)
def test_the_words_of_a_reply(reply: Reply, words: str) -> None:
    assert said(reply) == words


@pytest.mark.parametrize(
    "body",
    [
        b'{"apim_status": 4011, "apim_refreshtoken": "a-token"}',
        b'{"status": 1005, "data": {"accessToken": "a-token"}}',
        b'{"msg": "", "data": {"accessToken": "a-token"}}',
        b'{"msg": {"accessToken": "a-token"}}',
        b'[{"accessToken": "a-token"}]',
        b'"a-token"',
        b'\r\n {"accessToken": "a-token"}',
        '{"accessToken": "a-token"}'.encode("utf-8-sig"),
        '{"accessToken": "a-token"}'.encode("utf-16"),
    ],
)
@pytest.mark.parametrize("kept", [None, -1])
def test_json_without_a_message_is_not_quoted(body: bytes, kept: int | None) -> None:
    flaw = None if kept is None else "cut off"

    words = said(Reply(500, body[:kept], flaw=flaw))

    assert words == (
        "it carries no message" if flaw is None else "the body is cut off; it carries no message"
    )


def test_a_detail_is_one_bounded_printable_line() -> None:
    detail = presentable("a\r\n\x1b[31mb\x00\u202e" + "c" * 1000, ())

    assert detail.startswith("a [31mb c")
    assert detail.isprintable()
    assert len(detail) == LONGEST_DETAIL


def test_a_secret_is_masked_before_the_cut() -> None:
    secret = "top-secret-value"

    detail = presentable("x" * (LONGEST_DETAIL - 8) + secret, ["", secret])

    assert "top" not in detail


def test_a_secret_inside_another_is_masked_whole() -> None:
    assert presentable("abcdef", ["abc", "abcdef"]) == "<secret>"


@pytest.mark.parametrize("before", range(8 * 1024 - 80, 8 * 1024 + 10))
def test_no_part_of_a_secret_is_left_where_a_long_detail_is_cut(before: int) -> None:
    """All that is before it makes room: masked, it is short; blanks are one."""
    other = "b" * 400
    detail = other * (before // 400) + " " * (before % 400) + "top-secret-value" * 3 + "x" * 10_000

    shown = presentable(detail, ["top-secret-value", "value" + "top-secret", other])

    bare = shown.replace("<secret>", "")
    assert bare.strip(" x.") == ""


@pytest.mark.parametrize(
    "body", [b"\xff" * 4_000_000, b"word " * 800_000, b" " * 300_000 + b"top-secret-value"]
)
def test_of_a_long_text_only_the_beginning_is_looked_at(body: bytes) -> None:
    words = said(Reply(502, body))

    assert len(words) < 2 * LONGEST_QUOTED
    assert "top" not in words


def test_a_secret_at_the_edge_of_what_is_quoted_does_not_come_near() -> None:
    body = b" " * (LONGEST_QUOTED - 3) + b"top-secret-value"

    assert presentable(said(Reply(502, body)), ["top-secret-value"]) == "it says:"


def test_no_secret_masks_nothing() -> None:
    assert presentable("ab", [""]) == "ab"

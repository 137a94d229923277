"""The tables as statements see them. How they come to be is in `migrations`; a test holds the two equal."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text
from sqlalchemy.types import TypeDecorator

from flowsched.model import Origin, Overlap, RetryPolicy, RunState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from sqlalchemy import Dialect

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_POLICY_SPANS = frozenset({"initial_backoff", "max_backoff", "deadline", "attempt_timeout"})


def microseconds(at: datetime) -> int:
    """Return the microseconds since the epoch; raises ValueError for a naive datetime."""
    if at.utcoffset() is None:
        raise ValueError(f"the ledger takes aware datetimes only; {at.isoformat()} has no zone")
    return (at - _EPOCH) // _MICROSECOND


def stored(values: Iterable[object]) -> list[object]:
    """Return values of the model as their columns have them."""
    return [value if (how := _STORED.get(type(value))) is None else how(value) for value in values]


class Instant(TypeDecorator[datetime]):
    """An aware datetime, stored as integer microseconds since the epoch and read back in UTC.

    Raises ValueError for a naive datetime: SQLite's own type would drop the zone without a word.
    """

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002 - its signature
        """Return the microseconds since the epoch."""
        return None if value is None else microseconds(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - its signature
        """Return the instant, aware, in UTC."""
        return None if value is None else _EPOCH + timedelta(microseconds=value)


class Span(TypeDecorator[timedelta]):
    """A timedelta, stored as integer microseconds."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: timedelta | None, dialect: Dialect) -> int | None:  # noqa: ARG002 - its signature
        """Return the microseconds."""
        return None if value is None else _span(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> timedelta | None:  # noqa: ARG002 - its signature
        """Return the span."""
        return None if value is None else timedelta(microseconds=value)


def _span(span: timedelta) -> int:
    return span // _MICROSECOND


class Policy(TypeDecorator[RetryPolicy]):
    """A retry policy as compact JSON, spans in integer microseconds.

    It is written and read as a whole and never searched, so columns of its own would buy nothing.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: RetryPolicy | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - its signature
        """Return the JSON."""
        return None if value is None else _policy_to_json(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> RetryPolicy | None:  # noqa: ARG002 - its signature
        """Return the policy."""
        return None if value is None else _policy_from_json(value)


@lru_cache(maxsize=256)
def _policy_to_json(policy: RetryPolicy) -> str:
    fields = asdict(policy)
    spans = {name: fields[name] // _MICROSECOND for name in _POLICY_SPANS}
    return json.dumps(fields | spans, separators=(",", ":"))


@lru_cache(maxsize=256)
def _policy_from_json(text: str) -> RetryPolicy:
    fields = json.loads(text)
    spans = {name: timedelta(microseconds=fields[name]) for name in _POLICY_SPANS}
    return RetryPolicy(**(fields | spans))


# What SQLite takes longest to find out is that a word of an enumeration is a text.
_STORED: Mapping[type, Callable[[Any], object]] = {
    datetime: microseconds,
    timedelta: _span,
    RetryPolicy: _policy_to_json,
    Origin: str,
    RunState: str,
    Overlap: str,
}

metadata = MetaData()

ledger_version = Table("ledger_version", metadata, Column("version", Integer, nullable=False))
"""One row: the number of migrations that made this ledger."""

catalogs = Table(
    "catalogs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("revision", Text, nullable=False),
    Column("applied_at", Instant, nullable=False),
    Column("schedules", Integer, nullable=False),
    Column("enabled", Integer, nullable=False),
    Column("commit_id", Text),
    Column("author", Text),
    Column("committed_at", Instant),
    Column("clean", Integer),
    Column("tz_release", Text),
)
"""Each catalog that was put in force, when its revision, commit or `clean` was not that of the row before.

Where its files were in a Git work tree, with the commit; the four columns of a commit are null together."""

acceptances = Table(
    "acceptances",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("revision", Text, nullable=False),
    Column("after_catalog", BigInteger),
    Column("accepted_at", Instant, nullable=False),
    Column("accepted_by", Text, nullable=False),
    Column("reason", Text),
)
"""Which catalogs somebody has accepted although they change much: the revision, or how it begins.

`after_catalog` is the newest catalog of that moment, as it was first recorded (null: there was none). An
acceptance counts until another catalog is put in force: it is for one change, not for all time. No clock is
asked for that."""

timings = Table(
    "timings",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("schedule_id", Text, nullable=False),
    Column("cron", Text, nullable=False),
    Column("timezone", Text, nullable=False),
    Column("from_at", Instant, nullable=False),
    Column("cursor_at", Instant, nullable=False),
    Column("until_at", Instant),
    Column("starts_at", Instant),
    Column("ends_at", Instant),
    Column("rules", Text, nullable=False),
    Column("target", Text),
    Column("flow", BigInteger),
    Column("task", BigInteger),
    Column("deferred_until", Instant),
    Column("blackout", Text),
)
"""When each timing of each schedule was in force: for fire times after `from_at`, up to and including
`until_at`; null while it still is. At most one row of a schedule is in force.

`deferred_until` is when the fire goes out that comes next after the cursor, where a blackout defers it.
`blackout` is a digest of the blackout, empty without one; null where an old version has recorded the row.

The cursor is a column here because it belongs to the timing. It stays when the timing ends, so that an
audit can tell what was accounted for (up to `cursor_at`) from what an edit cut off. The table grows by
one row an edit of a timing, however often the catalog is applied and however many schedules it has."""

runs = Table(
    "runs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("schedule_id", Text, nullable=False),
    Column("fire_time", Instant, nullable=False),
    Column("origin", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("target", Text, nullable=False),
    Column("flow", BigInteger, nullable=False),
    Column("task", BigInteger),
    Column("predicted_instance", Text, nullable=False),
    Column("instance", Text),
    Column("retry", Policy, nullable=False),
    Column("deadline", Instant, nullable=False),
    Column("retry_at", Instant),
    Column("attempts", Integer, nullable=False),
    Column("revision", Text, nullable=False),
    Column("source_file", Text, nullable=False),
    Column("source_line", Integer, nullable=False),
    Column("daemon", Text, nullable=False),
    Column("claimed_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("due_at", Instant, nullable=False),
    Column("overlap", Text, nullable=False),
    Column("overlap_fallback", Text, nullable=False),
    Column("watch", Span),
    Column("note", Text),
)

attempts = Table(
    "attempts",
    metadata,
    Column("run_id", BigInteger, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("started_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("outcome", Text),
    Column("http_status", Integer),
    Column("code", BigInteger),
    Column("detail", Text),
)

watches = Table(
    "watches",
    metadata,
    Column("run_id", BigInteger, primary_key=True),
    Column("until_at", Instant, nullable=False),
    Column("state", Text, nullable=False),
    Column("status", Integer),
    Column("started", Text),
    Column("ended", Text),
    Column("updated_at", Instant, nullable=False),
)
"""The flows of triggered runs that are, or were, watched until they end."""

retention = Table("retention", metadata, Column("kept_from", Instant, nullable=False))
"""At most one row: final runs with an earlier fire time may have been removed."""

actions = Table(
    "actions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("by_whom", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("reason", Text),
    Column("detail", Text, nullable=False),
)
"""What people have done to the daemon or to this ledger."""

pauses = Table(
    "pauses",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("scope", Text, nullable=False),
    Column("name", Text),
    Column("reason", Text, nullable=False),
    Column("by_whom", Text, nullable=False),
    Column("from_at", Instant, nullable=False),
    Column("until_at", Instant),
    Column("ended_at", Instant),
    Column("ended_by", Text),
)
"""From `from_at`, inclusive, up to the earlier of `until_at` and `ended_at`, exclusive, nothing fires."""

messages = Table(
    "messages",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uuid", Text, nullable=False, unique=True),
    Column("channel", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Column("state", Text, nullable=False),
    Column("alerts", Text, nullable=False),
    Column("count", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at", Instant),
    Column("done_at", Instant),
    Column("error", Text),
)
"""What is to be told, or was, over which channel: one row for each message, which has one alert or many.

`alerts` is JSON: the first of them in full, and how many more there are by kind; `count` is how many in all.
`next_at` is when it is tried next, null exactly when it is done with."""

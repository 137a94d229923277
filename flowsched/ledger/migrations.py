"""How the tables came to be: a numbered list, of which a released entry is never changed.

To change the schema, append an entry; a ledger's version is the number of entries that made it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, inspect, select

from flowsched.errors import LedgerUnusable
from flowsched.ledger.sqlite import IDENTITY
from flowsched.ledger.tables import ledger_version

if TYPE_CHECKING:
    from sqlalchemy import Connection

_FIRST = (
    "CREATE TABLE ledger_version (version INTEGER NOT NULL)",
    f"""
    CREATE TABLE catalogs (
        id {IDENTITY},
        revision TEXT NOT NULL,
        applied_at BIGINT NOT NULL,
        schedules INTEGER NOT NULL,
        enabled INTEGER NOT NULL
    )
    """,
    f"""
    CREATE TABLE timings (
        id {IDENTITY},
        schedule_id TEXT NOT NULL,
        cron TEXT NOT NULL,
        timezone TEXT NOT NULL,
        from_at BIGINT NOT NULL,
        cursor_at BIGINT NOT NULL,
        until_at BIGINT
    )
    """,
    "CREATE UNIQUE INDEX timings_in_force ON timings (schedule_id) WHERE until_at IS NULL",
    f"""
    CREATE TABLE runs (
        id {IDENTITY},
        schedule_id TEXT NOT NULL,
        fire_time BIGINT NOT NULL,
        origin TEXT NOT NULL,
        state TEXT NOT NULL,
        reason TEXT,
        target TEXT NOT NULL,
        flow BIGINT NOT NULL,
        task BIGINT,
        predicted_instance TEXT NOT NULL,
        instance TEXT,
        retry TEXT NOT NULL,
        deadline BIGINT NOT NULL,
        retry_at BIGINT,
        attempts INTEGER NOT NULL,
        revision TEXT NOT NULL,
        source_file TEXT NOT NULL,
        source_line INTEGER NOT NULL,
        daemon TEXT NOT NULL,
        claimed_at BIGINT NOT NULL,
        updated_at BIGINT NOT NULL,
        CONSTRAINT runs_identity UNIQUE (schedule_id, fire_time, origin),
        CONSTRAINT runs_retry_at CHECK ((state = 'waiting') = (retry_at IS NOT NULL))
    )
    """,
    # An automatic fire exists once, whether it came in time or was caught up.
    """
    CREATE UNIQUE INDEX runs_automatic ON runs (schedule_id, fire_time)
    WHERE origin IN ('schedule', 'catch_up')
    """,
    "CREATE INDEX runs_newest ON runs (fire_time)",
    "CREATE INDEX runs_by_state ON runs (state, fire_time)",
    """
    CREATE TABLE attempts (
        run_id BIGINT NOT NULL REFERENCES runs (id),
        number INTEGER NOT NULL,
        started_at BIGINT NOT NULL,
        ended_at BIGINT,
        outcome TEXT,
        http_status INTEGER,
        code BIGINT,
        detail TEXT,
        PRIMARY KEY (run_id, number)
    )
    """,
)

_SECOND = (
    "ALTER TABLE timings ADD COLUMN starts_at BIGINT",
    "ALTER TABLE timings ADD COLUMN ends_at BIGINT",
    "ALTER TABLE timings ADD COLUMN rules TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE timings ADD COLUMN target TEXT",
    "ALTER TABLE timings ADD COLUMN flow BIGINT",
    "ALTER TABLE timings ADD COLUMN task BIGINT",
    # What an edit cut off was not recorded by the first version; it is not owed either.
    "UPDATE timings SET until_at = cursor_at WHERE until_at IS NOT NULL",
    "ALTER TABLE runs ADD COLUMN due_at BIGINT NOT NULL DEFAULT 0",
    "UPDATE runs SET due_at = fire_time",
    "ALTER TABLE runs ADD COLUMN overlap TEXT NOT NULL DEFAULT 'queue'",
    "ALTER TABLE runs ADD COLUMN overlap_fallback TEXT NOT NULL DEFAULT 'queue'",
    "ALTER TABLE runs ADD COLUMN watch BIGINT",
    "ALTER TABLE runs ADD COLUMN note TEXT",
    "CREATE INDEX runs_by_flow ON runs (target, flow, fire_time)",
    # What may have made an instance, however many fires of a flow failed or were skipped since.
    """
    CREATE INDEX runs_made ON runs (target, flow, fire_time)
    WHERE state IN ('sending', 'in_doubt', 'triggered')
    """,
    "CREATE INDEX attempts_started ON attempts (started_at)",
    """
    CREATE TABLE watches (
        run_id BIGINT NOT NULL PRIMARY KEY REFERENCES runs (id),
        until_at BIGINT NOT NULL,
        state TEXT NOT NULL,
        status INTEGER,
        started TEXT,
        ended TEXT,
        updated_at BIGINT NOT NULL
    )
    """,
    "CREATE INDEX watches_going ON watches (until_at) WHERE state = 'going'",
    "CREATE TABLE retention (kept_from BIGINT NOT NULL)",
)

_THIRD = (
    # When the fire goes out that a blackout defers: the first one after the cursor, which stays before it.
    "ALTER TABLE timings ADD COLUMN deferred_until BIGINT",
    # Which blackout that was, as a digest: under another one, nothing that has passed is caught up.
    "ALTER TABLE timings ADD COLUMN blackout TEXT",
    "ALTER TABLE catalogs ADD COLUMN commit_id TEXT",
    "ALTER TABLE catalogs ADD COLUMN author TEXT",
    "ALTER TABLE catalogs ADD COLUMN committed_at BIGINT",
    "ALTER TABLE catalogs ADD COLUMN clean INTEGER",
    "ALTER TABLE catalogs ADD COLUMN tz_release TEXT",
    f"""
    CREATE TABLE acceptances (
        id {IDENTITY},
        revision TEXT NOT NULL,
        after_catalog BIGINT,
        accepted_at BIGINT NOT NULL,
        accepted_by TEXT NOT NULL,
        reason TEXT
    )
    """,
)

_FOURTH = (
    f"""
    CREATE TABLE actions (
        id {IDENTITY},
        at BIGINT NOT NULL,
        by_whom TEXT NOT NULL,
        kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        reason TEXT,
        detail TEXT NOT NULL
    )
    """,
    "CREATE INDEX actions_at ON actions (at)",
    f"""
    CREATE TABLE pauses (
        id {IDENTITY},
        scope TEXT NOT NULL,
        name TEXT,
        reason TEXT NOT NULL,
        by_whom TEXT NOT NULL,
        from_at BIGINT NOT NULL,
        until_at BIGINT,
        ended_at BIGINT,
        ended_by TEXT,
        CONSTRAINT pauses_name CHECK ((scope = 'all') = (name IS NULL))
    )
    """,
    f"""
    CREATE TABLE messages (
        id {IDENTITY},
        uuid TEXT NOT NULL UNIQUE,
        channel TEXT NOT NULL,
        at BIGINT NOT NULL,
        state TEXT NOT NULL,
        alerts TEXT NOT NULL,
        count INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        next_at BIGINT,
        done_at BIGINT,
        error TEXT
    )
    """,
    "CREATE INDEX messages_open ON messages (at) WHERE next_at IS NOT NULL",
    "CREATE INDEX messages_newest ON messages (at)",
)

# A thousand fires of one minute are neighbours in an index that begins with the fire time, on a few dozen
# pages; in one that begins with schedule or flow each is on a page of its own, to be logged and written back.
_FIFTH = (
    "DROP INDEX runs_automatic",
    """
    CREATE UNIQUE INDEX runs_automatic ON runs (fire_time, schedule_id)
    WHERE origin IN ('schedule', 'catch_up')
    """,
    "DROP INDEX runs_by_flow",
    "CREATE INDEX runs_by_minute ON runs (fire_time, target, flow)",
)

MIGRATIONS = (_FIRST, _SECOND, _THIRD, _FOURTH, _FIFTH)


def version_of(connection: Connection, ledger: str) -> int:
    """Return the version of the ledger that errors call `ledger`; 0 for a database without a table.

    Raises LedgerUnusable for a newer ledger and for a database that is somebody else's.
    """
    tables = inspect(connection).get_table_names()
    if not tables:
        return 0
    if ledger_version.name not in tables:
        raise LedgerUnusable(
            f"the ledger {ledger} is a database of another program (its tables: {', '.join(tables[:5])});"
            " give the ledger a file of its own"
        )
    version = connection.execute(select(ledger_version.c.version)).scalar()
    if not isinstance(version, int):
        raise LedgerUnusable(f"the ledger {ledger} does not say its version: restore it from a backup")
    if version > len(MIGRATIONS):
        raise LedgerUnusable(
            f"the ledger {ledger} has version {version}, made by a newer flowsched; this one knows"
            f" versions up to {len(MIGRATIONS)}: install the newer flowsched again, or restore a copy of the"
            " ledger from before the upgrade"
        )
    return version


def migrate(connection: Connection, ledger: str) -> None:
    """Bring the ledger to the newest version, in a transaction that holds the write lock."""
    version = version_of(connection, ledger)
    if version == len(MIGRATIONS):
        return
    for statement in (statement for step in MIGRATIONS[version:] for statement in step):
        connection.exec_driver_sql(statement)
    connection.execute(delete(ledger_version))
    connection.execute(insert(ledger_version).values(version=len(MIGRATIONS)))


def require_newest(connection: Connection, ledger: str) -> None:
    """Raise LedgerUnusable unless the ledger is of the version that this flowsched writes."""
    version = version_of(connection, ledger)
    if version < len(MIGRATIONS):
        found = f"has version {version}" if version else "is empty"
        raise LedgerUnusable(
            f"the ledger {ledger} {found}, and this flowsched needs version {len(MIGRATIONS)};"
            " `flowsched run` brings it there when it starts"
        )

"""Paths, and what a wheel does at each: the one place that knows both.

The server answers with it, and so do commands that work without a daemon, in their own process.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from flowsched.control.documents import (
    Document,
    action_document,
    catalog_document,
    pause_document,
    reload_document,
    run_document,
    status_document,
)
from flowsched.control.fields import (
    Body,
    instant,
    line,
    number,
    one_of,
    optional,
    refuse_others,
    required,
    yes_or_no,
)
from flowsched.control.history import NotFoundError, RunsWanted, found_documents
from flowsched.errors import (
    ControlRefusal,
    FlowschedError,
    LedgerError,
    LedgerRefusal,
    NoDaemon,
    Refused,
    UsageError,
    quoted,
)
from flowsched.model import MANUAL_ORIGINS, Origin, RunState, Scope
from flowsched.ops.logs import stamp
from flowsched.threads import in_a_thread

if TYPE_CHECKING:
    from flowsched.control.ports import Wheel

log = logging.getLogger(__name__)

MOST_SHOWN_AT_ONCE = 10_000
"""What `limit` may be; without one it is 50."""

_MOST_RUNS = 10**18 - 1
_RUN = re.compile(r"/v1/runs/([1-9][0-9]{0,17})", re.ASCII)
_RUN_ID = number(1, _MOST_RUNS)


class _WrongMethodError(FlowschedError):
    """The path is there, and is not to be asked in this way."""


async def answer(wheel: Wheel, method: str, path: str, body: Body, by: str) -> tuple[int, Document]:
    """Do what a request asks for, and return the HTTP status and the document of its answer.

    `body` holds the fields of a POST; those of a GET's query as strings. `by` is who asks. Where something is
    in the way the document is `{"error": text}`: 400 for a field that is wrong, 404 for a path or a run that
    is not there, 405, 409 for what cannot be done as things stand, 503 where the ledger would not take it
    just now, 500 for a fault, which is in the log. Raises nothing but NoDaemon, where the wheel does.
    """
    try:
        return 200, await _done(wheel, method, path, body, by)
    except NoDaemon:
        raise
    except FlowschedError as error:
        return _status_of(error), {"error": str(error)}
    except Exception:
        log.critical("what was asked for failed by a fault of flowsched", exc_info=True, extra={"path": path})
        return 500, {"error": "a fault of flowsched; its log says more"}


def unpacked(status: int, document: Document) -> Document:
    """Return the document of an answer, or raise what stands in its place.

    UsageError for 400, 405 and 413, LedgerError for 503, ControlRefusal for 404 and 409, FlowschedError for
    all else that is not 200. The text is the answer's.
    """
    if status == 200:  # noqa: PLR2004 - HTTP's
        return document
    text = str(document.get("error", f"the daemon answered with status {status}"))
    raise _ERRORS.get(status, FlowschedError)(text)


_STATUSES: dict[type[FlowschedError], int] = {
    Refused: 400,
    UsageError: 400,
    NotFoundError: 404,
    _WrongMethodError: 405,
    LedgerRefusal: 409,
    LedgerError: 503,
    FlowschedError: 409,
}
"""The first that fits counts."""

_ERRORS: dict[int, type[FlowschedError]] = {
    400: UsageError,
    404: ControlRefusal,
    405: UsageError,
    409: ControlRefusal,
    413: UsageError,
    503: LedgerError,
}


def _status_of(error: FlowschedError) -> int:
    return next(status for kind, status in _STATUSES.items() if isinstance(error, kind))


async def _done(wheel: Wheel, method: str, path: str, body: Body, by: str) -> Document:
    if match := _RUN.fullmatch(path):
        path, body = "/v1/runs/ID", {**body, "run": match[1]}
    if path not in _ROUTES:
        raise NotFoundError(f"there is nothing at {quoted(path)}; docs/control.md says what there is")
    allowed, known, do = _ROUTES[path]
    if method != allowed:
        raise _WrongMethodError(f"{path} is not to be asked with {quoted(method)}; allowed: {allowed}")
    refuse_others(body, known)
    return await do(wheel, body, by)


async def _status(wheel: Wheel, body: Body, _: str) -> Document:
    wanted, status = optional(body, "last_success", yes_or_no), wheel.status()
    if not wanted:
        return status_document(status)
    # As long as the catalog: beside the loop, where fires wait for nobody.
    return await in_a_thread(status_document, status, last_success=True)


async def _reload(wheel: Wheel, body: Body, by: str) -> Document:
    wait = optional(body, "wait", yes_or_no)
    reload = await wheel.reload(by, wait=wait is not False)
    return {"reload": reload and reload_document(reload)}


async def _accept(wheel: Wheel, body: Body, by: str) -> Document:
    reload = await wheel.accept(required(body, "digest", line), by, optional(body, "reason", line))
    return {"reload": reload and reload_document(reload)}


async def _trigger(wheel: Wheel, body: Body, by: str) -> Document:
    run = await wheel.trigger(
        required(body, "schedule", line),
        optional(body, "at", instant),
        optional(body, "origin", one_of(*sorted(MANUAL_ORIGINS))) or Origin.MANUAL,
        by,
        optional(body, "reason", line),
    )
    return run_document(run)


async def _fires(wheel: Wheel, body: Body, _: str) -> Document:
    fires = await wheel.fires(
        required(body, "schedule", line),
        required(body, "from", instant),
        required(body, "to", instant),
        optional(body, "every", number(1, 1_000_000)) or 1,
    )
    return {"fires": [{"fire_time": stamp(at), "run": run and run_document(run)} for at, run in fires]}


async def _pause(wheel: Wheel, body: Body, by: str) -> Document:
    scope, name = _scope(body)
    until, reason = optional(body, "until", instant), required(body, "reason", line)
    pause, going_on = await wheel.pause(scope, name, until, by, reason)
    return {"pause": pause_document(pause), "going_on": [run_document(run) for run in going_on]}


async def _resume(wheel: Wheel, body: Body, by: str) -> Document:
    scope, name = _scope(body)
    ended = await wheel.resume(scope, name, by, optional(body, "reason", line))
    return {"pauses": [pause_document(pause) for pause in ended]}


async def _cancel(wheel: Wheel, body: Body, by: str) -> Document:
    run, said = await wheel.cancel(required(body, "run", _RUN_ID), by, required(body, "reason", line))
    return {"run": run_document(run), "said": said}


async def _resolve(wheel: Wheel, body: Body, by: str) -> Document:
    state = required(body, "state", one_of(RunState.TRIGGERED, RunState.FAILED))
    run = await wheel.resolve(required(body, "run", _RUN_ID), state, by, required(body, "reason", line))
    return run_document(run)


async def _run(wheel: Wheel, body: Body, _: str) -> Document:
    attempts = optional(body, "attempts", yes_or_no) is True
    found = await wheel.runs(RunsWanted(run_id=required(body, "run", _RUN_ID), attempts=attempts))
    return found_documents(found)[0]


async def _runs(wheel: Wheel, body: Body, _: str) -> Document:
    state = optional(body, "state", one_of(*RunState))
    wanted = RunsWanted(
        schedule_id=optional(body, "schedule", line),
        state=None if state is None else RunState(state),
        limit=_limit(body),
        attempts=optional(body, "attempts", yes_or_no) is True,
    )
    # There may be thousands of them: beside the loop, where fires wait for nobody.
    return {"runs": await in_a_thread(found_documents, await wheel.runs(wanted))}


async def _actions(wheel: Wheel, body: Body, _: str) -> Document:
    return {"actions": [action_document(each) for each in await wheel.actions(_limit(body))]}


async def _catalogs(wheel: Wheel, body: Body, _: str) -> Document:
    return {"catalogs": [catalog_document(each) for each in await wheel.catalogs(_limit(body))]}


async def _alert_test(wheel: Wheel, body: Body, by: str) -> Document:
    trials = await wheel.alert_test(optional(body, "channel", line), by)
    return {"trials": [dict(each) for each in trials]}


def _limit(body: Body) -> int:
    return optional(body, "limit", number(1, MOST_SHOWN_AT_ONCE)) or 50


def _scope(body: Body) -> tuple[Scope, str | None]:
    """Return what a pause is about; it has a name exactly where it is not about all."""
    scope = required(body, "scope", one_of(*Scope))
    if scope is not Scope.ALL:
        return scope, required(body, "name", line)
    if body.get("name") is not None:
        raise Refused("name is given, and the scope is all", "no name, or the scope schedule or target")
    return scope, None


_Do = Callable[["Wheel", Body, str], Awaitable[Document]]

_ROUTES: dict[str, tuple[str, frozenset[str], _Do]] = {
    "/v1/status": ("GET", frozenset({"last_success"}), _status),
    "/v1/reload": ("POST", frozenset({"wait"}), _reload),
    "/v1/accept": ("POST", frozenset({"digest", "reason"}), _accept),
    "/v1/trigger": ("POST", frozenset({"schedule", "at", "origin", "reason"}), _trigger),
    "/v1/fires": ("GET", frozenset({"schedule", "from", "to", "every"}), _fires),
    "/v1/pause": ("POST", frozenset({"scope", "name", "until", "reason"}), _pause),
    "/v1/resume": ("POST", frozenset({"scope", "name", "reason"}), _resume),
    "/v1/cancel": ("POST", frozenset({"run", "reason"}), _cancel),
    "/v1/resolve": ("POST", frozenset({"run", "state", "reason"}), _resolve),
    "/v1/runs": ("GET", frozenset({"schedule", "state", "limit", "attempts"}), _runs),
    "/v1/runs/ID": ("GET", frozenset({"run", "attempts"}), _run),
    "/v1/actions": ("GET", frozenset({"limit"}), _actions),
    "/v1/catalogs": ("GET", frozenset({"limit"}), _catalogs),
    "/v1/alert-test": ("POST", frozenset({"channel"}), _alert_test),
}
"""Of each path, how it is asked, which fields it knows, and what is done."""

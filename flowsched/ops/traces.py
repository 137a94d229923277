"""Spans for a collector: one a run, from when it was due to its end, with one an attempt below it.

The only module that knows OpenTelemetry, and it is imported only where spans are wanted. Its processor has a
thread and a bounded queue of its own: what the collector does not take in time is dropped, and no fire waits.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from importlib import import_module
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple

from flowsched import __version__
from flowsched.causes import cause_of
from flowsched.errors import ConfigError, Problem
from flowsched.events import RunMoved
from flowsched.model import MANUAL_ORIGINS, SHORT, RunState
from flowsched.ops.logs import stamp
from flowsched.traceparent import span_id, trace_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from opentelemetry.sdk.trace import ReadableSpan

    from flowsched.clock import Clock
    from flowsched.events import Event
    from flowsched.model import Answer, Run, Settings

log = logging.getLogger(__name__)

LONGEST_EXPORT = 5.0
"""Real seconds for one batch, with all that is tried again."""

FAREWELL = 2.0
"""Real seconds for the last spans, when the daemon ends."""

MOST_WAITING = 10_000
"""Spans that wait for the collector; what comes beyond takes the place of the oldest."""

SAY_AGAIN = 3600.0
"""Seconds between two complaints about a collector that takes nothing."""

_GOOD = frozenset({RunState.TRIGGERED, RunState.SKIPPED})
_NANO = 1000


class Spans:
    """Listens to events, and has a collector told of the runs and attempts that end."""

    def __init__(self, settings: Settings, daemon: str, clock: Clock) -> None:
        """Begin a thread, and make no connection yet; `settings.traces` is set. `daemon` is its name.

        Raises ConfigError where the packages of the extra `otel` are not there.
        """
        self._otel = _opentelemetry(settings)
        assert settings.traces is not None  # noqa: S101 - the caller looked
        exporter = _Exporter(self._otel, settings.traces, clock)
        self._processor = self._otel.export.BatchSpanProcessor(exporter, max_queue_size=MOST_WAITING)
        self._resource = self._otel.resources.Resource.create(
            {"service.name": "flowsched", "service.version": __version__, "service.instance.id": daemon}
        )
        self._began: dict[int, datetime] = {}

    def hear(self, event: Event) -> None:
        """Leave what has ended to the thread."""
        if not isinstance(event, RunMoved):
            return
        run = event.run
        if run.state is RunState.SENDING:
            self._began[run.id] = run.updated_at
            return
        began = self._began.pop(run.id, None)
        if event.answer is not None:
            self._end(self._attempt(run, event.answer, began or run.updated_at))
        if run.state.final:
            self._end(self._run(run))

    async def aclose(self) -> None:
        """Send what waits, for FAREWELL real seconds at most; what is left is lost."""
        done, loop = asyncio.Event(), asyncio.get_running_loop()

        def end() -> None:
            self._processor.shutdown()
            with suppress(RuntimeError):  # the loop has not waited
                loop.call_soon_threadsafe(done.set)

        Thread(target=end, name="spans", daemon=True).start()
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL):
                await done.wait()

    def _end(self, span: ReadableSpan) -> None:
        self._processor.on_end(span)

    def _run(self, run: Run) -> ReadableSpan:
        # A person may want a run for a fire time of the past: it was due when they wanted it.
        due = run.claimed_at if run.origin in MANUAL_ORIGINS else run.due_at
        return self._span(
            _About(run, None),
            "run",
            (min(due, run.updated_at), run.updated_at),
            {
                **_facts(run),
                "flowsched.state": run.state,
                "flowsched.cause": cause_of(run.state, run.reason),
                "flowsched.attempts": run.attempts,
                **_given(**{"flowsched.reason": run.reason, "flowsched.instance": run.instance}),
            },
            None if run.state in _GOOD else run.reason or run.state,
        )

    def _attempt(self, run: Run, answer: Answer, began: datetime) -> ReadableSpan:
        return self._span(
            _About(run, run.attempts),
            "attempt",
            (began, run.updated_at),
            {
                **_facts(run),
                "flowsched.attempt": run.attempts,
                "flowsched.outcome": answer.outcome,
                "flowsched.detail": answer.detail,
                **_given(**{"http.response.status_code": answer.http_status, "flowsched.code": answer.code}),
            },
            None if answer.instance is not None else answer.detail,
        )

    def _span(
        self,
        about: _About,
        name: str,
        between: tuple[datetime, datetime],
        attributes: Mapping[str, str | int],
        error: str | None,
    ) -> ReadableSpan:
        trace, status = self._otel.trace, self._otel.status
        kind = trace.SpanKind.INTERNAL if about.attempt is None else trace.SpanKind.CLIENT
        start, end = (_nanoseconds(at) for at in between)
        span: ReadableSpan = self._otel.sdk.ReadableSpan(
            name,
            context=self._context(about),
            parent=None if about.attempt is None else self._context(_About(about.run, None)),
            resource=self._resource,
            attributes=dict(attributes),
            kind=kind,
            status=status.Status() if error is None else status.Status(status.StatusCode.ERROR, error),
            start_time=start,
            end_time=end,
        )
        return span

    def _context(self, about: _About) -> Any:
        trace = self._otel.trace
        return trace.SpanContext(
            trace_id=int(trace_id(about.run), 16),
            span_id=int(span_id(about.run, about.attempt), 16),
            is_remote=False,
            trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
        )


class _About(NamedTuple):
    """What a span is of: an attempt by its number, or (None) the run."""

    run: Run
    attempt: int | None


class _OpenTelemetry(NamedTuple):
    """The modules of the extra `otel` that are used."""

    trace: Any
    status: Any
    sdk: Any
    export: Any
    resources: Any
    otlp: Any


def _opentelemetry(settings: Settings) -> _OpenTelemetry:
    try:
        return _OpenTelemetry(
            trace=import_module("opentelemetry.trace"),
            status=import_module("opentelemetry.trace.status"),
            sdk=import_module("opentelemetry.sdk.trace"),
            export=import_module("opentelemetry.sdk.trace.export"),
            resources=import_module("opentelemetry.sdk.resources"),
            otlp=import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter"),
        )
    except ImportError as error:
        what = f"the packages that send spans are not installed ({error})"
        allowed = "pip install 'flowsched[otel]', or no traces"
        raise ConfigError([Problem(settings.file, 1, 1, "traces", what, allowed)]) from None


class _Exporter:
    """OTLP over HTTP, which says once in a while that a collector takes nothing, not for each batch."""

    def __init__(self, otel: _OpenTelemetry, endpoint: str, clock: Clock) -> None:
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._taken = otel.export.SpanExportResult.SUCCESS
        self._endpoint = endpoint
        self._clock = clock
        self._said_at: float | None = None
        self._inner = otel.otlp.OTLPSpanExporter(
            endpoint=endpoint, timeout=LONGEST_EXPORT, session=_session(endpoint)
        )

    def export(self, spans: Sequence[ReadableSpan]) -> Any:
        """Send a batch; called by the processor's thread."""
        result = self._inner.export(spans)
        if result is self._taken:
            self._tell_of_success()
        else:
            self._tell_of_failure(len(spans))
        return result

    def shutdown(self) -> None:
        """Break off what is under way."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is kept here."""
        return bool(self._inner.force_flush(timeout_millis))

    def _tell_of_success(self) -> None:
        if self._said_at is not None:
            self._said_at = None
            log.info("spans are taken again", extra={"collector": self._endpoint})

    def _tell_of_failure(self, lost: int) -> None:
        now = self._clock.monotonic()
        if self._said_at is None or now - self._said_at >= SAY_AGAIN:
            self._said_at = now
            log.warning(
                "spans are lost, as the collector does not take them",
                extra={"collector": self._endpoint, "spans": lost},
            )


def _session(endpoint: str) -> Any:
    """Return what follows no redirect, and to this machine uses no proxy."""
    session = import_module("requests").Session()
    session.max_redirects = 0
    session.trust_env = endpoint.startswith("https:")
    return session


def _facts(run: Run) -> dict[str, str | int]:
    return {
        "flowsched.schedule": run.schedule_id,
        "flowsched.fire_time": stamp(run.fire_time),
        "flowsched.origin": run.origin,
        "flowsched.run": run.id,
        "flowsched.target": run.target,
        "flowsched.flow": run.flow,
        "flowsched.catalog": run.revision[:SHORT],
        **_given(**{"flowsched.task": run.task}),
    }


def _given(**attributes: str | int | None) -> dict[str, str | int]:
    return {name: value for name, value in attributes.items() if value is not None}


def _nanoseconds(at: datetime) -> int:
    return round(at.timestamp() * 1_000_000) * _NANO

"""What a run is called among traces, on the way to EnOS and to a collector."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import threading
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from flowsched.clock import SystemClock
from flowsched.enos import Gateway, calls_for, trigger_request
from flowsched.enos.caller import caller
from flowsched.errors import ConfigError
from flowsched.events import FirstByte, RunMoved
from flowsched.model import Origin, Outcome, RunState
from flowsched.ops import traces
from flowsched.ops.traces import Spans
from flowsched.simulator import Simulator
from flowsched.traceparent import span_id, trace_id, traceparent
from tests.builders import T0, a_run, a_target, an_answer, found
from tests.desk import a_desk
from tests.fakes import HandClock, accepted, eventually
from tests.monitored import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flowsched.model import Run

SECOND = timedelta(seconds=1)


def test_a_trace_is_what_the_run_is_and_nothing_else() -> None:
    run = a_run()
    same = replace(run, id=99, attempts=7, state=RunState.IN_DOUBT, flow=1, daemon="other:2:later")

    assert trace_id(same) == trace_id(run) == "bbf6defc1d664380e1fb8c2bc3595012"
    others = [
        replace(run, schedule_id="other"),
        replace(run, fire_time=T0 + timedelta(minutes=1)),
        replace(run, origin=Origin.BACKFILL),
    ]
    assert len({trace_id(each) for each in (run, *others)}) == 4


def test_each_attempt_has_a_span_of_its_own_below_that_of_the_run() -> None:
    run = a_run()
    spans = [span_id(run), span_id(run, 1), span_id(run, 2)]

    assert len(set(spans)) == 3
    assert all(re.fullmatch("[0-9a-f]{16}", span) and int(span, 16) for span in spans)


@pytest.mark.parametrize(("exported", "flags"), [(True, "01"), (False, "00")])
def test_the_header_is_as_w3c_has_it(exported: bool, flags: str) -> None:  # noqa: FBT001
    run = a_run()

    assert traceparent(run, 2, exported=exported) == f"00-{trace_id(run)}-{span_id(run, 2)}-{flags}"


@pytest.mark.parametrize("exports_spans", [True, False])
async def test_each_call_of_a_run_names_it_and_is_signed_as_well(exports_spans: bool) -> None:  # noqa: FBT001
    simulator = Simulator(SystemClock())
    url = await simulator.start()
    try:
        target = a_target(url=url, org_id=simulator.user.org, user_id=simulator.user.id)
        keys = simulator.application.access_key, simulator.application.secret_key
        gateway = Gateway(target, *keys, SystemClock(), exports_spans=exports_spans)
        request = trigger_request(target, 3377, None, 1_767_225_600_000)
        run = a_run()
        with calls_for(run):
            async with gateway.turn() as turn:
                with calls_for(run, 1):
                    answer = await turn.trigger(request, 10)
                await turn.look_up(str(answer.instance), 10)
                await turn.cancel(str(answer.instance), 10)
        async with gateway.turn() as turn:
            await turn.look_up(str(answer.instance), 10)
        await gateway.aclose()
        calls = list(simulator.calls)
    finally:
        await simulator.stop()

    assert answer.outcome is Outcome.ACCEPTED
    of_the_run, of_the_attempt = (traceparent(run, each, exported=exports_spans) for each in (None, 1))
    assert [(call.operation, call.traceparent) for call in calls] == [
        ("token.get", None),
        ("flows.trigger", of_the_attempt),
        ("flowInstances.get", of_the_run),
        ("flowInstances.cancel", of_the_run),
        ("flowInstances.get", None),
    ]


async def test_the_runner_makes_every_call_for_its_run(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as desk:
        asked: list[Any] = []
        look_up, trigger = desk.gateway.look_up, desk.gateway.trigger

        async def noted_look(instance: str, timeout: float) -> Any:
            asked.append(caller())
            return await look_up(instance, timeout)

        async def noted_trigger(request: Any, timeout: float) -> Any:
            asked.append(caller())
            return await trigger(request, timeout)

        desk.gateway.look_up = noted_look  # type: ignore[method-assign]
        desk.gateway.trigger = noted_trigger  # type: ignore[method-assign]
        desk.answers(an_answer(Outcome.UNKNOWN), accepted())
        desk.gateway.sees(found())
        run = await desk.start(watch=timedelta(hours=1))
        await desk.passes(30 * SECOND)
        await desk.restart()
        await desk.passes(30 * SECOND)

    assert [(each.run.id, each.attempt) for each in asked[:2]] == [(run.id, 1), (run.id, None)]
    assert len(asked) > 3, "the watch has looked, before and after the restart"
    assert {(trace_id(each.run), each.attempt) for each in asked[1:]} == {(trace_id(run), None)}


class Collector:
    """An OTLP receiver on loopback, which keeps the spans that it gets, and answers as it is told to."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.status = 200
        self.hold = threading.Event()
        self.hold.set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.paths.append(self.path)
                collector.hold.wait(20)
                if collector.status == 200:
                    collector.take(body)
                self.send_response(collector.status)
                self.send_header("Content-Length", "0")
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1/traces"

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append(_attributes(resource.resource))
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)

    def close(self) -> None:
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _attributes(holder: Any) -> dict[str, Any]:
    return {each.key: each.value.string_value or each.value.int_value for each in holder.attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


def spans_to(url: str) -> Spans:
    return Spans(replace(SETTINGS, traces=url), "host:1:start", HandClock())


def tells(spans: Spans, run: Run, *more: Any) -> None:
    spans.hear(RunMoved(run, *more))


async def test_an_acceptance_that_names_another_flow_is_no_good_end(collector: Collector) -> None:
    spans, run = spans_to(collector.url), a_run(due_at=T0)
    tells(spans, replace(run, attempts=1, updated_at=T0))
    answer = an_answer(Outcome.ACCEPTED, "names another flow", instance=None)
    tells(spans, replace(run, attempts=1, state=RunState.IN_DOUBT, updated_at=T0 + SECOND), answer)
    await spans.aclose()

    (attempt,) = collector.spans
    assert (attempt.status.code, attempt.status.message) == (2, "names another flow")


async def test_a_run_is_a_span_with_one_of_each_attempt_below_it(collector: Collector) -> None:
    spans, run = spans_to(collector.url), a_run(due_at=T0)
    for attempt, answer in (
        (1, an_answer(Outcome.REFUSED_FOR_NOW, "HTTP 429", http_status=429)),
        (2, an_answer(Outcome.ACCEPTED, "EnOS made it", http_status=200, code=0)),
    ):
        begun = replace(run, attempts=attempt, updated_at=T0 + attempt * 10 * SECOND)
        tells(spans, begun)
        spans.hear(FirstByte(begun, T0))
        state = RunState.WAITING if attempt == 1 else RunState.TRIGGERED
        tells(spans, replace(begun, state=state, updated_at=begun.updated_at + SECOND), answer)
    await spans.aclose()

    assert set(collector.paths) == {"/v1/traces"}
    assert collector.resources[0]["service.name"] == "flowsched"
    assert collector.resources[0]["service.instance.id"] == "host:1:start"
    first, second, whole = collector.spans
    assert [each.name for each in collector.spans] == ["attempt", "attempt", "run"]
    assert {each.trace_id.hex() for each in collector.spans} == {trace_id(run)}
    assert [each.span_id.hex() for each in (first, second, whole)] == [
        span_id(run, 1), span_id(run, 2), span_id(run),
    ]  # fmt: skip
    assert [each.parent_span_id.hex() for each in (first, second, whole)] == [span_id(run)] * 2 + [""]
    began = round(T0.timestamp()) * 10**9
    assert (first.start_time_unix_nano, first.end_time_unix_nano) == (began + 10**10, began + 11 * 10**9)
    assert (whole.start_time_unix_nano, whole.end_time_unix_nano) == (began, began + 21 * 10**9)
    assert _attributes(first)["flowsched.outcome"] == "refused_for_now"
    assert _attributes(first)["http.response.status_code"] == 429
    assert (first.status.code, first.status.message) == (2, "HTTP 429")
    assert second.status.code == 0
    told = _attributes(whole)
    assert (told["flowsched.state"], told["flowsched.cause"]) == ("triggered", "accepted")
    assert (told["flowsched.schedule"], told["flowsched.fire_time"]) == ("nightly", "2026-01-01T00:00:00Z")
    assert spans._began == {}


@pytest.mark.parametrize(
    ("state", "reason", "code"),
    [
        (RunState.MISSED, "2h late, and catch_up is none", 2),
        (RunState.FAILED, "target x is not configured", 2),
        (RunState.SKIPPED, "paused: works (bob)", 0),
    ],
)
async def test_a_run_that_is_never_sent_is_a_span_that_says_why(
    collector: Collector, state: RunState, reason: str, code: int
) -> None:
    spans = spans_to(collector.url)
    tells(spans, a_run(state=state, reason=reason, attempts=0, updated_at=T0 - SECOND))
    await spans.aclose()

    (span,) = collector.spans
    assert (span.status.code, _attributes(span)["flowsched.reason"]) == (code, reason)
    assert span.start_time_unix_nano <= span.end_time_unix_nano


async def test_a_run_by_hand_is_due_when_it_is_wanted(collector: Collector) -> None:
    spans, wanted = spans_to(collector.url), T0 + timedelta(days=90)
    tells(
        spans,
        a_run(
            state=RunState.TRIGGERED, origin=Origin.BACKFILL, claimed_at=wanted, updated_at=wanted + SECOND
        ),
    )
    await spans.aclose()

    (span,) = collector.spans
    assert span.end_time_unix_nano - span.start_time_unix_nano == 10**9


@pytest.mark.parametrize("status", [500, 302, 400])
async def test_a_collector_that_takes_nothing_is_complained_of_once(
    collector: Collector, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    collector.status = status
    spans = spans_to(collector.url)
    with caplog.at_level(logging.DEBUG):
        for _ in range(3):
            tells(spans, a_run(state=RunState.TRIGGERED))
            await asyncio.to_thread(spans._processor.force_flush)
        complaints = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
        collector.status = 200
        tells(spans, a_run(state=RunState.TRIGGERED))
        await asyncio.to_thread(spans._processor.force_flush)
    await spans.aclose()

    assert complaints == ["spans are lost, as the collector does not take them"]
    assert "spans are taken again" in caplog.messages
    assert "/elsewhere" not in collector.paths
    assert len(collector.spans) == 1


async def test_a_collector_that_hangs_delays_neither_fires_nor_the_end(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces, "FAREWELL", 0.2)
    collector.hold.clear()
    spans, clock = spans_to(collector.url), SystemClock()
    began = clock.monotonic()
    for _ in range(2 * traces.MOST_WAITING):
        tells(spans, a_run(state=RunState.SKIPPED))
    filled = clock.monotonic() - began
    await eventually(lambda: collector.paths)
    began = clock.monotonic()
    await spans.aclose()

    assert filled < 10  # some 20 us a span
    assert clock.monotonic() - began < 2
    assert len(spans._processor._batch_processor._queue) <= traces.MOST_WAITING
    collector.hold.set()


async def test_without_the_extra_the_settings_are_unusable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)

    with pytest.raises(ConfigError) as caught:
        spans_to("http://127.0.0.1:1/v1/traces")

    (problem,) = caught.value.problems
    assert (problem.file, problem.path) == ("flowsched.yaml", "traces")
    assert "flowsched[otel]" in str(problem)

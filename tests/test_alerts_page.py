"""What docs/alerts.md shows is what is sent."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from flowsched.alerts import gathering, messages, pings
from flowsched.alerts.deciding import Judge
from flowsched.alerts.tries import PAUSES
from flowsched.config import channels, load_settings
from flowsched.events import RunMoved
from flowsched.model import TOLD_OF, Alert, AlertKind, Message, MessageState, RunState, Source
from tests.builders import a_run, a_schedule
from tests.test_config_schema import ROOT
from tests.test_config_settings import write

if TYPE_CHECKING:
    from pathlib import Path

PAGE = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
AT = datetime(2026, 11, 21, 1, 45, tzinfo=UTC)
ID = "nightly-wind-report"
OVER = Alert(
    kind=AlertKind.OVERDUE,
    subject="hourly-ingest",
    summary="hourly-ingest is overdue no more",
    at=AT,
    over=True,
)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def a_message() -> Message:
    fire_time = AT - timedelta(minutes=15)
    run = a_run(
        id=1742,
        schedule_id=ID,
        fire_time=fire_time,
        state=RunState.FAILED,
        attempts=5,
        reason="gave up after 5 attempts: HTTP 503",
        predicted_instance="3377-20261121013000",
        revision="3f2a1c0ffee0123",
        source=Source("schedules/wind.yaml", 7),
    )
    schedules = {ID: a_schedule(ID, owner="wind-data")}
    (alert,) = Judge(3600, schedules.get).judged(RunMoved(run), AT, 0)
    return Message(
        id=1,
        identity=UUID(int=1),
        channel="hook",
        at=AT,
        state=MessageState.PENDING,
        alerts=(alert,),
        more={},
        attempts=0,
        next_at=AT,
        done_at=None,
        error=None,
    )


@pytest.mark.parametrize("block", blocks("yaml"))
def test_the_settings_of_the_page_can_be_used(block: str, tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, block))

    assert settings.alerts or settings.pings


def test_the_page_shows_a_mail_as_it_is_sent() -> None:
    message = a_message()
    both = replace(message, alerts=(*message.alerts, OVER))

    (shown,) = blocks("text")
    assert shown == f"Subject: {messages.mail_subject(both)}\n\n{messages.text(both, 'plant-7')}"


def test_the_page_shows_the_document_as_it_is_sent() -> None:
    document = messages.document(a_message(), "plant-7")

    (shown,) = blocks("json")
    assert json.loads(shown) == document | {"id": "DOCUMENT_ID", "text": "DOCUMENT_TEXT"}


def test_the_page_names_each_kind_and_the_figures_that_hold() -> None:
    assert re.findall(r"^\| `([a-z_]+)` \| .* \| .* \|$", PAGE, re.MULTILINE) == list(TOLD_OF)
    assert [pause / 60 for pause in PAUSES] == [1, 4, 15, 40]
    assert (gathering.MOST_LISTED, channels.RATE_PER_HOUR) == (20, 20)
    assert (pings.MOST_WAITING, sum(pings.PAUSES), len(pings.PAUSES)) == (20_000, 17, 3)

"""`alerts` and `pings` in flowsched.yaml, and `ping` of a schedule; the ledger's side of messages."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from flowsched.config import channels, load_catalog, load_settings
from flowsched.config.templates import TEXTS, VALUES
from flowsched.config.urls import plain_url
from flowsched.durations import parse_duration
from flowsched.errors import ConfigError, Refused
from flowsched.ledger import Ledger
from flowsched.model import (
    TOLD_OF,
    Alert,
    AlertKind,
    Alerts,
    Channel,
    Command,
    Email,
    Message,
    MessageState,
    Pings,
    SecretSource,
    Slack,
    Tls,
    Webhook,
)
from tests.builders import T0
from tests.test_config_schema import ROOT, SETTINGS, default_in, properties_of
from tests.test_config_settings import write
from tests.test_ledger import plans_of, url_of

if TYPE_CHECKING:
    from pathlib import Path

CHANNEL = ("alerts", "channels", "*")

SMALLEST = """\
alerts:
  channels:
    team: {slack: {url: {env: SLACK_URL}}}
"""

WHOLE = """\
alerts:
  group_wait: 5s
  repeat: 1h
  rate_per_hour: 3
  ca_file: ca.pem
  environment_proxy: true
  channels:
    hook:
      on: [failed, held]
      webhook:
        url: http://127.0.0.1:8080/hook
        headers: {Authorization: {credential: header}}
        secrets: {routing_key: {file: key}}
        template: '{"key": "$routing_key", "alerts": $alerts}'
    mail:
      email:
        host: localhost
        tls: none
        from: a@example.com
        to: [b@example.com, c@example.com]
        user: {env: U}
        password: {env: P}
    page: {command: {argv: [/usr/local/bin/page, --now]}}
pings: {url: "https://hc.example.com/ping/", key: {env: KEY}, ca_file: ca.pem}
"""


def alerts_of(folder: Path, text: str) -> Alerts:
    alerts = load_settings(write(folder, text)).alerts
    assert alerts is not None
    return alerts


def test_without_the_keys_nobody_is_told_of_anything(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path))

    assert (settings.alerts, settings.pings) == (None, None)


def test_the_smallest_alerts_have_all_the_defaults(tmp_path: Path) -> None:
    channel = Channel(name="team", on=frozenset(TOLD_OF), way=Slack(url=SecretSource("env", "SLACK_URL")))

    assert alerts_of(tmp_path, SMALLEST) == Alerts(
        group_wait=timedelta(seconds=30),
        repeat=timedelta(hours=4),
        rate_per_hour=20,
        ca_file=None,
        environment_proxy=False,
        channels={"team": channel},
    )


def test_all_of_it_can_be_written(tmp_path: Path) -> None:
    alerts = alerts_of(tmp_path, WHOLE)
    user, password = SecretSource("env", "U"), SecretSource("env", "P")
    hook = Webhook(
        url="http://127.0.0.1:8080/hook",
        headers={"Authorization": SecretSource("credential", "header")},
        template='{"key": "$routing_key", "alerts": $alerts}',
        secrets={"routing_key": SecretSource("file", f"{tmp_path}/key")},
    )
    mail = Email(
        host="localhost",
        port=25,
        tls=Tls.NONE,
        from_="a@example.com",
        to=("b@example.com", "c@example.com"),
        user=user,
        password=password,
    )

    assert (
        alerts.group_wait,
        alerts.repeat,
        alerts.rate_per_hour,
        alerts.ca_file,
        alerts.environment_proxy,
    ) == (
        timedelta(seconds=5),
        timedelta(hours=1),
        3,
        f"{tmp_path}/ca.pem",
        True,
    )
    assert alerts.channels["hook"] == Channel(
        name="hook", on=frozenset({AlertKind.FAILED, AlertKind.HELD}), way=hook
    )
    assert [alerts.channels[name].way for name in ("mail", "page")] == [
        mail,
        Command(argv=("/usr/local/bin/page", "--now")),
    ]
    assert load_settings(tmp_path / "flowsched.yaml").pings == Pings(
        url="https://hc.example.com/ping",
        key=SecretSource("env", "KEY"),
        ca_file=f"{tmp_path}/ca.pem",
        environment_proxy=False,
    )


@pytest.mark.parametrize(("tls", "port"), [("starttls", 587), ("tls", 465), ("none", 25)])
def test_the_port_of_a_mail_server_follows_from_how_it_is_spoken_to(
    tls: str, port: int, tmp_path: Path
) -> None:
    mail = f"{{host: smtp.example.com, from: a@example.com, to: [b@example.com], tls: {tls}}}"

    way = alerts_of(tmp_path, f"alerts: {{channels: {{mail: {{email: {mail}}}}}}}\n").channels["mail"].way

    assert isinstance(way, Email)
    assert way.port == port


def test_the_defaults_that_are_described_are_those_that_are_taken() -> None:
    described = {
        key: default_in(value["description"])
        for key, value in properties_of(SETTINGS, "alerts").items()
        if key in ("group_wait", "repeat", "rate_per_hour")
    }

    assert parse_duration(described["group_wait"]) == channels.GROUP_WAIT
    assert parse_duration(described["repeat"]) == channels.REPEAT
    assert described["rate_per_hour"] == str(channels.RATE_PER_HOUR)


def test_the_keys_are_the_fields_of_their_records() -> None:
    def names(record: type) -> set[str]:
        return {field.name.rstrip("_") for field in fields(record)}

    ways = {"webhook": Webhook, "slack": Slack, "email": Email, "command": Command}
    assert set(properties_of(SETTINGS, "alerts")) == names(Alerts)
    assert set(properties_of(SETTINGS, "pings")) == names(Pings)
    assert set(properties_of(SETTINGS, *CHANNEL)) == {*ways, "on"}
    for key, record in ways.items():
        assert set(properties_of(SETTINGS, *CHANNEL, key)) == names(record)
    kinds = properties_of(SETTINGS, *CHANNEL)["on"]["items"]["enum"]
    assert kinds == [kind.value for kind in TOLD_OF]


def test_the_description_of_a_template_names_every_placeholder() -> None:
    said = properties_of(SETTINGS, *CHANNEL, "webhook")["template"]["description"]

    assert [name for name in (*TEXTS, *VALUES) if f"${name}" not in said] == []


def test_the_example_has_each_kind_of_channel() -> None:
    settings = load_settings(ROOT / "flowsched.example.yaml")

    assert settings.alerts is not None
    ways = {type(channel.way) for channel in settings.alerts.channels.values()}
    assert ways == {Webhook, Slack, Email, Command}
    assert settings.pings is not None


@pytest.mark.parametrize(
    "url",
    [
        "https://a.example.com?key=planted",
        "https://planted@a.example.com/",
        "https://a.example.com/#planted",
        "http://planted.example.com",
        "file:///planted",
        "https://a.example.com:99999/planted",
        "planted",
    ],
)
def test_a_url_in_the_file_holds_no_secret_and_is_not_repeated(url: str) -> None:
    with pytest.raises(Refused) as caught:
        plain_url(url)

    assert "planted" not in str(caught.value)


def test_a_schedule_may_have_a_slug_where_the_settings_say_where_it_is_pinged(tmp_path: Path) -> None:
    (tmp_path / "schedules").mkdir()
    (tmp_path / "schedules" / "a.yaml").write_text(
        "schedules:\n  nightly: {cron: '@daily', timezone: UTC, flow: 1, ping: nightly-report}\n"
        "  hourly: {cron: '@hourly', timezone: UTC, flow: 2}\n"
    )
    with_pings = load_settings(write(tmp_path, "pings: {url: https://hc-ping.com}\n"))
    loaded = [load_catalog(with_pings.schedules, settings) for settings in (with_pings, None)]

    assert [each.schedules["nightly"].ping for each in loaded] == ["nightly-report"] * 2
    assert loaded[0].schedules["hourly"].ping is None
    with pytest.raises(ConfigError, match="does not say where pings are sent"):
        load_catalog(with_pings.schedules, replace(with_pings, pings=None))


def a_message(**more: Any) -> Message:
    alert = Alert(
        kind=AlertKind.FAILED, subject="nightly", summary="failed", at=T0, before=2, details={"run": 17}
    )
    usual: dict[str, Any] = {
        "id": None,
        "identity": UUID(int=5),
        "channel": "team",
        "at": T0,
        "state": MessageState.GATHERING,
        "alerts": (alert, replace(alert, over=True)),
        "more": {AlertKind.MISSED: 7},
        "attempts": 0,
        "next_at": T0,
        "done_at": None,
        "error": None,
    }
    return Message(**(usual | more))


async def test_a_message_comes_back_from_the_ledger_as_it_was(tmp_path: Path) -> None:
    async with await Ledger.open(url_of(tmp_path)) as ledger:
        mail = a_message(channel="mail", identity=UUID(int=6))
        ids = await ledger.keep_messages([a_message(), mail])
        sent = a_message(id=ids[0], state=MessageState.SENT, attempts=1, next_at=None, done_at=T0)
        again = await ledger.keep_messages([sent])

        assert again == ids[:1]
        assert await ledger.open_messages() == [replace(mail, id=ids[1])]
        assert await ledger.messages() == [replace(mail, id=ids[1]), sent]
        assert await ledger.messages_begun_since(T0) == [("mail", T0), ("team", T0)]
        assert await ledger.messages_begun_since(T0 + timedelta(seconds=1)) == []


async def test_a_message_whose_id_was_never_learnt_is_written_once(tmp_path: Path) -> None:
    async with await Ledger.open(url_of(tmp_path)) as ledger:
        first = await ledger.keep_messages([a_message()])
        second = await ledger.keep_messages([a_message(state=MessageState.SENT, next_at=None, done_at=T0)])

        assert first == second
        assert [each.state for each in await ledger.messages()] == [MessageState.SENT]


async def test_a_message_that_is_gone_from_the_ledger_is_written_anew(tmp_path: Path) -> None:
    async with await Ledger.open(url_of(tmp_path)) as ledger:
        await ledger.keep_messages([a_message(id=99)])

        assert len(await ledger.messages()) == 1


async def test_old_messages_are_forgotten_with_old_runs_but_not_those_under_way(tmp_path: Path) -> None:
    async with await Ledger.open(url_of(tmp_path)) as ledger:
        done = {"state": MessageState.SENT, "next_at": None, "done_at": T0}
        await ledger.keep_messages(
            [
                a_message(),
                a_message(identity=UUID(int=6), **done),
                a_message(identity=UUID(int=7), at=T0 + timedelta(1), **done),
            ]
        )

        await ledger.forget(T0 + timedelta(hours=1), 100)

        left = await ledger.messages()
        assert sorted(each.state for each in left) == [MessageState.GATHERING, MessageState.SENT]


async def test_no_reading_scans_the_messages(tmp_path: Path) -> None:
    async with await Ledger.open(url_of(tmp_path)) as ledger:
        plans = [
            step
            for ask in (
                lambda books: books.outbox.open(),
                lambda books: books.outbox.newest(5),
                lambda books: books.outbox.begun_since(T0),
                lambda books: books.outbox.forget(T0),
            )
            for step in await plans_of(ledger, ask)
        ]

    assert [step for step in plans if "SCAN" in step and "USING" not in step] == []


@pytest.mark.parametrize(
    "to", ["a@b.example,d@e.example", "a@b.example;d@e.example", "A <a@b.example>", "a@b@c"]
)
def test_what_is_not_one_mail_address_is_refused(to: str, tmp_path: Path) -> None:
    mail = f"{{host: smtp.example.com, from: a@example.com, to: ['{to}']}}"

    with pytest.raises(ConfigError, match="is not a mail address"):
        load_settings(write(tmp_path, f"alerts: {{channels: {{mail: {{email: {mail}}}}}}}\n"))

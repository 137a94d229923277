from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from flowsched.config import find_settings, load_settings
from flowsched.errors import ConfigError
from flowsched.model import FIRES_A_DAY, Email, Limits, SecretSource, Slack, Webhook

ROOT = Path(__file__).parents[1]

SMALLEST = """\
schedules: schedules
ledger: sqlite:///ledger.db
targets:
  only:
    url: {url}
    org_id: o1
    user_id: u1
    access_key: {{env: ENOS_ACCESS_KEY}}
    secret_key: {{file: secret}}
"""


def write(folder: Path, more: str = "", url: str = "https://apim.example.com") -> Path:
    path = folder / "flowsched.yaml"
    path.write_text(SMALLEST.format(url=url) + more)
    return path


def test_the_smallest_file_has_all_the_defaults(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path))

    target = settings.targets["only"]
    assert settings.schedules == f"{tmp_path}/schedules"
    assert settings.ledger == f"sqlite:///{tmp_path}/ledger.db"
    assert settings.file == f"{tmp_path}/flowsched.yaml"
    assert (settings.keep, settings.clock_tolerance) == (timedelta(days=400), timedelta(seconds=30))
    assert settings.max_change == 25
    assert target.api_version == "v2.1"
    assert target.limits == Limits(concurrency=20, rate_per_minute=None)
    assert target.access_key == SecretSource("env", "ENOS_ACCESS_KEY")
    assert target.secret_key == SecretSource("file", f"{tmp_path}/secret")
    assert (target.ca_file, target.environment_proxy) == (None, False)
    assert str(target.source) == f"{tmp_path}/flowsched.yaml:4"


def test_where_keys_and_schedules_are_named_is_known(tmp_path: Path) -> None:
    more = """\
pings: {url: "http://127.0.0.1:1", key: {env: PING}}
alerts:
  channels:
    night: {slack: {url: {env: SLACK}}}
    mail:
      email: {host: h, from: a@b, to: [c@d], user: {env: U}, password: {env: P}}
    hook:
      webhook:
        url: {env: HOOK}
        headers: {Authorization: {env: HEADER}}
        secrets: {routing: {env: ROUTING}}
"""
    settings = load_settings(write(tmp_path, more=more))

    assert settings.alerts
    assert settings.pings
    night, mail, hook = (settings.alerts.channels[name].way for name in ("night", "mail", "hook"))
    assert isinstance(night, Slack)
    assert isinstance(mail, Email)
    assert isinstance(hook, Webhook)
    only = settings.targets["only"]
    keys = (only.access_key, only.secret_key, settings.pings.key, night.url, mail.user, mail.password)
    assert [str(key).removeprefix(f"{settings.file}:") for key in (*keys, hook.url)] == [
        "8:5: targets.only.access_key: env ENOS_ACCESS_KEY",
        f"9:5: targets.only.secret_key: file {tmp_path}/secret",
        "10:36: pings.key: env PING",
        "13:21: alerts.channels.night.slack.url: env SLACK",
        "15:46: alerts.channels.mail.email.user: env U",
        "15:62: alerts.channels.mail.email.password: env P",
        "18:9: alerts.channels.hook.webhook.url: env HOOK",
    ]
    # The names of headers and placeholders are hidden, as somebody may have written a secret there.
    header, routing = hook.headers["Authorization"], hook.secrets["routing"]
    assert str(header).endswith(":19:19: alerts.channels.hook.webhook.headers.<not shown>: env HEADER")
    assert str(routing).endswith(":20:19: alerts.channels.hook.webhook.secrets.<not shown>: env ROUTING")
    assert str(settings.schedules_place) == f"{settings.file}:1:1"


def test_how_long_runs_are_kept_and_how_far_clocks_may_differ_can_be_set(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, more="keep: 31d\nclock_tolerance: 1h\n"))

    assert (settings.keep, settings.clock_tolerance) == (timedelta(days=31), timedelta(hours=1))


def test_how_often_a_schedule_may_fire_without_a_warning_can_be_set(tmp_path: Path) -> None:
    assert load_settings(write(tmp_path)).fires_a_day == FIRES_A_DAY == 288
    assert load_settings(write(tmp_path, more="review: {fires_a_day: 24}\n")).fires_a_day == 24


@pytest.mark.parametrize(("written", "percentage"), [("0%", 0), ("7%", 7), ("'33%'", 33), ("100%", 100)])
def test_what_a_reload_may_change_unasked_is_a_percentage(
    tmp_path: Path, written: str, percentage: int
) -> None:
    settings = load_settings(write(tmp_path, more=f"apply: {{max_change: {written}}}\n"))

    assert settings.max_change == percentage


def test_relative_paths_begin_at_the_folder_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, more="    ca_file: ca.pem\n")
    monkeypatch.chdir(tmp_path.parent)

    settings = load_settings(Path(tmp_path.name, "flowsched.yaml"))

    assert settings.file == f"{tmp_path.name}/flowsched.yaml"
    assert settings.schedules == f"{tmp_path}/schedules"
    assert settings.targets["only"].ca_file == f"{tmp_path}/ca.pem"


def test_absolute_paths_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "flowsched.yaml"
    text = SMALLEST.format(url="https://apim.example.com")
    path.write_text(
        text.replace("sqlite:///ledger", "sqlite:////var/ledger").replace("schedules: s", "schedules: /s")
    )

    settings = load_settings(path)

    assert (settings.ledger, settings.schedules) == ("sqlite:////var/ledger.db", "/schedules")


def test_limits_of_a_target_are_merged_key_by_key_over_those_of_all(tmp_path: Path) -> None:
    more = "    limits: {concurrency: 3}\nlimits: {concurrency: 7, rate_per_minute: 60}\n"

    settings = load_settings(write(tmp_path, more))

    assert settings.targets["only"].limits == Limits(concurrency=3, rate_per_minute=60)


def test_null_lifts_the_rate_limit_of_all(tmp_path: Path) -> None:
    more = "    limits: {rate_per_minute: null}\nlimits: {rate_per_minute: 60}\n"

    settings = load_settings(write(tmp_path, more))

    assert settings.targets["only"].limits == Limits(concurrency=20, rate_per_minute=None)


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("https://apim.example.com", "https://apim.example.com"),
        ("https://APIM.Example.com:8443/", "https://apim.example.com:8443"),
        ("https://10.0.0.1", "https://10.0.0.1"),
        ("'https://[2001:db8::1]:443'", "https://[2001:db8::1]:443"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.7.7.7", "http://127.7.7.7"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("'http://[::1]:8080'", "http://[::1]:8080"),
    ],
)
def test_a_gateway_is_scheme_host_and_port(written: str, kept: str, tmp_path: Path) -> None:
    assert load_settings(write(tmp_path, url=written)).targets["only"].url == kept


@pytest.mark.parametrize(
    "url",
    [
        "ftp://apim.example.com",
        "https://",
        "https://apim.example.com?a=b",
        "'https://apim.example.com#a'",
        "https://apim.example.com//",
        "https://apim.example.com:0",
        "'https://apim.example.com:'",
        "https://apim..example.com",
        "'https://[::1'",
        "'https://[1:2]'",
        "'https://[fe80::1%eth0]'",
        "'https://apim.example.com evil'",
        "https://ap\u0131m.example.com",
        "http://10.0.0.1",
        "http://localhost.example.com",
        "http://127.0.0.1.example.com",
        "http://127.0.0.1@example.com",
    ],
)
def test_any_other_url_is_refused_and_not_repeated(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(write(tmp_path, url=url))

    (problem,) = caught.value.problems
    assert (problem.line, problem.path) == (5, "targets.only.url")
    assert url.strip("'") not in problem.message


def test_the_example_is_valid_and_complete() -> None:
    settings = load_settings(ROOT / "flowsched.example.yaml")

    assert settings.targets["default"].limits == Limits(concurrency=20, rate_per_minute=None)
    assert settings.targets["on-site"].api_version == "v2.0"
    assert settings.schedules == str(ROOT / "schedules")
    assert (settings.keep, settings.clock_tolerance) == (timedelta(days=400), timedelta(seconds=30))
    assert settings.max_change == 25


def test_the_option_comes_before_the_variable_and_the_variable_before_the_folder(tmp_path: Path) -> None:
    for name in ("option.yaml", "variable.yaml", "flowsched.yaml"):
        (tmp_path / name).touch()
    environ = {"FLOWSCHED_CONFIG": "variable.yaml"}

    assert find_settings("option.yaml", environ, tmp_path) == tmp_path / "option.yaml"
    assert find_settings(None, environ, tmp_path) == tmp_path / "variable.yaml"
    assert find_settings(None, {}, tmp_path) == tmp_path / "flowsched.yaml"
    assert find_settings(None, {"FLOWSCHED_CONFIG": ""}, tmp_path) == tmp_path / "flowsched.yaml"


def test_a_path_relative_to_here_stays_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "flowsched.yaml").touch()
    monkeypatch.chdir(tmp_path)

    assert str(find_settings(None, {}, Path())) == "flowsched.yaml"


@pytest.mark.skipif(os.path.lexists("/etc/flowsched"), reason="this machine has settings of its own")
def test_without_any_file_there_are_no_settings(tmp_path: Path) -> None:
    assert find_settings(None, {}, tmp_path) is None


@pytest.mark.parametrize(
    ("option", "environ", "origin"),
    [("no.yaml", {}, "--config"), (None, {"FLOWSCHED_CONFIG": "no.yaml"}, "FLOWSCHED_CONFIG")],
)
def test_a_named_file_must_exist(
    option: str | None, environ: dict[str, str], origin: str, tmp_path: Path
) -> None:
    (tmp_path / "flowsched.yaml").touch()

    with pytest.raises(ConfigError) as caught:
        find_settings(option, environ, tmp_path)

    assert (
        str(caught.value)
        == f"no.yaml: does not exist; {origin} names it; allowed: the path of a flowsched.yaml"
    )


def test_a_folder_is_no_file_of_settings(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder; allowed: a regular file"):
        load_settings(tmp_path)


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist, or no longer does"):
        load_settings(tmp_path / "flowsched.yaml")

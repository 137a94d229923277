"""Whatever stands in the files, a command ends with a report: never with a fault of its own.

`tests/fuzz/validate.py` asks the same, guided by coverage and for as long as one likes.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from flowsched.cli import FINE, FOUND, UNUSABLE, main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hypothesis.strategies import SearchStrategy

ROOT = Path(__file__).parents[1]
EXAMPLES = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "schedules").glob("*.yaml"))]
NOW = "2026-11-22T00:00Z"
ICAL = b"""\
BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//test//
BEGIN:VEVENT
UID:1
DTSTAMP:20260101T000000Z
DTSTART:20261123T220000
DTEND:20261124T040000
RRULE:FREQ=WEEKLY;COUNT=9
END:VEVENT
END:VCALENDAR
"""

NASTY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["", "~", "null", "-1", "..", "*", "=", "9" * 30, "\u202e", "é", "a\nb", "2026-02-30"]),
    st.lists(st.integers() | st.text(max_size=3), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers() | st.none(), max_size=2),
)


SLIPS = st.lists(st.tuples(st.floats(0, 1), st.sampled_from(["value", "key", "gone"]), NASTY), max_size=3)
"""Where in the data somebody slips, and what stands there then."""


def slipped(data: Any, slips: list[tuple[float, str, Any]]) -> Any:
    """Return data in which some values and keys are others, or gone."""
    whole = deepcopy(data)
    for place, what, nasty in slips:
        holders = [holder for holder in below(whole) if holder]
        spots = [(holder, key) for holder in holders for key in keys_of(holder)]
        if spots:
            holder, key = spots[int(place * (len(spots) - 1))]
            old = holder.pop(key)
            if what == "value" and isinstance(holder, dict):
                holder[key] = nasty
            elif what == "value":
                holder.insert(key, nasty)
            elif what == "key" and isinstance(holder, dict):
                holder[f"{key}s"] = old
    return whole


def below(data: Any) -> Iterator[Any]:
    """Yield every mapping and list of some data."""
    if isinstance(data, dict | list):
        yield data
        for each in data.values() if isinstance(data, dict) else data:
            yield from below(each)


def keys_of(holder: Any) -> list[Any]:
    return list(holder) if isinstance(holder, dict) else list(range(len(holder)))


def one_of(*values: Any) -> SearchStrategy[Any]:
    return st.sampled_from(values)


def some_of(*values: Any) -> SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True)


def mapping(**optional: SearchStrategy[Any]) -> SearchStrategy[dict[str, Any]]:
    """Return a mapping with at least one of some keys."""
    return st.fixed_dictionaries({}, optional=optional).filter(bool)


# Valid values, of the odd sort; the slips come on top.
IDS = one_of("nightly", "Nightly", "night-ly", "night_ly", "hourly", "b", "0", "x" * 100)
CRONS = one_of(
    "30 2 * * *", "*/7 * * * *", "* * * * *", "*/40 */5 * * *", "0 0 29 2 *", "0 0 L * *", "0 0 * * 1#5",
    "30 2 29 3 *", "0 0 1 1 MON", "@hourly", "@yearly", "2-59/7 * * * *", "15,45 0-4 * * SAT,SUN",
)  # fmt: skip
ZONES = one_of(
    "UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/Santiago", "Pacific/Apia", "Africa/Casablanca",
    "Asia/Kathmandu",
)  # fmt: skip
REASONS = one_of("agreed", "x" * 500, "| `ticks` <b> @all ]]> ::error::")
SHARED = {
    "owner": one_of("wind-data"),
    "enabled": one_of(True, False),
    "catch_up": one_of("none", "latest", "all"),
    "catch_up_window": one_of("0s", "1h30m", "30d"),
    "overlap": one_of("queue", "skip", "cancel_previous"),
    "jitter": one_of("0s", "59s", "1d"),
    "watch": one_of(None, {"timeout": "1m"}, {"timeout": "30d"}),
    "retry": mapping(
        max_attempts=one_of(1, 100), initial_backoff=one_of("1s", "5m"), deadline=one_of("1s", "15m", "1d")
    ),
    "blackout": st.none()
    | st.fixed_dictionaries({"calendars": some_of("works", "grid"), "then": one_of("skip", "defer")}),
    "accept": st.fixed_dictionaries(
        {"missing-owner": REASONS},
        optional={
            "uneven-step": REASONS,
            "never-fires": REASONS,
            "similar-ids": REASONS,
            "collision": st.dictionaries(IDS, REASONS, min_size=1, max_size=2),
        },
    ),
}
SCHEDULE = st.fixed_dictionaries(
    {"cron": CRONS, "flow": one_of(1, 1, 2)},
    optional={
        **SHARED,
        "timezone": ZONES,
        "task": one_of(1, 2, 2**31 - 1),
        "starts_at": one_of("1970-01-01", "2026-03-29T02:30", "2026-11-22T00:00Z"),
        "ends_at": one_of("2026-11-22T00:01Z", "2026-12-31T23:59-12:00", "9998-12-31"),
        "renamed_from": st.integers(0, 10**6).map("was-{}".format),
        "description": one_of("| pipes | `ticks` <b> @all ## :::", "x" * 200, "\n\n```\n</details>"),
    },
)
CALENDAR = mapping(
    dates=some_of("2026-12-24", "2026-11-22..2027-01-02", "2026-03-29T02:30..2026-03-29T03:30"),
    yearly=some_of("12-25", "02-29", "12-24..01-01"),
    weekly=some_of("SUN", "SAT..SUN", "FRI 22:00..MON 06:00", "MON 02:30..SUN 02:30"),
    holidays=one_of([{"country": "DE"}], [{"country": "DE", "subdivision": "BE"}, {"country": "JP"}]),
    ical=one_of(["a.ics"]),
)


def renamed_once(schedules: dict[str, Any]) -> bool:
    former = [each["renamed_from"] for each in schedules.values() if "renamed_from" in each]
    return len(set(former)) == len(former)


CATALOG = st.fixed_dictionaries(
    {
        "defaults": st.fixed_dictionaries({"timezone": ZONES}, optional=SHARED),
        "calendars": st.fixed_dictionaries({"works": CALENDAR, "grid": CALENDAR}),
        "schedules": st.dictionaries(IDS, SCHEDULE, min_size=1, max_size=5).filter(renamed_once),
    }
)
POINTS = one_of(
    "2026-10-26T00:00", "2026-10-26T02:30+01:00", "2026-11-01T18:00Z", "2026-11-02T02:30", "2026-10-30T01:00"
)  # fmt: skip
FIRES = mapping(
    exactly=st.lists(POINTS, max_size=3, unique=True),
    at_least=st.lists(POINTS, min_size=1, max_size=3, unique=True),
    never=st.lists(POINTS | one_of("2026-10-25", "2026-11-01"), min_size=1, max_size=3, unique=True),
    count=one_of(0, 1, 100_000),
    deferred=st.dictionaries(POINTS, one_of("2026-11-02T06:00"), min_size=1, max_size=2),
)


def expecting(*ids: str) -> SearchStrategy[dict[str, Any]]:
    """Return the data of test files for schedules of these ids."""
    test = st.fixed_dictionaries(
        {
            "name": one_of("as agreed", "% and :: and ]]> and <b>", "x" * 200),
            "schedule": one_of(*ids),
            "from": one_of("2026-10-25", "2026-10-24T00:00Z"),
            "until": one_of("2026-11-05", "2026-11-20"),
            "fires": FIRES,
        },
        optional={"timezone": ZONES},
    )
    several = st.lists(test, min_size=1, max_size=3, unique_by=lambda test: test["name"])
    return st.fixed_dictionaries({"timezone": ZONES, "tests": several})


TESTS = expecting("nightly", "b", "hourly")
TESTED = CATALOG.flatmap(lambda catalog: st.tuples(st.just(catalog), expecting(*catalog["schedules"])))
"""A catalog, and tests of its own schedules."""
SETTINGS = st.fixed_dictionaries(
    {
        "schedules": one_of("new/schedules"),
        "ledger": one_of("sqlite:///ledger.db"),
        "targets": st.fixed_dictionaries(
            {
                "default": st.fixed_dictionaries(
                    {
                        "url": one_of("http://127.0.0.1:1", "https://a.example"),
                        "org_id": one_of("o1"),
                        "user_id": one_of("u1"),
                        "access_key": one_of({"env": "AK"}),
                        "secret_key": one_of({"file": "SK"}),
                    },
                    optional={
                        "limits": mapping(rate_per_minute=one_of(1, None), concurrency=one_of(1)),
                        "api_version": one_of("v2.0", "v2.1"),
                    },
                )
            }
        ),
    },
    optional={
        "review": one_of({"fires_a_day": 1}),
        "apply": one_of({"max_change": "0%"}),
    },
)
BITS = st.sampled_from(
    [
        *("schedules:", "defaults:", "cron: ", '"* * * * *"', "timezone: ", "UTC", "accept: ", "blackout: "),
        *(
            "\n",
            "  ",
            "-",
            ": ",
            "{",
            "}",
            "[",
            "]",
            ",",
            "&a ",
            "*a ",
            "<<: ",
            "!!x ",
            "|",
            "'",
            '"',
            "#",
            "0",
        ),
        *("\t", "\r", "\x00", "\u2028", "\ufeff", "? ", "---\n", "..", "*/7"),
    ]
)
EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 40), BITS | st.text(max_size=3)), max_size=6)


def written(data: Any, slips: list[tuple[float, str, Any]]) -> bytes:
    """Return data as YAML, slips included."""
    return yaml.safe_dump(slipped(data, slips), allow_unicode=True, sort_keys=False).encode(
        errors="surrogatepass"
    )


def edited(text: str, edits: list[tuple[float, int, str]]) -> bytes:
    """Return a text in which, at some places, some characters were replaced by others."""
    for place, length, bit in edits:
        begin = int(place * len(text))
        text = text[:begin] + bit + text[begin + length :]
    return text.encode(errors="surrogatepass")


def grown(data: SearchStrategy[Any]) -> SearchStrategy[bytes]:
    """Return valid data as YAML, every other time with slips."""
    return st.builds(written, data, st.just([]) | SLIPS)


SOUP = (
    st.binary(max_size=200)
    | st.lists(BITS, max_size=40).map("".join).map(str.encode)
    | st.builds(edited, st.sampled_from(EXAMPLES), EDITS)
)
"""Bytes, text in the way of YAML, and real files with slips."""
SOUND = st.builds(written, CATALOG, st.just([]))
STATES = st.sampled_from(range(8)).flatmap(
    lambda number: st.tuples(*[grown(CATALOG) | SOUP if number in (3, 6) else SOUND] * 2)
)
"""Two states, three times of four such as can be compared."""


def bounded(examples: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=examples,
        derandomize=True,
        phases=[Phase.generate],  # to make a finding smaller takes minutes
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz")
    for state in ("old", "new"):
        (folder / state / "schedules").mkdir(parents=True)
        (folder / state / "schedules" / "a.ics").write_bytes(ICAL)
    return folder


@pytest.fixture(autouse=True)
def _inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("FLOWSCHED_CONFIG", raising=False)


def put(name: str, content: bytes) -> None:
    Path(name).write_bytes(content)


def ends_well(*line: str) -> tuple[int, str]:
    """Run a command line; it may find whatever it likes, but has to find it. Return both it and the text."""
    said, faults = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(faults):
        code = main(list(line))
    assert code in (FINE, FOUND, UNUSABLE), f"{line} ended with {code}:\n{said.getvalue()}{faults.getvalue()}"
    return code, said.getvalue()


@bounded(150)
@given(content=SOUP)
def test_any_text_as_a_schedule_file_gets_a_report(content: bytes) -> None:
    put("new/schedules/a.yaml", content)

    ends_well("validate", "new/schedules", "--at", NOW)


@bounded(150)
@given(content=SOUP | grown(TESTS))
def test_any_text_as_a_test_file_gets_a_report(content: bytes) -> None:
    put("new/schedules/a.yaml", EXAMPLES[-1].encode())
    put("soup.test.yaml", content)

    ends_well("test", "--schedules", "new/schedules", "soup.test.yaml")


@bounded(150)
@given(
    catalog=grown(CATALOG),
    configured=grown(SETTINGS),
    format_=st.sampled_from(["text", "json", "github", "sarif", "junit"]),
)
def test_any_catalog_is_validated(catalog: bytes, configured: bytes, format_: str) -> None:
    put("new/schedules/a.yaml", catalog)
    put("settings.yaml", configured)

    ends_well("validate", "new/schedules", "--at", NOW, "--format", format_)
    ends_well("--config", "settings.yaml", "validate", "new/schedules", "--at", NOW, "--format", format_)


@bounded(80)
@given(
    catalog=grown(CATALOG),
    tests=grown(TESTS),
    format_=st.sampled_from(["text", "json", "github", "sarif", "junit"]),
)
def test_any_catalog_is_held_against_any_tests(catalog: bytes, tests: bytes, format_: str) -> None:
    put("new/schedules/a.yaml", catalog)
    put("grown.test.yaml", tests)

    ends_well("test", "--schedules", "new/schedules", "grown.test.yaml", "--format", format_)


def test_what_a_catalog_does_is_what_a_test_may_expect_of_it() -> None:
    agreed = 0

    @bounded(60)
    @given(tested=TESTED, format_=st.sampled_from(["text", "json", "github", "sarif", "junit"]))
    def held(tested: tuple[Any, Any], format_: str) -> None:
        nonlocal agreed
        catalog, tests = tested
        put("new/schedules/a.yaml", written(catalog, []))
        put("own.test.yaml", written(tests, []))
        line = ("test", "--schedules", "new/schedules", "own.test.yaml", "--format")
        told = json.loads(ends_well(*line, "json")[1])["tests"]
        fires = {each["name"]: each["fires"] for each in told if "fires" in each}
        right = [
            {**each, "fires": {"count": fires[each["name"]]}}
            for each in tests["tests"]
            if each["name"] in fires
        ]
        if right:
            put("own.test.yaml", written({**tests, "tests": right}, []))
            code, said = ends_well(*line, format_)
            assert code == FINE, said
            agreed += 1

    held()

    assert agreed >= 15, "of 60; about half of them have a test that can be right"


def test_any_two_states_get_a_plan() -> None:
    codes: Counter[int] = Counter()

    @bounded(80)
    @given(states=STATES, format_=st.sampled_from(["text", "markdown", "json"]))
    def compared(states: tuple[bytes, bytes], format_: str) -> None:
        put("old/schedules/a.yaml", states[0])
        put("new/schedules/a.yaml", states[1])
        sides = ("--from", "./old/schedules", "--to", "./new/schedules")
        code, _ = ends_well("plan", *sides, "--at", NOW, "--horizon", "3d", "--format", format_)
        codes[code] += 1

    compared()

    assert codes[FINE] >= 40
    assert codes[FOUND] >= 10

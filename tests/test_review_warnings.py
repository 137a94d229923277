"""Warnings: what is said of which schedule, and what takes it back."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsched import cron
from flowsched.cron import lint
from flowsched.errors import Problem, Severity
from flowsched.model import (
    Acceptance,
    Blackout,
    Calendar,
    Catalog,
    Days,
    Limits,
    Schedule,
    Source,
    Then,
    WeeklyWindow,
)
from flowsched.review.collisions import Collision, Collisions
from flowsched.review.rules import RULES
from flowsched.review.warnings import warnings
from tests.builders import RETRY, a_schedule

NOW = datetime(2026, 11, 22, tzinfo=UTC)
NO_COLLISIONS = Collisions((), {})
REASON = "agreed with grid-ops"


def place(schedule: Schedule, path: tuple[str, ...]) -> tuple[str, int, int]:
    return schedule.source.file, schedule.source.line + len(path), 5


def told(*schedules: Schedule, **more: Any) -> list[Problem]:
    """Return the warnings, but for those about people: the schedules of the builders have neither."""
    settled = [replace(each, owner="ops", description="a report") for each in schedules]
    return everything_told(*settled, **more)


def everything_told(*schedules: Schedule, **more: Any) -> list[Problem]:
    arguments = {
        "now": NOW,
        "limits": {},
        "fires_a_day": 288,
        "place": place,
        "collisions": NO_COLLISIONS,
        **more,
    }
    return warnings(Catalog({each.id: each for each in schedules}, "r1"), **arguments)


def rules(problems: list[Problem]) -> list[str]:
    return [problem.rule for problem in problems]


def message(problems: list[Problem]) -> str:
    (problem,) = problems
    return problem.message


def test_a_plain_schedule_gets_no_warning() -> None:
    assert told(a_schedule()) == []


def test_a_warning_has_its_place_its_rule_and_what_is_allowed() -> None:
    assert told(a_schedule(cron="*/7 * * * *", retry=replace(RETRY, deadline=timedelta(minutes=4)))) == [
        Problem(
            "schedules/a.yaml",
            4,
            5,
            "schedules.nightly.cron",
            "minute '*/7' is 0, 7, 14, 21, 28, 35, 42, 49, 56: the step after 56 is 4 minutes",
            "a step that divides the hour, such as 6 or 10",
            "uneven-step",
            Severity.WARNING,
        )
    ]


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        (
            "2-59/7 * * * *",
            "minute '2-59/7' is 2, 9, 16, 23, 30, 37, 44, 51, 58: the step after 58 is 4 minutes",
        ),
        ("*/45 * * * *", "minute '*/45' is 0, 45: the step after 45 is 15 minutes"),
        ("*/4 * * * *", None),
        ("*/11 * * * *", "minute '*/11' is 0, 11, 22, 33, 44, 55: the step after 55 is 5 minutes"),
        ("7/9 * * * *", "minute '7/9' is 7, 16, 25, 34, 43, 52: the step after 52 is 15 minutes"),
        ("*/90 * * * *", "minute '*/90' is 0 alone: the step is longer than the hour"),
        ("*/60 * * * *", None),
        ("5-59/15 * * * *", None),
        ("10-50/20 * * * *", None),
        ("0-29/7 * * * *", None),  # half of the hour, and all that it can be
        ("*/7,58 * * * *", None),  # a list was written value by value
        ("*/7 2 * * *", None),  # goes round in no hour
        ("*/7 2,3 * * *", "minute '*/7' is 0, 7, 14, 21, 28, 35, 42, 49, 56: the step after 56 is 4 minutes"),
        ("0 */5 * * *", "hour '*/5' is 0, 5, 10, 15, 20: the step after 20 is 4 hours"),
        ("0 */5 * * 1", None),
        ("0 9-17/3 * * *", None),
        ("0 */8 * * *", None),
        ("0 0 1 */5 *", "month '*/5' is 1, 6, 11: the step after 11 is 2 months"),
        ("0 0 1 */4 *", None),
        ("0 0 * * */2", "weekday '*/2' is 0, 2, 4, 6: the step after 6 is 1 day"),
        ("0 0 * * */7", None),
        ("0 0 * * 1-5/2", None),
        ("0 0 * * 1-7/2", "weekday '1-7/2' is 0, 1, 3, 5: the step after 0 is 1 day"),
        (
            "0 0 */10 * *",
            "day-of-month '*/10' is 1, 11, 21, 31: the step into the next month is 1, 8, 9 or 10 days",
        ),
        ("0 0 */2 2 *", None),  # of one month
        ("@hourly", None),
    ],
)  # fmt: skip
def test_steps_that_are_not_of_one_length_are_shown_as_they_are(expression: str, said: str | None) -> None:
    doubts = lint.uneven_steps(expression)

    assert [doubt.message for doubt in doubts] == ([said] if said else [])


@given(st.integers(2, 59), st.integers(0, 59))
def test_a_step_of_minutes_is_uneven_where_the_gaps_of_a_day_differ(step: int, first: int) -> None:
    expression = f"{first}-59/{step} * * * *" if first < 59 else f"59/{step} * * * *"
    fires = cron.parse(expression).fires(cron.zone("UTC"), datetime(2026, 1, 1, tzinfo=UTC))
    times = [next(fires) for _ in range(200)]
    gaps = {later - earlier for earlier, later in itertools.pairwise(times)}
    room_before = first >= step

    assert bool(lint.uneven_steps(expression)) == (gaps != {timedelta(minutes=step)} and not room_before)


@given(
    st.lists(st.integers(0, 59), min_size=1, max_size=4, unique=True),
    st.lists(st.integers(0, 23), min_size=1, max_size=4, unique=True),
    st.sampled_from(["* *", "1 *", "L *", "1,31 *"]),
    st.sampled_from(["*", "1", "0,6", "5#2,6#2"]),
)
def test_the_shortest_gap_is_that_of_the_fires(
    minutes: list[int], hours: list[int], day: str, weekday: str
) -> None:
    expression = f"{','.join(map(str, minutes))} {','.join(map(str, hours))} {day} {weekday}"
    fires = cron.parse(expression).fires(cron.zone("UTC"), datetime(2026, 1, 1, tzinfo=UTC))
    times = [next(fires) for _ in range(100)]
    shortest = min(later - earlier for earlier, later in itertools.pairwise(times))

    # For days that never follow one another it need not be exact: no deadline is as long.
    assert lint.shortest_gap(expression) <= shortest
    assert lint.shortest_gap(expression) == shortest or shortest >= timedelta(days=1)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("0 0 1 * 1", ("day-of-month '1' and weekday '1' are both set, and a day that matches either is "
                      "enough: At 00:00 on day 1 of the month and also on Monday")),
        ("0 0 */2 * MON", ("day-of-month '*/2' and weekday 'MON' are both set, and a day must match both: "
                          "At 00:00 on every 2nd day from 1 to 31 of the month if it is Monday")),
        ("0 0 1-31 * 1", ("day-of-month '1-31' and weekday '1' are both set, and a day that matches either "
                          "is enough: At 00:00 every day")),
        ("0 0 1 * *", None),
        ("0 0 * * 1", None),
        ("0 0 L * *", None),
        ("@weekly", None),
    ],
)  # fmt: skip
def test_two_day_fields_are_said_in_words(expression: str, said: str | None) -> None:
    doubt = lint.both_days(expression)

    assert (doubt.message if doubt else None) == said


BERLIN = [
    # spring 2027-03-28 and 2028-03-26, 02:00 to 03:00; autumn 2027-10-31 and 2028-10-29, 03:00 to 02:00
    ("30 2 * * *", ("on 2027-03-28 and 2028-03-26 02:30 does not exist: fires at 03:00; "
                   "on 2027-10-31 and 2028-10-29 02:30 comes twice: fires the first time")),
    ("0,30 2 * * *", ("on 2027-03-28 and 2028-03-26 02:00 and 02:30 do not exist: fires once, at 03:00; "
                     "on 2027-10-31 and 2028-10-29 02:00 and 02:30 come twice: fires the first time")),
    ("*/30 2 * * *", ("on 2027-03-28 and 2028-03-26 02:00 and 02:30 do not exist: no fire; "
                     "on 2027-10-31 and 2028-10-29 02:00 and 02:30 come twice: fires both times")),
    ("0 */2 * * *", ("on 2027-03-28 and 2028-03-26 02:00 does not exist: no fire; "
                    "on 2027-10-31 and 2028-10-29 02:00 comes twice: fires both times")),
    ("30 2 28 3 *", "on 2027-03-28 02:30 does not exist: fires at 03:00"),
    ("*/10 * * * *", None),
    ("0 3 * * *", None),
    ("30 2 1 * *", None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        # to 02:30 at 02:00 in spring, and back to 01:30 at 02:00 in autumn
        ("15 * * * *", "on 2027-10-03 and 2028-10-01 02:15 does not exist: no fire"),
        ("45 * * * *", "on 2027-04-04 and 2028-04-02 01:45 comes twice: fires both times"),
        ("*/20 * * * *", ("on 2027-04-04 and 2028-04-02 01:40 comes twice: fires both times; "
                         "on 2027-10-03 and 2028-10-01 02:00 and 02:20 do not exist: no fire")),
        ("*/10 * * * *", None),
        ("15,45 * * * *", None),
    ],
)  # fmt: skip
def test_a_change_of_half_an_hour_touches_what_comes_every_hour(expression: str, said: str | None) -> None:
    schedule = a_schedule(cron=expression, zone="Australia/Lord_Howe")

    problems = [each for each in told(schedule) if each.rule == "clock-change"]

    assert [problem.message for problem in problems] == ([said] if said else [])


@pytest.mark.parametrize(("expression", "said"), BERLIN)
def test_fires_that_a_clock_change_touches_are_named_with_their_dates(
    expression: str, said: str | None
) -> None:
    schedule = a_schedule(cron=expression, zone="Europe/Berlin", retry=replace(RETRY, deadline=timedelta(60)))

    problems = [each for each in told(schedule) if each.rule == "clock-change"]

    assert [problem.message for problem in problems] == ([said] if said else [])


def test_a_clock_change_that_the_dates_or_the_blackout_leave_aside_is_not_named() -> None:
    bounded = a_schedule("bounded", zone="Europe/Berlin", ends_at=datetime(2027, 3, 1, tzinfo=UTC))
    sundays = a_calendar(weekly=(WeeklyWindow(6, time(0), 0, time(0)),))
    closed = a_schedule("closed", zone="Europe/Berlin", blackout=Blackout((sundays,), Then.SKIP))

    assert told(bounded, closed) == []


def a_calendar(**more: Any) -> Calendar:
    return Calendar(
        name="closed-days", description=None, timezone=None, source=Source("schedules/a.yaml", 1), **more
    )


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ({"ends_at": datetime(2026, 11, 1, tzinfo=UTC)}, "it ended at 2026-11-01T00:00Z"),
        (
            {"ends_at": datetime(2026, 11, 22, 2, tzinfo=UTC)},
            "it has no fire time any more before it ends at 2026-11-22T02:00Z",
        ),
        ({"ends_at": datetime(2026, 11, 22, 3, tzinfo=UTC)}, None),
        ({"starts_at": datetime(2030, 1, 1, tzinfo=UTC)}, None),
    ],
)
def test_a_schedule_that_never_fires_again_is_named(bounds: dict[str, Any], said: str | None) -> None:
    problems = told(a_schedule(**bounds))

    assert [(each.rule, each.message) for each in problems] == ([("never-fires", said)] if said else [])


@pytest.mark.parametrize("then", Then)
def test_a_blackout_that_leaves_no_fire_is_named(then: Then) -> None:
    sundays = a_calendar(weekly=(WeeklyWindow(6, time(0), 0, time(0)),))
    blackout = Blackout((sundays,), then)
    on_sundays = a_schedule("on-sundays", cron="0 6 * * SUN", blackout=blackout)
    daily = a_schedule("daily", blackout=blackout)

    problems = told(on_sundays, daily)

    if then is Then.DEFER:
        assert problems == []
    else:
        assert message(problems) == "all fires of the next 400 days are skipped: closed-days"


@pytest.mark.parametrize("then", Then)
def test_a_calendar_that_does_not_open_leaves_no_fire(then: Then) -> None:
    for_good = a_calendar(days=(Days(date(2026, 1, 1), date(2029, 1, 1)),))

    problems = told(a_schedule(blackout=Blackout((for_good,), then)))

    assert rules(problems) == ["never-fires"]


def test_fires_a_day_are_held_against_the_limit() -> None:
    every_five = a_schedule("every-five", cron="*/5 * * * *", retry=replace(RETRY, deadline=timedelta(0, 60)))
    every_four = replace(every_five, id="every-four", timing=replace(every_five.timing, cron="*/4 * * * *"))

    assert message(told(every_five, every_four)) == "fires 360 times a day"
    assert told(every_five, every_four, fires_a_day=360) == []


@pytest.mark.parametrize(
    ("expression", "deadline", "said"),
    [
        ("*/10 * * * *", 15, "a run may be tried for 15m, and the next fire comes after 10m"),
        ("*/15 * * * *", 15, None),
        ("0,50 * * * *", 11, "a run may be tried for 11m, and the next fire comes after 10m"),
        ("55 23,0 * * *", 61, "a run may be tried for 1h1m, and the next fire comes after 1h"),
        ("55 23,0 * * 1", 61, None),  # on Mondays only, nobody goes past midnight
        ("0 0 * * *", 24 * 60, None),
    ],
)
def test_a_deadline_is_held_against_the_shortest_gap(
    expression: str, deadline: int, said: str | None
) -> None:
    schedule = a_schedule(cron=expression, retry=replace(RETRY, deadline=timedelta(minutes=deadline)))

    problems = told(schedule)

    assert [problem.message for problem in problems] == ([said] if said else [])


def test_a_schedule_of_nobody_and_for_nothing_is_named_even_if_it_is_disabled() -> None:
    problems = everything_told(a_schedule(enabled=False))

    assert sorted(rules(problems)) == ["missing-description", "missing-owner"]


def test_a_disabled_schedule_is_not_told_about_its_fires() -> None:
    schedule = a_schedule(
        cron="*/4 1-3 * * *",
        zone="Europe/Berlin",
        enabled=False,
        ends_at=datetime(2026, 1, 1, tzinfo=UTC),
        accept=(Acceptance("clock-change", REASON),),
    )

    assert told(schedule) == []


def test_ids_that_are_easily_taken_for_one_another_are_named_once() -> None:
    first, second = a_schedule("wind-report"), a_schedule("Wind_Report")
    third = a_schedule("windreport", source=Source("schedules/b.yaml", 9))

    problems = told(first, second, third, a_schedule("wind-reports"))

    assert rules(problems) == ["similar-ids", "similar-ids"]
    assert {problem.path for problem in problems} <= {
        "schedules.wind-report",
        "schedules.Wind_Report",
        "schedules.windreport",
    }


@pytest.mark.parametrize("accepting", [0, 1])
def test_similar_ids_are_accepted_by_either_of_the_two(accepting: int) -> None:
    pair = [a_schedule("wind-report"), a_schedule("wind_report")]
    pair[accepting] = replace(pair[accepting], accept=(Acceptance("similar-ids", REASON),))

    assert told(*pair) == []


@pytest.mark.parametrize(
    ("rule", "schedule"),
    [
        ("uneven-step", a_schedule(cron="0 */5 * * *")),
        ("both-day-fields", a_schedule(cron="0 0 1 * 1")),
        ("clock-change", a_schedule(zone="Europe/Berlin")),
        ("never-fires", a_schedule(ends_at=datetime(2026, 1, 1, tzinfo=UTC))),
        ("deadline-beyond-next-fire", a_schedule(cron="*/10 * * * *")),
    ],
)
def test_what_is_accepted_is_not_reported(rule: str, schedule: Schedule) -> None:
    assert rules(told(schedule)) == [rule]
    assert told(replace(schedule, accept=(Acceptance(rule, REASON),))) == []


def test_an_acceptance_of_nothing_is_reported() -> None:
    (problem,) = told(a_schedule(accept=(Acceptance("uneven-step", REASON),)))

    assert (problem.rule, problem.path) == ("unused-acceptance", "schedules.nightly.accept.uneven-step")
    assert problem.message == "accepts nothing: no such warning is left"


def test_what_depends_on_settings_is_not_called_unused_where_there_are_none() -> None:
    schedule = a_schedule(accept=(Acceptance("crowded-minute", REASON), Acceptance("too-many-fires", REASON)))

    assert told(schedule) == []
    assert rules(told(schedule, limits={"default": Limits(concurrency=20, rate_per_minute=None)})) == [
        "unused-acceptance",
        "unused-acceptance",
    ]


def test_of_what_fires_no_more_no_acceptance_is_called_unused() -> None:
    accept = (Acceptance("clock-change", REASON),)
    ended = a_schedule(ends_at=datetime(2026, 1, 1, tzinfo=UTC), accept=accept)

    assert rules(told(ended)) == ["never-fires"]


def test_an_acceptance_in_the_defaults_is_of_use_where_one_schedule_needs_it() -> None:
    def shared(_schedule: Schedule, path: tuple[str, ...]) -> tuple[str, int, int]:
        return "schedules/a.yaml", 2 if path[:1] == ("accept",) else 9, 3

    accept = (Acceptance("uneven-step", REASON),)
    even, uneven = a_schedule("even", accept=accept), a_schedule("uneven", "0 */5 * * *", accept=accept)

    assert told(even, uneven, place=shared) == []
    (problem,) = told(even, replace(even, id="other"), place=shared)
    assert problem.path == "defaults.accept.uneven-step"


def test_an_accepted_collision_is_of_use_where_the_two_collide() -> None:
    accepted = Acceptance("collision", REASON, "nightly")
    schedules = a_schedule("nightly"), a_schedule("twin", "31 2 * * *", accept=(accepted,))
    collision = Collision(*schedules, 400, (NOW,), accepted)

    assert message(told(*schedules)) == "accepts nothing: the two do not collide"
    assert told(*schedules, collisions=Collisions((collision,), {})) == []


@pytest.mark.parametrize(
    ("other", "used"),
    [
        (a_schedule("other", enabled=False), True),
        (a_schedule("other", ends_at=datetime(2026, 1, 1, tzinfo=UTC)), True),
        (a_schedule("other", "30 2 29 2 *"), True),
        (a_schedule("other", "30 2 */25 12 SUN", enabled=False), True),  # Christmas on a Sunday
        (a_schedule("other", "30 3 * * *", enabled=False), False),
        (a_schedule("other", flow=1, enabled=False), False),
        (a_schedule("gone"), False),
    ],
)
def test_an_acceptance_is_of_use_where_the_two_will_collide_another_day(
    other: Schedule,
    used: bool,  # noqa: FBT001 - one of the cases
) -> None:
    one = a_schedule(accept=(Acceptance("collision", REASON, "other"),))

    unused = [each for each in told(one, other) if each.rule == "unused-acceptance"]

    assert (unused == []) == used


EVERY_DAY = [datetime(2026, 1, 1, 9, tzinfo=UTC) + timedelta(days=each) for each in range(366)]
HOLIDAYS = Calendar(
    name="holidays",
    description=None,
    timezone=None,
    days=(Days(date(2026, 5, 1), date(2027, 8, 1)),),
    source=Source("schedules/a.yaml", 1),
)


@pytest.mark.parametrize(
    ("rule", "schedules"),
    [
        ("crowded-minute", [a_schedule(f"{n}", "0 0 31 * *", flow=n) for n in range(4)]),
        ("crowded-minute", [a_schedule(f"{n}", "0 0 29 2 *", flow=n) for n in range(4)]),
        ("crowded-minute", [a_schedule(f"{n}", "0 0 31 * *", flow=n, enabled=n < 2) for n in range(4)]),
        (
            "crowded-minute",
            [a_schedule(f"{n}", f"{n} 0 31 * *", flow=n, jitter=timedelta(minutes=5)) for n in range(4)],
        ),
        ("clock-change", [a_schedule(zone="Europe/Berlin", cron="30 2 28 3 *")]),
        ("clock-change", [a_schedule(zone="Africa/Casablanca", cron="30 2 * * *")]),
        (
            "clock-change",
            [a_schedule(zone="Europe/Berlin", cron="30 2 * * *", ends_at=datetime(2027, 3, 1, tzinfo=UTC))],
        ),
        ("never-fires", [a_schedule(ends_at=datetime(2026, 7, 1, tzinfo=UTC))]),
        ("never-fires", [a_schedule(blackout=Blackout((HOLIDAYS,), Then.SKIP))]),
        ("uneven-step", [a_schedule(cron="0 */5 * * *", blackout=Blackout((HOLIDAYS,), Then.SKIP))]),
        (
            "deadline-beyond-next-fire",
            [
                a_schedule(
                    cron="*/10 6 * * *",
                    retry=replace(RETRY, deadline=timedelta(hours=1)),
                    blackout=Blackout((HOLIDAYS,), Then.SKIP),
                )
            ],
        ),
    ],
)
def test_no_acceptance_turns_useless_by_the_calendar_alone(rule: str, schedules: list[Schedule]) -> None:
    accept = (Acceptance(rule, REASON),)
    accepting = [replace(each, accept=accept) for each in schedules]
    limits = {"default": Limits(concurrency=20, rate_per_minute=2)}

    for now in EVERY_DAY:
        assert "unused-acceptance" not in rules(told(*accepting, now=now, limits=limits)), now


def test_an_acceptance_that_can_never_apply_is_unused_on_any_day() -> None:
    limits = {"default": Limits(concurrency=20, rate_per_minute=2)}
    apart = [
        a_schedule(
            f"{n}",
            f"{n // 2} 0 31 * *",
            accept=(Acceptance("crowded-minute", REASON),),
            source=Source("schedules/a.yaml", n),
        )
        for n in range(4)
    ]
    steady = a_schedule("z", "0 5 * * *", "Europe/Berlin", accept=(Acceptance("clock-change", REASON),))
    endless = a_schedule("endless", "7 5 * * *", accept=(Acceptance("never-fires", REASON),))

    accept = (Acceptance("uneven-step", REASON),)
    closed = a_schedule("closed", "8 5 * * *", blackout=Blackout((HOLIDAYS,), Then.SKIP), accept=accept)

    for now in EVERY_DAY[::30]:
        problems = told(*apart, steady, endless, closed, limits=limits, now=now)
        assert rules(problems).count("unused-acceptance") == 7


def test_similar_ids_may_be_accepted_by_both() -> None:
    accept = (Acceptance("similar-ids", REASON),)
    first = a_schedule("wind-report", accept=accept)
    second = a_schedule("wind_report", accept=accept, source=Source("schedules/b.yaml", 9))

    assert told(first, second) == []


def crowded_of(*schedules: Schedule, rate: int = 2, now: datetime = NOW) -> dict[str, str]:
    """Return what is said of crowded minutes, by schedule."""
    limits = {"default": Limits(concurrency=20, rate_per_minute=rate)}
    problems = told(*schedules, limits=limits, now=now)
    return {each.path.split(".")[1]: each.message for each in problems if each.rule == "crowded-minute"}


def test_a_crowded_minute_is_said_to_each_schedule_in_it() -> None:
    on_the_hour = [a_schedule(f"hourly-{name}", "0 * * * *") for name in "abc"]
    others = [
        a_schedule("half", "30 * * * *"),
        a_schedule("other", "0 * * * *", target="other"),
        a_schedule("off", "0 * * * *", enabled=False),
        a_schedule("spread", "10 * * * *", jitter=timedelta(minutes=15)),
    ]

    found = crowded_of(*on_the_hour, *others)

    assert found.keys() == {"hourly-a", "hourly-b", "hourly-c"}
    assert all("of which 2 may be sent within the minute" in said for said in found.values())


def test_a_crowd_is_seen_a_year_ahead() -> None:
    last_days = [a_schedule(f"{n}", "0 0 31 * *") for n in range(4)]
    yearly = [a_schedule(f"{n}", "0 0 15 1 *") for n in range(4)]

    for now in EVERY_DAY[::30]:
        assert len(crowded_of(*last_days, now=now)) == len(crowded_of(*yearly, now=now)) == 4


def test_a_crowd_at_the_end_of_a_blackout_is_said_to_what_was_deferred() -> None:
    blackout = Blackout((a_calendar(weekly=(WeeklyWindow(6, time(0), 0, time(0)),)),), Then.DEFER)
    deferred = [a_schedule(f"deferred-{n}", f"{n} 3 * * *", blackout=blackout) for n in range(3)]

    found = crowded_of(*deferred, a_schedule("after", "0 0 * * *"), a_schedule("later", "0 1 * * *"))

    assert found.keys() == {"deferred-0", "deferred-1", "deferred-2", "after"}
    assert all("one of 4 fires" in said and "2026-11-23T00:00Z" in said for said in found.values())


def test_jitter_leaves_in_a_crowd_what_it_brings_there() -> None:
    spread = [a_schedule(f"{n}", "0 0 * * *", jitter=timedelta(minutes=2)) for n in range(9)]

    found = crowded_of(*spread, rate=4)

    assert found.keys() == {each.id for each in spread}
    assert {said.split(" at ")[1][10:17] for said in found.values()} <= {"T00:00Z", "T00:01Z"}


def test_every_warning_is_a_known_rule_and_its_message_is_bounded() -> None:
    long = ",".join(str(minute) for minute in range(0, 60, 2))
    problems = everything_told(
        a_schedule("a", f"{long} 0-4/3 */9 */5 MON,TUE", "Europe/Berlin"),
        a_schedule("A", f"{long} 2 * * *", "Australia/Lord_Howe"),
    )

    assert problems
    for problem in problems:
        assert RULES[problem.rule].severity is problem.severity is Severity.WARNING
        assert len(problem.message) <= 500
        assert problem.allowed

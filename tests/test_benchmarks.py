"""The bench: whose turn it is, what becomes of figures, and that the crowded minute is told as it was."""

from __future__ import annotations

import gc
import importlib
import json
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks import __main__ as door
from benchmarks import crowd, plot, report, tables, wakeup
from benchmarks.harness import (
    ROOT,
    Contestant,
    Figures,
    Goal,
    Row,
    Scope,
    Skip,
    docstring,
    interleave,
    left_out,
    verdicts,
)
from benchmarks.receiver import Received

if TYPE_CHECKING:
    from pathlib import Path

PROGRAMS = [name for name in door.PROGRAMS if (ROOT / "benchmarks" / f"{name}.py").exists()]


def a_row(case: str, name: str, *seconds: float, reference: bool = False) -> Row:
    return Row(case, name, reference, {"last s": list(seconds)} if seconds else {})


def as_kept(*rows: Row, goals: tuple[Goal, ...] = ()) -> dict[str, Any]:
    kept = {
        "heading": "H",
        "quick": False,
        "seconds": 1,
        "rows": [row.__dict__ for row in rows],
        "goals": [{**each.__dict__, "goal": each.goal.__dict__} for each in verdicts(goals, rows)],
    }
    return dict(json.loads(json.dumps(kept)))


def test_contestants_take_turns_and_each_round_has_an_empty_folder_of_its_own() -> None:
    taken: list[str] = []
    folders: set[Path] = set()

    def measure(name: str, folder: Path) -> Figures:
        assert list(folder.iterdir()) == []
        (folder / "left").touch()
        folders.add(folder)
        taken.append(name)
        return {"s": len(taken)}

    rows = interleave([Contestant("c", name, partial(measure, name)) for name in "ab"], 2)
    assert taken == ["a", "b", "a", "b"]
    assert [row.figures for row in rows] == [{"s": [1, 3]}, {"s": [2, 4]}]
    assert [len(row.took) for row in rows] == [2, 2]
    assert len(folders) == 4
    assert not any(folder.exists() for folder in folders)


def test_who_is_skipped_or_fails_gets_no_more_rounds_and_the_others_go_on() -> None:
    asked: list[str] = []

    def raising(error: Exception, _: Path) -> Figures:
        asked.append(type(error).__name__)
        raise error

    rows = interleave(
        [
            Contestant("c", "absent", partial(raising, Skip("no gcc"))),
            Contestant("c", "broken", partial(raising, ValueError("oh"))),
            Contestant("c", "there", lambda _: {"s": 1}),
        ],
        2,
    )
    assert asked == ["Skip", "ValueError"]
    assert [(row.skipped, row.failed) for row in rows] == [
        ("no gcc", None),
        (None, "ValueError: oh"),
        (None, None),
    ]
    assert rows[2].figures == {"s": [1, 1]}


def test_who_takes_long_has_fewer_rounds() -> None:
    rows = interleave(
        [
            Contestant("c", "quick", lambda _: {"s": 1}),
            Contestant("c", "long", lambda _: {"s": 1}, rounds=1),
        ],
        3,
    )
    assert [len(row.figures["s"]) for row in rows] == [3, 1]


def test_a_goal_is_the_ratio_of_medians_to_the_best_of_its_rivals() -> None:
    rows = [a_row("c", "flowsched", 3, 1, 2), a_row("c", "slow", 9, 9, 9), a_row("c", "fast", 4, 5, 4)]
    [found] = verdicts([Goal("c", "last s", 0.9, ("slow", "fast", "absent"))], rows)
    assert (found.ours, found.rival, found.theirs, found.reached) == (2, "fast", 4, 0.5)


def test_a_goal_without_rivals_is_in_the_figures_own_unit() -> None:
    [found] = verdicts([Goal("c", "last s", 3.5)], [a_row("c", "flowsched", 3)])
    assert found.reached == 3


def test_a_goal_whose_rivals_were_not_measured_is_not_reached() -> None:
    [found] = verdicts([Goal("c", "last s", 0.9, ("absent",))], [a_row("c", "flowsched", 3)])
    assert found.ours == 3
    assert found.reached is None


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_goals_of_a_program_name_contestants_that_it_has(name: str) -> None:
    module = importlib.import_module(f"benchmarks.{name}")
    there = {(each.case, each.name) for each in module.contestants(Scope())}
    for goal in getattr(module, "GOALS", []):
        assert (goal.case, goal.of) in there
        assert {(goal.against_case or goal.case, rival) for rival in goal.against} <= there


def test_a_table_has_medians_the_first_with_its_range_ratios_to_the_reference_and_the_rounds() -> None:
    measured = as_kept(
        a_row("c", "flowsched", 0.2, 0.1, 0.3),
        a_row("c", "peer", 0.4, 0.4, 0.4, reference=True),
        a_row("c", "slow", 9),
    )
    [(cells, absent)] = tables.cases(measured)
    assert cells == [
        ["c", "last s", "ratio", "rounds"],
        ["flowsched", "0.200 (0.100-0.300)", "0.500", "3"],
        ["peer", "0.400 (0.400-0.400)", "1", "3"],
        ["slow", "9", "22.5", "1"],
    ]
    assert absent == []


def test_a_table_says_who_was_left_out_and_why() -> None:
    [absent] = interleave([left_out("c", "cron", "no cron here")], 2)
    broken = a_row("c", "yacron")
    broken.failed = "ValueError: oh"
    [(cells, lines)] = tables.cases(as_kept(absent, broken, a_row("c", "flowsched", 1)))
    assert cells == [["c", "last s", "rounds"], ["flowsched", "1", "1"]]
    assert lines == ["left out: cron: no cron here", "failed: yacron: ValueError: oh"]


def test_a_terminals_lines_fit_and_break_between_words_only() -> None:
    row = Row("1,000 due", "APScheduler, threads + httpx, tuned and more", figures={})
    row.figures = {f"quite a long figure {n} ms": [1234.5, 0.001] for n in range(9)}
    shown = tables.program("due", as_kept(row, goals=(Goal("1,000 due", "quite a long figure 3 ms", 2),)))
    assert max(map(len, shown.splitlines())) <= tables.WIDTH
    words = {word for line in shown.splitlines() for word in line.split()}
    assert {"APScheduler,", "quite", "figure", "tuned"} <= words
    assert shown.count(" 617 (0.001-1,234)") == 1
    assert shown.count(" 617") == 9
    assert "due took 1 s" in shown


def test_a_program_that_measures_nothing_has_no_heading() -> None:
    assert tables.program("idle", as_kept()) == "\nidle: nothing to measure with --quick"


def test_the_goals_of_contestants_of_other_names_say_which() -> None:
    goals = (Goal("c", "last s", 5), Goal("c", "last s", 5, of="flowsched, one file"))
    rows = (a_row("c", "flowsched", 1), a_row("c", "flowsched, one file", 2))
    told = [tables.verdict_cells(each)[0] for each in as_kept(*rows, goals=goals)["goals"]]
    assert told == ["c, last s", "c, flowsched, one file, last s"]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_programs_docstring_is_a_line_of_the_help_and_a_text_of_the_page(name: str) -> None:
    heading, text = docstring(name)
    assert len(door._in_the_help(name)) <= tables.WIDTH
    assert heading.endswith(".")
    assert text


def test_the_page_counts_its_goals_and_has_what_is_said_of_each_program() -> None:
    goals = (Goal("c", "last s", 5), Goal("c", "last s", 0.5), Goal("d", "last s", 1))
    measured = as_kept(a_row("c", "flowsched", 1), goals=goals)
    page = report.figures({"machine": "m", "versions": {}, "programs": {"due": measured}}, [])
    assert "3 goals: 1 reached, 1 missed, 1 not measured." in page
    assert docstring("due")[1] in page
    assert "`./run bench due` took 1 s." in page
    assert "| c | last s | rounds |\n|---|---:|---:|\n| **flowsched** | 1 | 1 |" in page


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (21.0, "21"),
        (30_000, "30,000"),
        (0.0512, "0.051"),
        (1.2345, "1.23"),
        (54.321, "54.3"),
        (1_234.5, "1,234"),
    ],
)
def test_a_number_has_three_digits_that_count(value: float, text: str) -> None:
    assert tables.number(value) == text


@pytest.mark.parametrize(("most", "word"), [(0.5, "reached"), (0.49, "missed")])
def test_a_goal_is_told_with_both_sides(most: float, word: str) -> None:
    rows = (a_row("c", "flowsched", 2.5), a_row("c", "peer", 5))
    [goal] = as_kept(*rows, goals=(Goal("c", "last s", most, ("peer",)),))["goals"]
    line = tables.verdict(goal)
    assert line.startswith(f"goal {word}: c, last s: 2.50 s (peer: 5 s; ratio 0.500)")


def test_figures_go_between_the_pages_marks_and_nothing_else_changes() -> None:
    page = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    made = report.between_marks(page, "new\n")
    assert made == f"before\n{report.BEGIN}\n\nnew\n\n{report.END}\nafter\n"
    assert report.between_marks(made, "new\n") == made
    with pytest.raises(ValueError, match="no marks"):
        report.between_marks("before\nafter\n", "new")


def test_a_plot_has_every_line_with_its_name_and_last_value() -> None:
    about = as_kept(
        *(a_row(f"{size:,} due", "flowsched", size / 1000) for size in (30_000, 100)),
        *(a_row(f"{size:,} due", "node-cron, http, at most 100", size / 500) for size in (100, 30_000)),
        a_row("100 due, ledger", "flowsched", 9),
        a_row("100 due", "yacron", 1),
        a_row("1,000 due", "yacron", 2),
    )
    about["rows"][-1]["figures"]["unsent"] = [3]  # so what came last was not the last of all
    fires = plot.PLOTS[0]
    lines = plot.series({"fires": about}, fires)
    assert lines == {
        "flowsched": {100: 0.1, 30_000: 30},
        "node-cron, http, at most 100": {100: 0.2, 30_000: 60},
    }
    drawn = plot.draw(fires, lines)
    assert ">flowsched: 30 s<" in drawn
    assert ">node-cron, http, at most 100: 60 s<" in drawn
    assert drawn.count("<polyline") == 2


def test_what_came_is_counted_once_for_each_schedule() -> None:
    got = Received(arrivals=[10.5, 10.25, 11.0], flows=[1, 2, 3], connections=2)
    figures = crowd.figures(count=4, at=10.0, got=got, cost=0.3, tls=False)
    assert figures == {
        "last s": 1.0,
        "first s": 0.25,
        "p50 s": 0.5,
        "p99 s": 1.0,
        "CPU ms": pytest.approx(100),
        "unsent": 1,
        "connections": 2,
    }
    got.flows[2] = 2
    with pytest.raises(AssertionError, match="twice"):
        crowd.figures(count=4, at=10.0, got=got, cost=0.3, tls=False)


def test_collections_are_noted_in_whichever_thread_and_only_while_they_are_watched() -> None:
    before = list(gc.callbacks)
    with wakeup.Collections() as seen:
        collecting = threading.Thread(target=gc.collect)
        collecting.start()
        collecting.join()
    assert seen.longest > 0
    assert gc.callbacks == before


@pytest.mark.e2e
@pytest.mark.parametrize("tls", [False, True])
def test_a_crowded_minute_is_sent_and_recorded_once_for_each_schedule(tls: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a parameter
    figures = crowd.measure(crowd.flowsched(), 5, tmp_path, tls=tls)
    assert figures["unsent"] == 0
    assert 0 < figures["first s"] <= figures["last s"]
    assert figures.get("handshakes") == (figures["connections"] if tls else None)


@pytest.mark.e2e
def test_the_door_keeps_figures_and_those_of_other_programs_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Scope, "sizes", lambda _, *__, quick: (min(quick, 3),))
    file = tmp_path / "figures.json"
    file.write_text(json.dumps({"programs": {"fires": as_kept()}}))
    door.main(["due", "--quick", "--json", str(file)])
    kept = json.loads(file.read_text())
    assert list(kept["programs"]) == ["due", "fires"]
    assert [row["failed"] for row in kept["programs"]["due"]["rows"]] == [None]
    assert "flowsched" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--repeat", "--long-rounds", "--size"])
@pytest.mark.parametrize("value", ["0", "-1", "x"])
def test_the_door_refuses_rounds_and_sizes_below_one(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        door.main(["due", option, value])
    assert ended.value.code == 2
    assert "allowed: a whole number from 1" in capsys.readouterr().err


def test_the_door_knows_its_programs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        door.main(["dew"])
    assert ended.value.code == 2
    assert "no such program: dew; there are due, " in capsys.readouterr().err

from __future__ import annotations

import gc
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flowsched import cron
from flowsched.config import files, load_catalog, load_settings, loader
from flowsched.config.findings import MOST_PROBLEMS, Findings, Unusable
from flowsched.errors import ConfigError, Refused
from flowsched.model import Catalog, CatchUp, Overlap, RetryPolicy, Schedule, Settings, Source, Timing

ROOT = Path(__file__).parents[1]

ONE = '{{schedules: {{{id}: {{cron: "@daily", timezone: UTC, flow: 1}}}}}}\n'


def one(schedule_id: str) -> str:
    return ONE.format(id=schedule_id)


def loaded(folder: Path, text: str) -> Catalog:
    (folder / "a.yaml").write_text(text)
    return load_catalog(str(folder), None)


def problems_of(path: Path | str) -> list[str]:
    """Return what is wrong below a path, without the path."""
    with pytest.raises(ConfigError) as caught:
        load_catalog(str(path), None)
    return [str(problem).replace(f"{path}/", "") for problem in caught.value.problems]


def settings_with(folder: Path, *names: str) -> Settings:
    target = "{url: https://a.example, org_id: o, user_id: u, access_key: {env: A}, secret_key: {env: S}}"
    targets = "".join(f"  {name}: {target}\n" for name in names)
    path = folder / "flowsched.txt"
    path.write_text(f"schedules: .\nledger: sqlite:///l.db\ntargets:\n{targets}")
    return load_settings(path)


# What a schedule resolves to.


def test_a_schedule_has_the_defaults_of_the_house(tmp_path: Path) -> None:
    text = 'schedules:\n  nightly:\n    cron: " 30  2 * * * "\n    timezone: Europe/Berlin\n    flow: 3377\n'

    catalog = loaded(tmp_path, text)

    assert catalog.schedules["nightly"] == Schedule(
        id="nightly",
        timing=Timing("30 2 * * *", "Europe/Berlin", rules=cron.zone_rules("Europe/Berlin")),
        flow=3377,
        task=None,
        target=None,
        enabled=True,
        retry=RetryPolicy(
            max_attempts=5,
            initial_backoff=timedelta(seconds=2),
            multiplier=2.0,
            max_backoff=timedelta(minutes=5),
            deadline=timedelta(minutes=15),
            attempt_timeout=timedelta(seconds=30),
        ),
        catch_up=CatchUp.LATEST,
        catch_up_window=timedelta(hours=1),
        overlap=Overlap.QUEUE,
        overlap_fallback=Overlap.QUEUE,
        jitter=timedelta(0),
        watch=None,
        renamed_from=None,
        blackout=None,
        accept=(),
        description=None,
        owner=None,
        source=Source(f"{tmp_path}/a.yaml", 2),
    )


def test_a_schedule_comes_before_the_defaults_of_its_file_and_they_before_the_house(tmp_path: Path) -> None:
    catalog = loaded(
        tmp_path,
        """
defaults:
  timezone: Europe/Berlin
  owner: wind-data
  catch_up: none
  retry: {max_attempts: 6, deadline: 30m}
schedules:
  nightly: {cron: "@daily", flow: 1, owner: somebody, retry: {deadline: 1h}}
""",
    )

    schedule = catalog.schedules["nightly"]
    assert schedule.timing.timezone == "Europe/Berlin"
    assert (schedule.owner, schedule.catch_up) == ("somebody", CatchUp.NONE)
    assert schedule.retry.max_attempts == 6
    assert schedule.retry.deadline == timedelta(hours=1)
    assert schedule.retry.initial_backoff == timedelta(seconds=2)


def test_overlap_jitter_and_watch_are_read_and_shared(tmp_path: Path) -> None:
    catalog = loaded(
        tmp_path,
        """
defaults: {timezone: UTC, overlap: skip, overlap_fallback: skip, jitter: 24h, watch: {timeout: 6h}}
schedules:
  a: {cron: "@daily", flow: 1}
  b: {cron: "@daily", flow: 2, overlap: cancel_previous, overlap_fallback: queue, jitter: 0s}
  c: {cron: "@daily", flow: 3, watch: {timeout: 30d}}
""",
    )

    a, b, c = catalog.schedules.values()
    assert (a.overlap, a.overlap_fallback) == (Overlap.SKIP, Overlap.SKIP)
    assert (b.overlap, b.overlap_fallback) == (Overlap.CANCEL_PREVIOUS, Overlap.QUEUE)
    assert (a.jitter, b.jitter) == (timedelta(days=1), timedelta(0))
    assert (a.watch, b.watch, c.watch) == (timedelta(hours=6), timedelta(hours=6), timedelta(days=30))


def test_null_switches_off_what_the_defaults_watch(tmp_path: Path) -> None:
    catalog = loaded(
        tmp_path,
        """
defaults: {timezone: UTC, watch: {timeout: 6h}}
schedules: {a: {cron: "@daily", flow: 1, watch: null}, b: {cron: "@daily", flow: 2}}
""",
    )

    assert [schedule.watch for schedule in catalog.schedules.values()] == [None, timedelta(hours=6)]


def test_null_in_the_defaults_watches_nothing(tmp_path: Path) -> None:
    catalog = loaded(
        tmp_path,
        """
defaults: {timezone: UTC, watch: null}
schedules: {a: {cron: "@daily", flow: 1}, b: {cron: "@daily", flow: 2, watch: {timeout: 1m}}}
""",
    )

    assert [schedule.watch for schedule in catalog.schedules.values()] == [None, timedelta(minutes=1)]


# When: the bounds, and the zone's data.


@pytest.mark.parametrize(
    ("written", "instant"),
    [
        ("2026-12-01", "2026-11-30T23:00Z"),
        ("2026-07-01", "2026-06-30T22:00Z"),
        ("2026-12-01T18:00", "2026-12-01T17:00Z"),
        ("2026-12-01T18:00:00", "2026-12-01T17:00Z"),
        ("2026-12-01T18:00Z", "2026-12-01T18:00Z"),
        ("2026-12-01T18:00:00-05:30", "2026-12-01T23:30Z"),
        ("2026-03-29T02:30", "2026-03-29T01:00Z"),  # in the gap: its end
        ("2026-10-25T02:30", "2026-10-25T00:30Z"),  # in the repeated hour: the first
        ("2026-10-25T02:30+01:00", "2026-10-25T01:30Z"),
        ("1970-01-01", "1969-12-31T23:00Z"),
        ("9998-12-31", "9998-12-30T23:00Z"),
    ],
)
@pytest.mark.parametrize("quote", ["", '"'])
def test_a_bound_is_an_instant_in_utc(written: str, instant: str, quote: str, tmp_path: Path) -> None:
    start = f"starts_at: {quote}{written}{quote}"
    end = f"ends_at: {quote}{written}{quote}"

    catalog = loaded(
        tmp_path,
        f"""
defaults: {{timezone: Europe/Berlin}}
schedules: {{a: {{cron: "@daily", flow: 1, {start}}}, b: {{cron: "@daily", flow: 2, {end}}}}}
""",
    )

    a, b = (schedule.timing for schedule in catalog.schedules.values())
    assert (a.starts_at, a.ends_at) == (datetime.fromisoformat(instant), None)
    assert (b.starts_at, b.ends_at) == (None, datetime.fromisoformat(instant))
    assert [bound.tzinfo for bound in (a.starts_at, b.ends_at) if bound] == [UTC, UTC]


@pytest.mark.parametrize(
    "written",
    [
        "today", "2026-12", "2026-12-1", "2026-12-01T", "2026-12-01T18", "2026-12-01T1800",
        "2026-12-01t18:00", "2026-12-01T24:00", "2026-12-01T18:60", "2026-12-01T18:00:00.000",
        "2026-12-01T18:00z",
        "2026-12-01T18:00+1", "2026-12-01T18:00+0100", "2026-12-01T18:00+24:00", "2026-12-01Z", "2026-13-01",
        "2025-02-29", "0000-01-01", "1969-12-31", "9999-01-01", "2026-W01-1", "٢٠٢٦-12-01",
        "P1D", "", "x" * 999,
    ],
)  # fmt: skip
def test_anything_else_is_no_bound(written: str, tmp_path: Path) -> None:
    text = f'schedules: {{a: {{cron: "@daily", timezone: UTC, flow: 1, ends_at: "{written}"}}}}'

    with pytest.raises(ConfigError, match=r"a\.yaml:1:\d+: schedules\.a\.ends_at: '.*; allowed: "):
        loaded(tmp_path, text)


@pytest.mark.parametrize("zone", ["", ", timezone: Nowhere"])
def test_bounds_without_a_zone_are_no_second_problem(zone: str, tmp_path: Path) -> None:
    bounds = "starts_at: 2026-12-02, ends_at: 2026-12-01"

    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, f'schedules: {{a: {{cron: "@daily", flow: 1, {bounds}{zone}}}}}')

    assert [problem.path for problem in caught.value.problems] == ["schedules.a.timezone"]


def test_bounds_that_are_one_instant_are_refused_however_they_are_written(tmp_path: Path) -> None:
    bounds = "starts_at: 2026-12-01, ends_at: 2026-11-30T23:00Z"

    with pytest.raises(ConfigError, match="is not later than starts_at"):
        loaded(tmp_path, f'schedules: {{a: {{cron: "@daily", timezone: Europe/Berlin, flow: 1, {bounds}}}}}')


def test_a_timing_knows_the_data_of_its_zone(tmp_path: Path) -> None:
    timing = loaded(tmp_path, one("a")).schedules["a"].timing

    assert timing.rules == cron.zone_rules("UTC") != ""


def test_a_schedule_may_repair_what_the_defaults_would_break(tmp_path: Path) -> None:
    catalog = loaded(
        tmp_path,
        """
defaults: {timezone: UTC, retry: {max_backoff: 1s}}
schedules:
  a: {cron: "@daily", flow: 1, retry: {initial_backoff: 1s}}
""",
    )

    assert catalog.schedules["a"].retry.max_backoff == timedelta(seconds=1)


def test_the_scalars_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    catalog = loaded(
        tmp_path,
        'schedules: {on: {cron: "@daily", timezone: UTC, flow: 1, owner: 0o17, description: no}}',
    )

    schedule = catalog.schedules["on"]
    assert (schedule.owner, schedule.description) == ("0o17", "no")


@pytest.mark.parametrize("change", [lambda text: text.replace("\n", "\r\n"), lambda text: "\ufeff" + text])
def test_line_ends_and_a_byte_order_mark_of_windows_are_read(change: object, tmp_path: Path) -> None:
    assert callable(change)
    text = change('schedules:\n  a:\n    cron: "@daily"\n    timezone: UTC\n    flow: 1\n')

    (tmp_path / "a.yaml").write_bytes(text.encode())

    assert load_catalog(str(tmp_path), None).schedules["a"].source.line == 2


def test_anchors_and_aliases_are_followed(tmp_path: Path) -> None:
    text = 'schedules:\n  a: &a {cron: "@daily", timezone: UTC, flow: 1}\n  b: *a\n'

    catalog = loaded(tmp_path, text)

    assert catalog.schedules["b"].timing == catalog.schedules["a"].timing


def test_a_catalog_is_in_the_order_of_its_ids(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(one("zulu"))
    (tmp_path / "b.yaml").write_text(one("alpha"))

    assert list(load_catalog(str(tmp_path), None).schedules) == ["alpha", "zulu"]


# Renames.


def renamed(schedule_id: str, old: str) -> str:
    text = f'schedules: {{{schedule_id}: {{cron: "@daily", timezone: UTC, flow: 1, renamed_from: {old}}}}}'
    return text + "\n"


def test_a_schedule_says_which_id_it_had(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(renamed("new", "old"))
    (tmp_path / "b.yaml").write_text(renamed("newer", "older"))

    schedules = load_catalog(str(tmp_path), None).schedules

    assert {new: schedule.renamed_from for new, schedule in schedules.items()} == {
        "new": "old",
        "newer": "older",
    }


@pytest.mark.parametrize("names", ["ab", "ba"])
def test_an_old_id_that_is_still_there_is_told_whichever_file_is_read_first(
    names: str, tmp_path: Path
) -> None:
    (tmp_path / f"{names[0]}.yaml").write_text(renamed("new", "old"))
    (tmp_path / f"{names[1]}.yaml").write_text(one("old").replace("flow: 1", "flow: 0"))

    told = f"{names[0]}.yaml:1:73: schedules.new.renamed_from: 'old' is still a schedule: "
    assert [problem for problem in problems_of(tmp_path) if problem.startswith(told)]


def test_two_schedules_cannot_swap_their_ids(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(renamed("a", "b"))
    (tmp_path / "b.yaml").write_text(renamed("b", "a"))

    assert len(problems_of(tmp_path)) == 2


def test_two_heirs_on_one_line_are_told(tmp_path: Path) -> None:
    entry = '{cron: "@daily", timezone: UTC, flow: 1, renamed_from: old}'
    (tmp_path / "a.yaml").write_text(f"schedules: {{a: {entry}, b: {entry}}}")

    (problem,) = problems_of(tmp_path)
    assert problem.startswith(
        "a.yaml:1:135: schedules.b.renamed_from: 'old' is taken: a.yaml:1 is renamed from it"
    )


@pytest.mark.parametrize("old", ["old", "x"])
def test_of_a_schedule_whose_id_is_taken_nothing_is_said_about_its_old_one(old: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(renamed("x", "old"))
    (tmp_path / "b.yaml").write_text(renamed("x", old))

    (problem,) = problems_of(tmp_path)

    assert "schedules.x: the id is taken: a.yaml:1" in problem


def test_endless_bad_renames_are_cut_short_file_by_file(tmp_path: Path) -> None:
    entry = '{cron: "@daily", timezone: UTC, flow: 1, renamed_from: old}'
    many = "".join(f"  s{number}: {entry}\n" for number in range(MOST_PROBLEMS + 10))
    (tmp_path / "a.yaml").write_text(f"schedules:\n{many}")
    (tmp_path / "b.yaml").write_text(renamed("b", "old"))

    problems = problems_of(tmp_path)

    assert len(problems) == MOST_PROBLEMS + 2
    assert problems[0] == "a.yaml: has more than 1,000 problems; the others are not listed"
    assert problems[-1].startswith("b.yaml:1:")


# Targets.


@pytest.mark.parametrize(
    ("names", "taken"), [(["only"], "only"), (["default", "other"], "default"), (["default"], "default")]
)
def test_a_schedule_without_a_target_takes_the_only_one_or_the_default(
    names: list[str], taken: str, tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").write_text(one("a"))

    catalog = load_catalog(str(tmp_path), settings_with(tmp_path, *names))

    assert catalog.schedules["a"].target == taken


def test_a_schedule_without_a_target_is_refused_where_there_is_none_to_take(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(one("a"))

    with pytest.raises(ConfigError) as caught:
        load_catalog(str(tmp_path), settings_with(tmp_path, "north", "south"))

    assert str(caught.value) == (
        f"{tmp_path}/a.yaml:1:14: schedules.a.target: is missing: "
        "there are several targets, and none is named 'default'; allowed: north, south"
    )


def test_without_settings_a_target_is_what_the_file_says(tmp_path: Path) -> None:
    catalog = loaded(
        tmp_path, 'defaults: {timezone: UTC, target: anything}\nschedules: {a: {cron: "@daily", flow: 1}}\n'
    )

    assert catalog.schedules["a"].target == "anything"


# Files and folders.


def test_a_folder_is_read_with_all_below_it_but_hidden_files(tmp_path: Path) -> None:
    for name in (
        "a.yaml",
        "b.yml",
        "deep/er/c.yaml",
        ".hidden.yaml",
        ".git/d.yaml",
        "notes.txt",
        "e.yaml.bak",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(one(path.name.split(".")[0] or "hidden"))

    assert sorted(load_catalog(str(tmp_path), None).schedules) == ["a", "b", "c"]


def test_a_file_that_is_named_is_read_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / ".schedules").write_text(one("a"))

    assert list(load_catalog(str(tmp_path / ".schedules"), None).schedules) == ["a"]


def test_a_folder_as_kubernetes_mounts_it_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "..2026_11_21").mkdir()
    (tmp_path / "..2026_11_21" / "a.yaml").write_text(one("a"))
    (tmp_path / "..data").symlink_to("..2026_11_21")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")

    catalog = load_catalog(str(tmp_path), None)

    assert str(catalog.schedules["a"].source) == f"{tmp_path}/a.yaml:1"


def test_a_file_on_two_paths_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.yaml").write_text(one("a"))
    (tmp_path / "z.yaml").symlink_to("deep/a.yaml")

    catalog = load_catalog([str(tmp_path / "z.yaml"), str(tmp_path), str(tmp_path / "deep")], None)

    assert str(catalog.schedules["a"].source) == f"{tmp_path}/deep/a.yaml:1"


def test_a_path_is_shown_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "schedules").mkdir()
    (tmp_path / "schedules" / "a.yaml").write_text("a: [\n")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError) as caught:
        load_catalog("schedules/", None)

    assert caught.value.problems[0].file == "schedules/a.yaml"


def test_a_path_that_does_not_exist_is_told(tmp_path: Path) -> None:
    assert problems_of(tmp_path / "nothing") == [f"{tmp_path}/nothing: does not exist"]


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()

    assert problems_of(tmp_path) == [
        f"{tmp_path}: holds no schedule file; allowed: at least one file named *.yaml or *.yml"
    ]


def test_a_dangling_link_is_told_with_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").symlink_to("gone.yaml")

    assert problems_of(tmp_path) == ["a.yaml: is a symbolic link to nothing: 'gone.yaml' does not exist"]


def test_a_link_to_itself_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").symlink_to("a.yaml")

    assert problems_of(tmp_path) == ["a.yaml: is a symbolic link that leads back to itself"]


def test_a_folder_loop_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(one("a"))
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "up").symlink_to("..")

    assert problems_of(tmp_path) == [
        "deep/up: is a symbolic link to a folder that holds it: a loop; allowed: links that do not lead back"
    ]


def test_a_folder_that_is_named_like_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").mkdir()

    assert problems_of(tmp_path) == [
        "a.yaml: is a folder, though named like a file; allowed: folders named without .yaml or .yml"
    ]


def test_folders_in_folders_without_end_are_told(tmp_path: Path) -> None:
    (tmp_path / "/".join("d" * (files.DEEPEST_FOLDER + 5))).mkdir(parents=True)

    (problem,) = problems_of(tmp_path)
    assert problem.endswith("d: is nested too deep; allowed: folders at most 40 deep")


def test_a_pipe_does_not_keep_anybody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.yaml")

    assert problems_of(tmp_path) == ["a.yaml: is a named pipe; allowed: a regular file"]


def test_a_device_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").symlink_to("/dev/zero")

    assert problems_of(tmp_path) == ["a.yaml: is a device; allowed: a regular file"]


def test_a_file_of_10_megabytes_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "a.yaml").open("wb") as file:
        file.truncate(10 * 1024**2)

    assert problems_of(tmp_path) == ["a.yaml: is too large; allowed: at most 5,242,880 bytes"]


def test_a_file_that_grows_while_it_is_read_is_refused() -> None:
    # The files of /proc say that they are empty and hold something all the same.
    with pytest.raises(Refused, match="is too large; allowed: at most 10 bytes"):
        files.read_bounded("/proc/self/status", 10)


def test_files_that_are_too_much_together_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "MOST_BYTES_TOGETHER", 100)
    for name in "abc":
        (tmp_path / f"{name}.yaml").write_text(one(name))

    assert problems_of(tmp_path) == [
        "b.yaml: is too much together with the files before it; allowed: at most 100 bytes in one load"
    ]


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_ENTRIES", 3)
    for name in "abcde":
        (tmp_path / f"{name}.yaml").write_text(one(name))

    assert problems_of(tmp_path) == [
        "c.yaml: is one entry too many; allowed: 3 files and folders in one load"
    ]


def test_links_that_multiply_are_not_followed_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MOST_ENTRIES", 100)
    for level in range(12):
        (tmp_path / str(level)).mkdir()
        for name in "ab":
            (tmp_path / str(level) / name).symlink_to(f"../{level + 1}")
    (tmp_path / "12").mkdir()
    (tmp_path / "12" / "gone.yaml").symlink_to("nowhere")

    _, problems = files.find_files([str(tmp_path / "0")])

    messages = [problem.message for problem in problems]
    assert messages.count("is one entry too many") == 1
    assert messages[-1] == "is one entry too many"
    assert len(messages) < 100


def test_a_file_that_fails_while_it_is_read_is_told(tmp_path: Path) -> None:
    # A regular file whose first page is mapped for nobody: it opens, even for root, and cannot be read.
    (tmp_path / "a.yaml").symlink_to("/proc/self/mem")

    assert problems_of(tmp_path) == ["a.yaml: cannot be read: Input/output error; allowed: a readable file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").touch(mode=0)

    assert problems_of(tmp_path) == ["a.yaml: cannot be read: Permission denied; allowed: a readable file"]


def test_a_file_that_disappears_before_it_is_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(one("a"))
    found, _ = files.find_files([str(tmp_path)])
    (tmp_path / "a.yaml").unlink()
    findings = Findings("a.yaml")

    with pytest.raises(Unusable):
        files.content_of(found[0].path, 100, findings)

    assert "does not exist, or no longer does" in str(findings.problems[0])


def test_a_name_cannot_garble_the_report(tmp_path: Path) -> None:
    (tmp_path / "a\n\x1b[31m.yaml").write_text("a: [\n")
    (tmp_path / os.fsdecode(b"b\xff.yaml")).write_text("a: [\n")

    first, second = problems_of(tmp_path)

    assert "a\\n\\x1b[31m.yaml" in first
    assert "b\\udcff.yaml" in second


# All of it at once.


def test_a_file_with_endless_problems_is_cut_short(tmp_path: Path) -> None:
    unknown = "".join(f"    key{number}: 1\n" for number in range(50_000))
    (tmp_path / "a.yaml").write_text(f"schedules:\n  a:\n{unknown}")
    (tmp_path / "b.yaml").write_text("a: [\n")

    problems = problems_of(tmp_path)

    assert len(problems) == MOST_PROBLEMS + 2
    assert problems[0] == "a.yaml: has more than 1,000 problems; the others are not listed"
    assert problems[-1].startswith("b.yaml:")


def test_the_collector_runs_again_after_a_load(tmp_path: Path) -> None:
    problems_of(tmp_path)

    assert gc.isenabled()


# The revision.


def test_the_revision_does_not_depend_on_where_the_folder_lies(tmp_path: Path) -> None:
    (tmp_path / "here" / "deep").mkdir(parents=True)
    (tmp_path / "here" / "a.yaml").write_text(one("a"))
    (tmp_path / "here" / "deep" / "b.yaml").write_text(one("b"))
    shutil.copytree(tmp_path / "here", tmp_path / "there")

    here, there = (load_catalog(str(tmp_path / name), None) for name in ("here", "there"))

    assert here.revision == there.revision
    assert len(here.revision) == 64


def test_the_revision_depends_on_every_byte_and_name(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(one("a"))
    before = load_catalog(str(tmp_path), None).revision
    (tmp_path / "a.yaml").rename(tmp_path / "b.yaml")
    renamed = load_catalog(str(tmp_path), None).revision
    (tmp_path / "b.yaml").write_text(one("a") + "\n")
    longer = load_catalog(str(tmp_path), None).revision

    assert len({before, renamed, longer}) == 3


def test_the_revision_does_not_depend_on_the_order_of_the_paths(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.yaml").write_text(one(name))
    paths = [str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")]

    assert load_catalog(paths, None).revision == load_catalog(paths[::-1], None).revision


def test_the_revision_of_several_folders_does_not_depend_on_their_names(tmp_path: Path) -> None:
    for folder, name in (("1", "a"), ("2", "b"), ("3", "a")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.yaml").write_text(one(name))

    before, after = (
        load_catalog([str(tmp_path / folder) for folder in folders], None) for folders in ("12", "23")
    )

    assert before.revision == after.revision


def test_the_collector_is_at_work_while_a_disk_is_waited_for(tmp_path: Path) -> None:
    class Waiting(files.Trail):
        def begin(self) -> None:
            at_work.append(gc.isenabled())

    at_work: list[bool] = []
    for name in "ab":
        (tmp_path / f"{name}.yaml").write_text(one(name))

    load_catalog(str(tmp_path), None, trail=Waiting())

    assert at_work
    assert all(at_work)
    assert gc.isenabled()


# What ships.


def test_the_example_schedules_are_valid() -> None:
    catalog = load_catalog(str(ROOT / "schedules"), None)

    assert len({schedule.flow for schedule in catalog.schedules.values()}) == len(catalog.schedules)

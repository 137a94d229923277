"""What `flowsched run` settles for its process."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from flowsched.cli.run import spare_the_collector
from flowsched.daemon import read_first
from tests.reloading import settings_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COUNT = 200


@pytest.fixture(autouse=True)
def _collector_as_before() -> Iterator[None]:
    threshold = gc.get_threshold()
    yield
    gc.set_threshold(*threshold)
    gc.unfreeze()


def test_a_catalog_that_is_left_alone_by_the_collector_is_freed_when_it_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "schedules").mkdir()
    text = "".join(f'  s-{n}:\n    cron: "{n % 60} 2 * * *"\n    flow: {n + 1}\n' for n in range(COUNT))
    (tmp_path / "schedules" / "all.yaml").write_text(f"defaults: {{timezone: UTC}}\nschedules:\n{text}")
    catalog, seen = read_first(settings_in(tmp_path))
    spare_the_collector()
    before = gc.get_freeze_count()

    del catalog, seen

    assert before - gc.get_freeze_count() >= COUNT


def test_what_is_no_more_reachable_is_not_left_alone() -> None:
    gc.collect()
    ring: list[object] = []
    ring.append(ring)
    del ring

    spare_the_collector()

    gc.unfreeze()
    assert gc.collect() == 0


def test_new_objects_are_still_looked_at() -> None:
    spare_the_collector()
    before = collected()

    for _ in range(gc.get_threshold()[0] * 2):
        ring: list[object] = []
        ring.append(ring)

    assert collected() > before


def collected() -> int:
    return sum(each["collected"] for each in gc.get_stats())

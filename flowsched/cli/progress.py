"""The bar of a backfill, drawn with rich, on a terminal only: this module is imported where there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from flowsched.cli.asking import sentence
from flowsched.model import RunState

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self


class Bar:
    """Shows how many are done, and how the one under way stands; what has ended scrolls by above."""

    def __init__(self, total: int) -> None:
        columns = (
            BarColumn(20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
        )
        self._progress = Progress(*columns)
        self._task = self._progress.add_task("", total=total)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the bar as it is."""
        self._progress.stop()

    def moved(self, run: Mapping[str, Any]) -> None:
        """Show how a run stands."""
        if RunState(run["state"]).final:
            self._progress.console.print(sentence(run), markup=False, highlight=False)
        self._progress.update(self._task, description=escape(f"{run['fire_time']} {run['state']}"))

    def ended(self) -> None:
        """Show that one more is done."""
        self._progress.advance(self._task)

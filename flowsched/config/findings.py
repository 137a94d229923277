"""What is wrong with one file, gathered while the reading goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from flowsched.errors import Problem, printable, shortened
from flowsched.model import Place

if TYPE_CHECKING:
    from collections.abc import Callable

KeyPath = tuple[str, ...]
"""Where a value stands in a file: the keys that lead to it; empty for the whole."""

MOST_PROBLEMS = 1_000
"""Listed for one file. More are of no use to anybody, and near names for each would take minutes to find."""


class Unusable(Exception):  # noqa: N818 - says what the file is; it never leaves this room
    """There is no point in reading this file any further; why is among its findings."""


class Findings:
    """The problems of one file, and which of its values are therefore not to be looked at again.

    `shown` makes of the path of a value what may be shown of it.
    """

    def __init__(self, file: str, shown: Callable[[KeyPath], KeyPath] = tuple) -> None:
        self.file = printable(file)
        self.problems: list[Problem] = []
        self._shown = shown
        self._faulty: set[KeyPath] = set()
        self._spoken_of: set[tuple[tuple[int, int], KeyPath]] = set()

    def add(
        self,
        at: tuple[int, int],
        path: KeyPath,
        message: str,
        allowed: str | None = None,
        *,
        usable: bool = False,
    ) -> None:
        """Note a problem at a line and column, each from 1; `(0, 0)` for the file as a whole.

        The value at the path is then left alone, unless it is `usable` all the same. A second problem of the
        same value is dropped, for it comes from the first. Raises Unusable where the file has more problems
        than are worth listing.
        """
        if (at, path) in self._spoken_of:
            return
        self._spoken_of.add((at, path))
        if len(self.problems) >= MOST_PROBLEMS:
            message = f"has more than {MOST_PROBLEMS:,} problems; the others are not listed"
            self.problems.append(Problem(self.file, 0, 0, "", message))
            raise Unusable
        if not usable:
            self.distrust(path)
        line, column = at
        self.problems.append(
            Problem(self.file, line, column, self._dotted(path), printable(message), allowed)
        )

    def give_up(
        self, at: tuple[int, int], path: KeyPath, message: str, allowed: str | None = None
    ) -> NoReturn:
        """Note a problem after which nothing of the file can be used."""
        self.add(at, path, message, allowed)
        raise Unusable

    def place(self, at: tuple[int, int], path: KeyPath) -> Place:
        """Return where the key stands that a path leads to, as a problem would show it."""
        return Place(self.file, *at, self._dotted(path))

    def _dotted(self, path: KeyPath) -> str:
        return printable(shortened(".".join(self._shown(path)), 300))

    def distrust(self, path: KeyPath) -> None:
        """Take a value as faulty without a problem of its own: another problem already speaks of it."""
        self._faulty.add(path)

    @property
    def spotless(self) -> bool:
        """Whether no value is faulty, so that nobody need ask about each; usable ones may have problems."""
        return not self._faulty

    def is_faulty(self, path: KeyPath) -> bool:
        """Tell whether there is a problem with this value, or with anything that holds it."""
        return bool(self._faulty) and any(path[:length] in self._faulty for length in range(len(path) + 1))

    def has_faulty(self, path: KeyPath) -> bool:
        """Tell whether there is a problem with anything inside this value."""
        return any(each[: len(path)] == path for each in self._faulty)

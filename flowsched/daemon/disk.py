"""A disk that may never answer, and a thread that is left to wait for it alone."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from flowsched.daemon.reading import Course
from flowsched.errors import FlowschedError
from flowsched.threads import begun

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

ANSWER_WITHIN = 30.0
"""Real seconds in which what reads the disk must come a step further."""


class Unanswered(FlowschedError):  # noqa: N818 - it says what was asked
    """The disk does not answer."""


class Disk:
    """Has one thing at a time read, in a thread of its own that no end of the process waits for.

    Not in the loop's own threads: asyncio waits for those before it ends, and the disk may hang for ever.
    """

    def __init__(self, answer_within: float = ANSWER_WITHIN) -> None:
        self._answer_within = answer_within
        self._turn = asyncio.Lock()
        self._left: asyncio.Future[Any] | None = None
        """What nobody waits for any more, and may go on."""

    @property
    def hangs(self) -> bool:
        """Whether something that nobody waits for any more has still not ended."""
        return self._left is not None and not self._left.done()

    async def ask(self, read: Callable[[Course], T]) -> T:
        """Return what `read` returns, or raise what it raises; it begins after this call.

        Raises Unanswered where it comes no step further for ANSWER_WITHIN, or something hangs already, and
        where the machine has no thread for it.
        """
        async with self._turn:
            if self.hangs:
                raise Unanswered("cannot be read: an earlier reading still hangs")
            course = Course()
            answer = _begun(read, course)
            try:
                await self._wait(answer, course)
            finally:
                course.given_up.set()
                self._left = answer  # if it has not ended: the caller is cancelled, or waits no longer
            return answer.result()

    async def _wait(self, answer: asyncio.Future[T], course: Course) -> None:
        step = -1
        while course.files != step:
            step = course.files
            await asyncio.wait({answer}, timeout=self._answer_within)
            if answer.done():
                return
        raise Unanswered(f"cannot be read: no answer within {self._answer_within:g} s")


def _begun(read: Callable[[Course], T], course: Course) -> asyncio.Future[T]:
    """Begin to read, and return what will come of it."""
    try:
        answer = begun("flowsched-disk", partial(read, course))
    except RuntimeError as error:
        raise Unanswered(f"cannot be read: {error}") from None
    answer.add_done_callback(lambda it: it.cancelled() or it.exception())  # nobody may be left to look
    return answer

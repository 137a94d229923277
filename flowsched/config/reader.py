"""Strict YAML: bytes in, a tree of nodes with positions out, or the reasons why not.

The scalars are those of YAML 1.2's core schema, as editors read them. Refused, because in a reviewed file
they only mislead: duplicate keys, merge keys, tags, keys that are not text, several documents, and characters
that hide text from the reviewer. The tree is built from parser events, on a stack of our own: libyaml's
composer recurses, and 100,000 brackets crash the process.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

import yaml
from yaml import events

from flowsched.config import syntax

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from flowsched.config.findings import Findings, KeyPath

DEEPEST = 40
"""Mappings and sequences inside one another, aliases followed."""
MOST_ALIASES = 100
MOST_VALUES = 250_000
"""Values of one file, aliases followed."""

Position = tuple[int, int]
"""Line and column, each counted from 1."""

# libyaml's parser is some ten times as fast, but not every wheel of PyYAML brings it.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# The pure-Python scanner also lets int() and chr() fail on absurd directives and escapes.
_FAULTS = yaml.YAMLError, ValueError, OverflowError

_CONSTANTS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMBER_START = frozenset("+-.0123456789")
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_REAL = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_LONGEST_NUMBER = 40
_NOTHING: Mapping[str, Any] = MappingProxyType({})
"""Within a scalar: one for all, as most nodes are scalars."""


@dataclass(slots=True)
class Node:
    """A value of the file, and where it stands."""

    at: Position
    data: Any
    """The plain value: dict, list, str, int, float, bool or None."""
    children: Mapping[str, Node]
    """The values of a mapping, by key; of a list, by index, from "0"."""
    keys: Mapping[str, Position]
    """Where each key of a mapping stands."""

    def get(self, path: KeyPath) -> Node | None:
        """Return the node at the end of a path; None where there is none."""
        node: Node | None = self
        for key in path:
            node = node.children.get(key) if node else None
        return node

    def position(self, path: KeyPath) -> Position:
        """Return where the last key of a path stands; for the empty path, where the file begins."""
        holder = self.get(path[:-1]) if path else None
        if not holder:
            return self.at
        return holder.keys.get(path[-1]) or holder.children[path[-1]].at


@dataclass(slots=True)
class _Frame:
    """A collection that is being read."""

    at: Position
    data: Any
    anchor: str | None
    is_mapping: bool
    key: str | None = None
    """The key whose value is next; None where a key is next, and in sequences."""
    repeated: bool = False
    """Whether that key was there before: then its value is read and left aside."""
    children: dict[str, Node] = field(default_factory=dict)
    keys: dict[str, Position] = field(default_factory=dict)
    values: int = 1
    height: int = 1

    @property
    def node(self) -> Node:
        """What has been read of it."""
        return Node(self.at, self.data, self.children, self.keys)

    def put(self, node: Node) -> None:
        """Take in the value that is next."""
        key = self.key
        if key is None:
            self.children[str(len(self.data))] = node
            self.data.append(node.data)
            return
        if not self.repeated:
            self.children[key] = node
            self.data[key] = node.data
        self.key = None


@dataclass(frozen=True, slots=True)
class _Anchored:
    node: Node
    values: int
    height: int


def read(content: bytes, findings: Findings) -> Node:
    """Return the one document of a file; its `data` is None where there is nothing in the file.

    A key that is there twice, or is not text, is noted, and the reading goes on; the first of two counts.
    For anything else that is not strict YAML, Unusable is raised after noting it.
    """
    text = syntax.decode(content, findings)
    return _Tree(findings, escapes="\\" in text).build(_events(text, findings))


def _events(text: str, findings: Findings) -> Iterator[Any]:
    """Yield the parser's events; a fault of syntax becomes a finding."""
    try:
        parser = _Loader(text)
        while (event := parser.get_event()) is not None:
            yield event
    except _FAULTS as error:
        syntax.explain(error, text, findings, _gets_past)


def _gets_past(text: str, at: Position) -> bool:
    """Tell whether the parser takes what stands at a position."""
    try:
        parser = _Loader(text)
        while (event := parser.get_event()) is not None and event.start_mark.line < at[0]:
            pass
    except _FAULTS as error:
        mark = getattr(error, "problem_mark", None)
        return mark is not None and (mark.line + 1, mark.column + 1) > at
    return True


class _Tree:
    def __init__(self, findings: Findings, *, escapes: bool) -> None:
        self._findings = findings
        self._escapes = escapes
        """Whether the file has a backslash: what is written as it is was looked at before."""
        self._stack: list[_Frame] = []
        self._frame: _Frame | None = None
        """The innermost of them."""
        self._anchored: dict[str, _Anchored] = {}
        self._aliases = 0
        self._values = 0
        self._documents = 0
        self._root = _scalar((1, 1), None)

    def build(self, stream: Iterable[Any]) -> Node:
        steps = {
            events.DocumentStartEvent: self._document,
            events.ScalarEvent: self._scalar,
            events.AliasEvent: self._alias,
            events.MappingStartEvent: self._open,
            events.SequenceStartEvent: self._open,
            events.MappingEndEvent: self._close,
            events.SequenceEndEvent: self._close,
        }
        for event in stream:
            step = steps.get(type(event))
            if step:
                step(event)
        return self._root

    def _document(self, event: Any) -> None:
        self._documents += 1
        if self._documents > 1:
            self._give_up(event, "a second document begins here", "one document a file")

    def _scalar(self, event: Any) -> None:
        if event.tag:
            self._refuse_tag(event)
        plain, text, frame = event.implicit[0], event.value, self._frame
        if self._escapes and event.style == '"' and syntax.hidden(text):
            self._give_up(event, "a character that does not show is escaped in this text", "visible text")
        if frame is not None and frame.key is None and frame.is_mapping:
            self._key(frame, event, plain=plain)
            return
        if plain and len(text) > _LONGEST_NUMBER and _INTEGER.fullmatch(text):
            self._give_up(event, f"a number of {len(text):,} digits", f"at most {_LONGEST_NUMBER}")
        node = _scalar(_position(event), _plain_value(text) if plain else text)
        if event.anchor:
            self._anchored[event.anchor] = _Anchored(node, 1, 0)
        self._count(event, 1)
        if frame is None:
            self._root = node
        else:
            frame.values += 1
            frame.put(node)

    def _key(self, frame: _Frame, event: Any, *, plain: bool) -> None:
        key = event.value
        if plain and key == "<<":
            self._give_up(event, "merge keys are not supported", 'keys written out, or a "defaults" section')
        if plain and key[:1].isspace():
            self._give_up(event, *syntax.odd_space(key[0]))
        if plain and not isinstance(_plain_value(key), str):
            message = "this key is not text" if key else "the key is empty"
            path = (*self._path(), key)
            self._findings.add(_position(event), path, message, "text; put it in quotes", usable=True)
        frame.key, frame.repeated = key, key in frame.keys
        if not frame.repeated:
            frame.keys[key] = _position(event)
            return
        message = f"is here again; the first is on line {frame.keys[key][0]}"
        self._findings.add(_position(event), self._path(), message, "each key once", usable=True)

    def _alias(self, event: Any) -> None:
        self._aliases += 1
        if self._aliases > MOST_ALIASES:
            self._give_up(event, "too many aliases", f"at most {MOST_ALIASES}")
        if self._key_is_next():
            self._give_up(event, "an alias stands where a key should be", "a key written out")
        if any(frame.anchor == event.anchor for frame in self._stack):
            self._give_up(event, "this alias stands inside what it names", "aliases of what came before")
        anchored = self._anchored.get(event.anchor)
        if not anchored:
            self._give_up(event, syntax.NO_SUCH_ANCHOR, syntax.QUOTE_STAR)
        self._attach(anchored.node, event, values=anchored.values, height=anchored.height)

    def _open(self, event: Any) -> None:
        self._refuse_tag(event)
        if self._key_is_next():
            self._give_up(event, "a mapping or a sequence stands where a key should be", "text as a key")
        self._refuse_depth(event, 1)
        is_mapping = isinstance(event, events.MappingStartEvent)
        data: Any = {} if is_mapping else []
        self._frame = _Frame(_position(event), data, event.anchor, is_mapping)
        self._stack.append(self._frame)

    def _close(self, event: Any) -> None:
        frame = self._stack.pop()
        self._frame = self._stack[-1] if self._stack else None
        node = frame.node
        if frame.anchor:
            self._anchored[frame.anchor] = _Anchored(node, frame.values, frame.height)
        self._attach(node, event, values=frame.values, height=frame.height, counted=frame.values - 1)

    def _attach(self, node: Node, event: Any, *, values: int, height: int, counted: int = 0) -> None:
        """Put a complete node where it belongs; `counted` of its values were counted when they were read."""
        self._count(event, values - counted)
        self._refuse_depth(event, height)
        frame = self._frame
        if frame is None:
            self._root = node
            return
        frame.values += values
        frame.height = max(frame.height, height + 1)
        frame.put(node)

    def _count(self, event: Any, values: int) -> None:
        self._values += values
        if self._values > MOST_VALUES:
            self._give_up(event, "too many values", f"at most {MOST_VALUES:,} in a file, aliases followed")

    def _key_is_next(self) -> bool:
        return self._frame is not None and self._frame.key is None and self._frame.is_mapping

    def _path(self) -> KeyPath:
        return tuple(_step(frame) for frame in self._stack if frame.key is not None or not frame.is_mapping)

    def _refuse_tag(self, event: Any) -> None:
        if event.tag:
            self._give_up(
                event,
                "tags such as !name are not supported",
                'values without a tag, text that begins with "!" in quotes',
            )

    def _refuse_depth(self, event: Any, height: int) -> None:
        if len(self._stack) + height > DEEPEST:
            self._give_up(event, "nested too deep", f"at most {DEEPEST} levels, aliases followed")

    def _give_up(self, event: Any, message: str, allowed: str) -> NoReturn:
        # Of lists nested without end, the numbers would say nothing.
        keys = tuple(frame.key for frame in self._stack if frame.key is not None)
        self._findings.give_up(_position(event), keys, message, allowed)


def _step(frame: _Frame) -> str:
    """Return what leads from a collection to the value that is being read in it."""
    return str(len(frame.data)) if frame.key is None else frame.key


def _scalar(at: Position, data: Any) -> Node:
    return Node(at, data, _NOTHING, _NOTHING)


def _position(event: Any) -> Position:
    mark = event.start_mark
    return mark.line + 1, mark.column + 1


def _plain_value(text: str) -> Any:
    """Return what a plain scalar is in YAML 1.2's core schema; hexadecimal, octal, inf and nan are text."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text[0] not in _NUMBER_START:
        return text
    if _INTEGER.fullmatch(text):
        return int(text[:_LONGEST_NUMBER])
    return float(text) if _REAL.fullmatch(text) else text

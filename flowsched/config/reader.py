"""Strict YAML: bytes in, a tree of nodes with positions out, or the reasons why not.

The scalars are those of YAML 1.2's core schema, as editors read them. Refused, because in a reviewed file
they only mislead: duplicate keys, merge keys, tags, keys that are not text, several documents, and characters
that hide text from the reviewer. The tree is built from parser events, on a stack of our own: libyaml's
composer recurses, and 100,000 brackets crash the process.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import yaml
from yaml import events

from flowsched.config import syntax

if TYPE_CHECKING:
    from collections.abc import Iterator

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

_CONSTANTS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMBER_START = frozenset("+-.0123456789")
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_REAL = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_LONGEST_NUMBER = 40


@dataclass(slots=True)
class Node:
    """A value of the file, and where it stands."""

    at: Position
    data: Any
    """The plain value: dict, list, str, int, float, bool or None."""
    children: dict[str, Node] = field(default_factory=dict)
    """The values of a mapping, by key; of a list, by index, from "0"."""
    keys: dict[str, Position] = field(default_factory=dict)
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

    node: Node
    anchor: str | None
    key: str | None = None
    """The key whose value is next; None where a key is next, and in sequences."""
    repeated: bool = False
    """Whether that key was there before: then its value is read and left aside."""
    values: int = 1
    height: int = 1


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
    return _Tree(findings).build(_events(text, findings))


def _events(text: str, findings: Findings) -> Iterator[Any]:
    """Yield the parser's events; a fault of syntax becomes a finding."""
    try:
        yield from yaml.parse(text, Loader=_Loader)
    # The pure-Python scanner also lets int() and chr() fail on absurd directives and escapes.
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        syntax.explain(error, text, findings)


class _Tree:
    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._stack: list[_Frame] = []
        self._anchored: dict[str, _Anchored] = {}
        self._aliases = 0
        self._values = 0
        self._documents = 0
        self._root = Node((1, 1), None)

    def build(self, stream: Iterator[Any]) -> Node:
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
        self._refuse_tag(event)
        plain = event.implicit[0]
        if event.style == '"' and syntax.hidden(event.value):
            self._give_up(event, "a character that does not show is escaped in this text", "visible text")
        if self._key_is_next():
            self._key(event, plain=plain)
            return
        if plain and len(event.value) > _LONGEST_NUMBER and _INTEGER.fullmatch(event.value):
            self._give_up(event, f"a number of {len(event.value):,} digits", f"at most {_LONGEST_NUMBER}")
        node = Node(_position(event), _plain_value(event.value) if plain else event.value)
        if event.anchor:
            self._anchored[event.anchor] = _Anchored(node, 1, 0)
        self._attach(node, event, values=1, height=0)

    def _key(self, event: Any, *, plain: bool) -> None:
        frame, key = self._stack[-1], event.value
        if plain and key == "<<":
            self._give_up(event, "merge keys are not supported", 'keys written out, or a "defaults" section')
        path = (*self._path(), key)
        if plain and not isinstance(_plain_value(key), str):
            message = "this key is not text" if key else "the key is empty"
            self._findings.add(_position(event), path, message, "text; put it in quotes", usable=True)
        frame.key, frame.repeated = key, key in frame.node.keys
        if not frame.repeated:
            frame.node.keys[key] = _position(event)
            return
        message = f"is here again; the first is on line {frame.node.keys[key][0]}"
        self._findings.add(_position(event), path, message, "each key once", usable=True)

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
        data: Any = {} if isinstance(event, events.MappingStartEvent) else []
        self._stack.append(_Frame(Node(_position(event), data), event.anchor))

    def _close(self, event: Any) -> None:
        frame = self._stack.pop()
        if frame.anchor:
            self._anchored[frame.anchor] = _Anchored(frame.node, frame.values, frame.height)
        self._attach(frame.node, event, values=frame.values, height=frame.height, counted=frame.values - 1)

    def _attach(self, node: Node, event: Any, *, values: int, height: int, counted: int = 0) -> None:
        """Put a complete node where it belongs; `counted` of its values were counted when they were read."""
        self._values += values - counted
        if self._values > MOST_VALUES:
            self._give_up(event, "too many values", f"at most {MOST_VALUES:,} in a file, aliases followed")
        self._refuse_depth(event, height)
        if not self._stack:
            self._root = node
            return
        frame = self._stack[-1]
        frame.values += values
        frame.height = max(frame.height, height + 1)
        if frame.key is None:
            frame.node.children[str(len(frame.node.data))] = node
            frame.node.data.append(node.data)
        elif not frame.repeated:
            frame.node.children[frame.key] = node
            frame.node.data[frame.key] = node.data
        frame.key = None

    def _key_is_next(self) -> bool:
        return (
            bool(self._stack) and self._stack[-1].key is None and isinstance(self._stack[-1].node.data, dict)
        )

    def _path(self) -> KeyPath:
        return tuple(_step(frame) for frame in self._stack if frame.key is not None or _is_list(frame))

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


def _is_list(frame: _Frame) -> bool:
    return isinstance(frame.node.data, list)


def _step(frame: _Frame) -> str:
    """Return what leads from a collection to the value that is being read in it."""
    return str(len(frame.node.data)) if frame.key is None else frame.key


def _position(event: Any) -> Position:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _plain_value(text: str) -> Any:
    """Return what a plain scalar is in YAML 1.2's core schema; hexadecimal, octal, inf and nan are text."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text[0] not in _NUMBER_START:
        return text
    if _INTEGER.fullmatch(text):
        return int(text[:_LONGEST_NUMBER])
    return float(text) if _REAL.fullmatch(text) else text

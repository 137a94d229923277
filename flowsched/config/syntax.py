"""What is wrong with bytes that are no YAML, in our own words: those of libyaml and PyYAML differ."""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowsched.config.findings import Findings

QUOTE_STAR = 'text that begins with "*" in quotes, such as "*/5 * * * *"'
NO_SUCH_ANCHOR = 'an unquoted "*" begins a YAML alias, and nothing in this file has the name that follows it'

# Control characters; line breaks that only YAML sees; what is no character; and those that show nothing or
# turn text round (Default_Ignorable_Code_Point in Unicode's data). Two of these remain, U+FE0E and U+FE0F:
# many a simple emoji ends with one. U+200D does not, which joins several emoji into one.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufff9-\ufffb\ufffe\uffff\ud800-\udfff"
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
    "|\r(?!\n)"
)
# Where braces are around it, a comma after the last field is theirs.
_FIVE_FIELDS = re.compile(r"(\*(?:/\d+)?(?:[ \t]+[\w*/#-]+(?:,[\w*/#-]+)*){4})(?=[ \t]*(?:[,}\]#\r]|$))")
_CONFLICT = re.compile(r"^(<{7}|={7}|>{7})(?: .*)?\r?$", re.MULTILINE)
_RESOLVED = "what both sides agree on, without the lines that begin with <<<<<<<, ======= and >>>>>>>"

# Where the parser would want a plain space: before what a line begins with, and after a colon.
_ODD_SPACE = re.compile(r"(?:^[ -]*|:)((?:[^\S\x00-\x7f] *)+)", re.MULTILINE)
_MOST_ODD = 20
"""How many of them are looked at: for each, the file may be parsed once more."""

_BAD_ESCAPE = (
    "the double-quoted text that begins here has a backslash that escapes nothing",
    "single quotes around text with backslashes",
)
_WORDS = {
    "while scanning an anchor": (
        'an unquoted "&" begins a YAML anchor, and no name follows it',
        'text that begins with "&" in quotes',
    ),
    "while scanning a simple key": ('this line has no ":" after its key', "key: value"),
    "while scanning a quoted scalar": ("the quote that opens here is not closed", "a quote at both ends"),
    # The same fault, as PyYAML and as libyaml word it.
    "while scanning a double-quoted scalar": _BAD_ESCAPE,
    "while parsing a quoted scalar": _BAD_ESCAPE,
    "while parsing a flow sequence": ('the "[" that opens here is not closed', 'items between "[" and "]"'),
    "while parsing a flow mapping": (
        'the "{" that opens here is not closed',
        "pairs as in {key: value, key: value}",
    ),
}


def hidden(text: str) -> re.Match[str] | None:
    """Find the first character that would not show, or would show as something else."""
    return _HIDDEN.search(text)


def odd_space(character: str) -> tuple[str, str]:
    """Say of a character that looks like a space what is wrong with it, and what is allowed."""
    return f"looks like a space, and is none to YAML: U+{ord(character):04X}", "spaces, U+0020"


def decode(content: bytes, findings: Findings) -> str:
    """Return the text of a file: UTF-8, with or without a byte order mark, visible characters only.

    Raises Unusable after noting what is wrong.
    """
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        before = content[: error.start].decode()
        message = f"not UTF-8: byte {error.start + 1} of the file is 0x{content[error.start]:02x}"
        findings.give_up(_end(before), (), message, "text in UTF-8")
    character = hidden(text)
    if character:
        message = f"a character that does not show: U+{ord(character[0]):04X}"
        findings.give_up(_end(text[: character.start()]), (), message, "visible text, spaces and line ends")
    return text


def explain(
    error: Exception, text: str, findings: Findings, gets_past: Callable[[str, tuple[int, int]], bool]
) -> NoReturn:
    """Note why the parser stopped, and raise Unusable.

    `gets_past` tells whether the parser would get past a position in another text.
    """
    conflict = _CONFLICT.search(text)
    if conflict:
        line = text.count("\n", 0, conflict.start()) + 1
        findings.give_up((line, 1), (), f"a merge conflict that was not resolved: {conflict[1]}", _RESOLVED)
    if not isinstance(error, yaml.MarkedYAMLError):
        findings.give_up((0, 0), (), "is not YAML", "YAML 1.2")
    context, begun, stopped = error.context or "", _at(error.context_mark), _at(error.problem_mark)
    if context == "while scanning an alias":
        findings.give_up(begun, (), 'an unquoted "*" begins a YAML alias', _with_quotes(text, begun))
    character = _character(text, stopped)
    if character == "\t":
        findings.give_up(stopped, (), "a tab where YAML wants spaces", "spaces to indent and to separate")
    _refuse_odd_space(text, begun[0], stopped, findings, gets_past)
    if context in _WORDS:
        findings.give_up(begun, (), *_WORDS[context])
    findings.give_up(stopped, (), *_stuck(context, error.problem or "", character, begun))


def _refuse_odd_space(
    text: str,
    first: int,
    stopped: tuple[int, int],
    findings: Findings,
    gets_past: Callable[[str, tuple[int, int]], bool],
) -> None:
    """Note the first without which the parser would have got on, in the lines from there, and raise Unusable.

    In quotes, comments and block scalars they are allowed, and change nothing.
    """
    lines = text.split("\n")
    begin = sum(len(line) + 1 for line in lines[: max(0, first - 1)])
    end = sum(len(line) + 1 for line in lines[: stopped[0]]) - 1
    odd = list(_ODD_SPACE.finditer(text, begin, end))[-_MOST_ODD:]
    if not odd or not gets_past(_spaced(text, odd), stopped):
        return
    for each in odd:
        if not gets_past(_spaced(text, [other for other in odd if other is not each]), stopped):
            findings.give_up(_end(text[: each.start(1)]), (), *odd_space(each[1][0]))


def _spaced(text: str, odd: list[re.Match[str]]) -> str:
    """Return the text with plain spaces there."""
    for each in odd:
        text = text[: each.start(1)] + " " * len(each[1]) + text[each.end(1) :]
    return text


def _stuck(context: str, problem: str, character: str, begun: tuple[int, int]) -> tuple[str, str]:
    """Say why nothing sensible can begin where the parser stopped."""
    if problem.startswith("mapping values are not allowed"):
        return 'a ":" where no key can be', 'text that holds ": " in quotes; one key a line, with its own ":"'
    if context == "while scanning for the next token":
        return f'text cannot begin with "{character}" unless it is in quotes', f'"{character}..." in quotes'
    if context == "while parsing a block mapping":
        message = f"this does not go on with the mapping that begins on line {begun[0]}"
        return message, "the keys of one mapping indented alike; one value a key, all of it inside its quotes"
    if not character.strip():
        return (
            "something is still open, or has no value, where this line ends",
            'a "]" for each "[", a "}" for each "{"',
        )
    return "what begins here is not YAML", "YAML 1.2"


def _with_quotes(text: str, at: tuple[int, int]) -> str:
    """Return the cron expression that stands there in quotes; an example where it does not look like one."""
    match = _FIVE_FIELDS.match(_line(text, at[0]), at[1] - 1)
    return f'"{match[1]}"' if match else QUOTE_STAR


def _character(text: str, at: tuple[int, int]) -> str:
    return _line(text, at[0])[at[1] - 1 : at[1]]


def _line(text: str, number: int) -> str:
    lines = text.split("\n", number)
    return lines[number - 1] if number <= len(lines) else ""


def _at(mark: Any) -> tuple[int, int]:
    return (mark.line + 1, mark.column + 1) if mark else (0, 0)


def _end(text: str) -> tuple[int, int]:
    """Return the position right after a text."""
    return text.count("\n") + 1, len(text) - text.rfind("\n")

"""Files by somebody who means ill, or by nobody at all."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsched.config import load_catalog, load_settings, reader
from flowsched.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

MANY = 100_000
LOADERS = [yaml.CSafeLoader, yaml.SafeLoader]

HOSTILE = {
    "brackets": "[" * MANY,
    "brackets in a value": "schedules: " + "[" * MANY,
    "braces": "{" * MANY,
    "both": "[{" * MANY,
    "closed brackets": "[" * MANY + "]" * MANY,
    "keys that are brackets": "{? [" * MANY,
    "dashes": "- " * MANY,
    "question marks": "? " * MANY,
    "indentation": "".join(f"{' ' * depth}a:\n" for depth in range(1_000)),
    "anchored brackets": "&a [" * MANY,
    "quotes": '"' * MANY,
    "colons": "a" + ":" * MANY,
    "commas": "[" + "," * MANY,
    "stars": "*" * MANY,
    "tags": "!!str " * MANY,
    "alias bomb": "".join(f"a{n}: &a{n} [{f'*a{n - 1},' * 9 if n else 'x'}]\n" for n in range(12)),
    "nesting by aliases": "".join(f"a{n}: &a{n} [{f'*a{n - 1}' if n else 'x'}]\n" for n in range(99)),
    "merge bomb": "".join(f"a{n}: &a{n} {{<<: [{f'*a{n - 1},' * 9 if n else ''}]}}\n" for n in range(7)),
    "alias of itself": "a: &a {b: [*a]}",
    "endless number": "schedules: " + "9" * MANY,
    "endless version": f"%YAML {'9' * MANY}.1\n---\na: b\n",
    "endless tag": f"%TAG ! {'a' * MANY}\n---\na: b\n",
    "escaped beyond Unicode": 'a: "\\UFFFFFFFF"',
    "escaped surrogate": 'a: "\\ud800"',
    "very long key": f"{'k' * MANY}: 1\n",
    "very long plain text": f"schedules: {'x ' * MANY}",
}


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_refused_within_a_second(
    name: str, loader: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_Loader", loader)
    (tmp_path / "a.yaml").write_text(HOSTILE[name])
    begun = time.process_time()

    with pytest.raises(ConfigError) as caught:
        load_catalog(str(tmp_path), None)

    assert time.process_time() - begun < 1
    assert len(str(caught.value)) < 1_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


def refused_or_read(folder: Path, content: bytes) -> None:
    """Read bytes as a file of schedules and as one of settings; nothing but a ConfigError may come of it."""
    path = folder / "a.yaml"
    path.write_bytes(content)
    for load in (lambda: load_catalog(str(path), None), lambda: load_settings(path)):
        with suppress(ConfigError):
            load()


KEYS = st.sampled_from(
    [
        *("schedules", "defaults", "cron", "flow", "task", "timezone", "retry", "max_attempts", "overlap"),
        *("targets", "url", "limits", "access_key", "env", "ledger", "catch_up_window"),
        *("a", "a b", "", "<<", "8", "~", "\x85"),
    ]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["@daily", "61 * * * *", "UTC", "1h", "skip", "https://a.example", "sqlite:///a", "v2.0"]
    ),
)
DATA = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.integers(), inner, max_size=5),
    max_leaves=20,
)
PIECES = st.lists(
    st.sampled_from(
        [
            *(
                "schedules:",
                "a:",
                "cron: ",
                "-",
                " ",
                "  ",
                "\n",
                "\r\n",
                "\t",
                "[",
                "]",
                "{",
                "}",
                ",",
                "? ",
            ),
            *("&a", "*a", "*/5", "<<:", "!!int", "!x", "|", ">", '"', "'", "\\", "#", "---", "...", "9"),
            *("%YAML 1.1\n", "\x00", "\u2028", "\ufeff"),
        ]
    ),
    max_size=30,
).map("".join)
BOUNDED = settings(max_examples=150, derandomize=True)


@pytest.mark.parametrize("loader", LOADERS)
@BOUNDED
@given(content=st.binary(max_size=100) | st.text(max_size=100).map(str.encode) | PIECES.map(str.encode))
def test_arbitrary_text_is_read_or_refused(
    content: bytes, loader: type, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_Loader", loader)

    refused_or_read(folder, content)


@BOUNDED
@given(data=st.dictionaries(KEYS, DATA, max_size=4), target=st.dictionaries(KEYS, DATA, max_size=8))
def test_arbitrary_data_is_read_or_refused(
    data: dict[str, Any], target: dict[str, Any], folder: Path
) -> None:
    whole = {**data, "schedules": data.get("schedules", {"a": data}), "targets": {"a": target}}

    refused_or_read(folder, yaml.safe_dump(whole, allow_unicode=True).encode(errors="surrogatepass"))


UNSEEN = {
    "soft hyphen": "\u00ad",
    "grapheme joiner": "\u034f",
    "Arabic letter mark": "\u061c",
    "Hangul filler": "\u3164",
    "zero-width space": "\u200b",
    "zero-width non-joiner": "\u200c",
    "zero-width joiner": "\u200d",
    "left-to-right mark": "\u200e",
    "right-to-left mark": "\u200f",
    "line separator": "\u2028",
    "right-to-left override": "\u202e",
    "word joiner": "\u2060",
    "invisible times": "\u2062",
    "first strong isolate": "\u2068",
    "variation selector": "\ufe00",
    "byte order mark": "\ufeff",
    "annotation": "\ufff9",
    "not a character": "\uffff",
    "tag": "\U000e0041",
    "another variation selector": "\U000e0100",
    "NUL": "\0",
    "next line": "\x85",
}


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("character", UNSEEN.values(), ids=UNSEEN)
def test_a_character_that_does_not_show_is_refused_as_it_is_and_escaped(
    character: str, loader: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_Loader", loader)
    (tmp_path / "bare.yaml").write_text(f"# wind{character}data\n", encoding="utf-8")
    (tmp_path / "escaped.yaml").write_text(f'schedules: {{"wind\\U{ord(character):08x}data": 1}}\n')

    with pytest.raises(ConfigError) as caught:
        load_catalog(str(tmp_path), None)

    bare, escaped = caught.value.problems
    assert (bare.line, bare.column) == (1, 7)
    assert bare.message == f"a character that does not show: U+{ord(character):04X}"
    assert escaped.message == "a character that does not show is escaped in this text"


@pytest.mark.parametrize(
    "text", ["W\u00e4rme", "\u98a8\u529b", "\U0001f4a8", "\u2600\ufe0f Solar", "\u26a1\ufe0e", "\ufffd"]
)
def test_whatever_shows_may_be_written(text: str, tmp_path: Path) -> None:
    schedule = f'{{cron: "@daily", timezone: UTC, flow: 1, description: {text}}}'
    (tmp_path / "a.yaml").write_text(f"schedules: {{a: {schedule}}}\n", encoding="utf-8")

    assert load_catalog(str(tmp_path), None).schedules["a"].description == text


def test_the_door_of_the_room_is_light() -> None:
    program = "import sys, flowsched.config; print({'jsonschema', 'yaml', 'cronsim'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)  # noqa: S603 - our own words

    assert done.stdout == "set()\n"

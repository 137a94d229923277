from __future__ import annotations

import copy
import os
import pickle
import traceback
from typing import TYPE_CHECKING

import pytest

from flowsched.config import Secret, read_secret, read_secrets
from flowsched.errors import SecretError
from flowsched.model import Place, SecretSource

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize(
    "show",
    [str, repr, "{}".format, "{!r:>10}".format, lambda secret: "%s" % secret],  # noqa: UP031
)
def test_a_secret_shows_as_a_mask(show: Callable[[Secret], str]) -> None:
    shown = show(Secret("hunter2"))

    assert shown.strip() == "<secret>"


def test_a_secret_is_revealed_on_request_only() -> None:
    secret = Secret("hunter2")

    assert secret.reveal() == "hunter2"
    assert not hasattr(secret, "__dict__")


@pytest.mark.parametrize("carry_off", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_secret_is_neither_copied_nor_pickled(carry_off: Callable[[Secret], object]) -> None:
    with pytest.raises(TypeError, match="neither copied nor pickled"):
        carry_off(Secret("hunter2"))


def test_a_secret_comes_from_the_environment() -> None:
    secret = read_secret(SecretSource("env", "KEY"), {"KEY": "hunter2"})

    assert secret.reveal() == "hunter2"


def test_a_secret_comes_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hunter2\n")

    secret = read_secret(SecretSource("file", str(tmp_path / "key")), {})

    assert secret.reveal() == "hunter2"


def test_a_secret_comes_from_a_systemd_credential(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hunter2")

    secret = read_secret(SecretSource("credential", "key"), {"CREDENTIALS_DIRECTORY": str(tmp_path)})

    assert secret.reveal() == "hunter2"


@pytest.mark.parametrize(
    ("written", "read"), [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a ", " a "), ("a\r", "a\r")]
)
def test_one_line_end_is_left_off_and_nothing_else(written: str, read: str) -> None:
    assert read_secret(SecretSource("env", "KEY"), {"KEY": written}).reveal() == read


@pytest.mark.parametrize(
    ("source", "environ", "told"),
    [
        (SecretSource("env", "KEY"), {}, "env KEY: this environment variable is not set"),
        (SecretSource("env", "KEY"), {"KEY": ""}, "env KEY: is empty"),
        (SecretSource("env", "KEY"), {"KEY": "\n"}, "env KEY: is empty"),
        (SecretSource("file", "/nowhere/key"), {}, "file /nowhere/key: cannot be read: No such file"),
        (SecretSource("file", "/"), {}, "file /: is a folder; allowed: a regular file"),
        (SecretSource("file", "/dev/zero"), {}, "file /dev/zero: is a device; allowed: a regular file"),
        (SecretSource("credential", "key"), {}, "credential key: systemd passed no credentials"),
        (SecretSource("credential", "key"), {"CREDENTIALS_DIRECTORY": "/nowhere"}, "credential key: cannot"),
    ],
)
def test_a_secret_that_is_not_there_names_its_source(
    source: SecretSource, environ: dict[str, str], told: str
) -> None:
    with pytest.raises(SecretError) as caught:
        read_secret(source, environ)

    assert str(caught.value).startswith(told)


@pytest.mark.parametrize("value", ["hunter2\udcff", "\ud800hunter2", "hunter2\udcff\n"])
def test_a_variable_that_is_no_text_is_refused_without_a_word_of_it(value: str) -> None:
    # What is no UTF-8 in the environment reaches a program as half of a surrogate pair.
    with pytest.raises(SecretError) as caught:
        read_secret(SecretSource("env", "KEY"), {"KEY": value})

    assert str(caught.value) == "env KEY: is not text in UTF-8"
    assert "hunter2" not in "".join(traceback.format_exception(caught.value, chain=True))
    assert not isinstance(caught.value.__context__, UnicodeError)


def test_any_text_in_utf_8_is_a_secret(tmp_path: Path) -> None:
    text = "h\u00fcnter2\ufffd\U0001f511"
    (tmp_path / "key").write_text(text, encoding="utf-8")

    assert read_secret(SecretSource("file", str(tmp_path / "key")), {}).reveal() == text
    assert read_secret(SecretSource("env", "KEY"), {"KEY": text}).reveal() == text


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"", "is empty"), (b"hunter2" * 10_000, "is too large"), (b"hunter2\xff", "is not text in UTF-8")],
)
def test_a_file_that_holds_no_secret_is_refused_without_a_word_of_it(
    content: bytes, told: str, tmp_path: Path
) -> None:
    (tmp_path / "key").write_bytes(content)

    with pytest.raises(SecretError, match=told) as caught:
        read_secret(SecretSource("file", str(tmp_path / "key")), {})

    assert "hunter2" not in "".join(traceback.format_exception(caught.value, chain=True))
    assert not isinstance(caught.value.__context__, UnicodeError)


def test_a_pipe_does_not_keep_anybody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "key")

    with pytest.raises(SecretError, match="is a named pipe"):
        read_secret(SecretSource("file", str(tmp_path / "key")), {})


def test_all_that_cannot_be_read_is_told_at_once_each_with_where_it_is_written(tmp_path: Path) -> None:
    places = [Place("flowsched.yaml", line, 5, f"targets.default.key{line}") for line in (8, 9, 10)]
    named = (("env", "NOT_SET"), ("file", str(tmp_path / "no")), ("credential", "key"))
    sources = [SecretSource(*each, place) for each, place in zip(named, places, strict=True)]

    with pytest.raises(SecretError) as caught:
        read_secrets([SecretSource("env", "KEY"), *sources], {"KEY": "hunter2"})

    no_file = "cannot be read: No such file or directory"
    no_folder = "systemd passed no credentials (CREDENTIALS_DIRECTORY is not set)"
    assert caught.value.faults == (
        "flowsched.yaml:8:5: targets.default.key8: env NOT_SET: this environment variable is not set",
        f"flowsched.yaml:9:5: targets.default.key9: file {tmp_path}/no: {no_file}",
        f"flowsched.yaml:10:5: targets.default.key10: credential key: {no_folder}",
    )
    assert str(caught.value) == "; ".join(caught.value.faults)

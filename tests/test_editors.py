"""The schema in the hands of other people's tools: the real yaml-language-server, and check-jsonschema."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

ROOT = Path(__file__).parent.parent
SCHEMAS = ROOT / "flowsched" / "config" / "schemas"
EXAMPLES = ROOT / "schedules"
SERVER = "yaml-language-server"
VERSION = "1.19.2"
MODELINE = "# yaml-language-server: $schema=../schemas/schedules.schema.json\n"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command of the language server, installed once from the npm registry."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        pytest.skip("node or npm is missing: editors are not tried")
    folder = tmp_path_factory.getbasetemp().parent / f"{SERVER}-{VERSION}"
    if not folder.exists():
        _install(npm, folder)
    return [node, str(folder / "node_modules" / SERVER / "bin" / SERVER), "--stdio"]


def _install(npm: str, folder: Path) -> None:
    made = Path(tempfile.mkdtemp(dir=folder.parent))
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(made)]
    try:
        done = subprocess.run(  # noqa: S603 - a pinned package
            [*command, f"{SERVER}@{VERSION}"], capture_output=True, text=True, timeout=120, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip("the npm registry does not answer: editors are not tried")
    if done.returncode:
        pytest.skip(f"{SERVER} {VERSION} cannot be installed: {done.stderr.strip()[-200:]}")
    try:
        made.rename(folder)
    except OSError:  # another worker was quicker
        shutil.rmtree(made)


class Editor:
    """What an editor does: it starts the server and speaks JSON-RPC with it over its standard streams."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - as above
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Nothing is to be fetched: whatever it wants from elsewhere leads nowhere.
            env={**os.environ, "HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"},
        )
        self._heard: Queue[dict[str, Any]] = Queue()
        self._number = 0
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def start(self, folder: Path) -> None:
        self.ask("initialize", processId=os.getpid(), rootUri=folder.as_uri(), capabilities={})
        self.tell("initialized")
        settings = {"validate": True, "completion": True, "hover": True, "schemaStore": {"enable": False}}
        self.tell("workspace/didChangeConfiguration", settings={"yaml": settings})

    def open(self, path: Path) -> list[dict[str, Any]]:
        """Open a file and return its diagnostics."""
        document = {"uri": path.as_uri(), "languageId": "yaml", "version": 1, "text": path.read_text()}
        self.tell("textDocument/didOpen", textDocument=document)
        said = self._next(lambda message: message.get("method") == "textDocument/publishDiagnostics")
        found: list[dict[str, Any]] = said["params"]["diagnostics"]
        return found

    def complete(self, path: Path, line: int, character: int) -> dict[str, dict[str, Any]]:
        """Return what is offered at a place, both counted from 0, by its label."""
        place = {"line": line, "character": character}
        answer = self.ask("textDocument/completion", textDocument={"uri": path.as_uri()}, position=place)
        items = answer["items"] if isinstance(answer, dict) else answer
        return {item["label"]: item for item in items}

    def ask(self, method: str, **params: Any) -> Any:
        self._number += 1
        number = self._number
        self._send({"id": number, "method": method, "params": params})
        return self._next(lambda message: message.get("id") == number and "method" not in message)["result"]

    def tell(self, method: str, **params: Any) -> None:
        self._send({"method": method, "params": params})

    def close(self) -> None:
        self._process.kill()
        self._listener.join(10)
        self._process.communicate()

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self._process.stdin
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self._process.stdin.flush()

    def _listen(self) -> None:
        stream = self._process.stdout
        assert stream
        while header := stream.readline():
            length = int(header.removeprefix(b"Content-Length:"))
            while stream.readline().strip():
                pass
            self._heard.put(json.loads(stream.read(length)))

    def _next(self, wanted: Any) -> dict[str, Any]:
        """Wait for a message; what the server asks meanwhile gets an empty answer."""
        while True:
            try:
                message = self._heard.get(timeout=60)
            except Empty:
                pytest.fail(f"{SERVER} does not answer")
            if wanted(message):
                return message
            if "method" in message and "id" in message:
                self._send({"id": message["id"], "result": None})


@pytest.fixture
def editor(server: list[str], tmp_path: Path) -> Iterator[Editor]:
    shutil.copytree(SCHEMAS, tmp_path / "schemas")
    (tmp_path / "schedules").mkdir()
    made = Editor(server)
    try:
        made.start(tmp_path)
        yield made
    finally:
        made.close()


def a_file(folder: Path, text: str) -> Path:
    path = folder / "schedules" / "a.yaml"
    path.write_text(MODELINE + text)
    return path


def test_the_language_server_completes_keys_and_values_by_our_modeline(
    editor: Editor, tmp_path: Path
) -> None:
    path = a_file(tmp_path, "schedules:\n  nightly:\n    flow: 1\n    overlap: \n    catch_\n")

    editor.open(path)
    keys = editor.complete(path, 5, len("    catch_"))
    values = editor.complete(path, 4, len("    overlap: "))

    assert {"catch_up", "catch_up_window"} <= set(keys)
    assert "Default: latest." in str(keys["catch_up"]["documentation"])
    assert {"queue", "skip", "cancel_previous"} <= set(values)


def test_the_language_server_underlines_what_the_schema_does_not_allow(
    editor: Editor, tmp_path: Path
) -> None:
    path = a_file(
        tmp_path,
        "schedules:\n  a:\n    cron: '0 2 * * *'\n    flow: one\n    overlapp: skip\n    timezone: UTC\n",
    )

    found = {each["range"]["start"]["line"]: each["message"] for each in editor.open(path)}

    assert set(found) == {4, 5}
    assert "integer" in found[4]
    assert "overlapp is not allowed" in found[5]


def test_the_language_server_has_nothing_to_say_of_a_good_file(editor: Editor, tmp_path: Path) -> None:
    path = a_file(tmp_path, "schedules:\n  nightly: {cron: '0 2 * * *', flow: 1, timezone: UTC}\n")

    assert editor.open(path) == []


def checked(schema: Path, *files: Path) -> subprocess.CompletedProcess[str]:
    script = Path(sys.executable).parent / "check-jsonschema"
    command = [str(script), "--schemafile", str(schema), *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a dev dependency


@pytest.mark.parametrize(
    ("kind", "files"),
    [
        ("schedules", sorted(path for path in EXAMPLES.glob("*.yaml") if ".test." not in path.name)),
        ("settings", [ROOT / "flowsched.example.yaml"]),
        ("tests", sorted(EXAMPLES.glob("*.test.yaml"))),
    ],
)
def test_check_jsonschema_finds_the_examples_good(kind: str, files: list[Path]) -> None:
    done = checked(SCHEMAS / f"{kind}.schema.json", *files)

    assert (done.returncode, done.stdout) == (0, "ok -- validation done\n"), done.stdout


def test_check_jsonschema_finds_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("schedules: {nightly: {cron: '0 2 * * *', flow: 1, overlap: never}}\n")

    done = checked(SCHEMAS / "schedules.schema.json", tmp_path / "a.yaml")

    assert done.returncode == 1
    assert "'never' is not one of ['queue', 'skip', 'cancel_previous']" in done.stdout

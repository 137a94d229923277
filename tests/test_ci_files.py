"""What others copy into their CI: valid, safe with strangers' code, and its commands are ours."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import click
import pytest
import yaml

from flowsched.cli import group

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
CI = ROOT / "docs" / "ci"
MARKER = "<!-- flowsched plan -->"
PLAN = f"{MARKER}\n## Plan\n"
NO_PLAN = f"{MARKER}\n\n### flowsched: no plan\n\nThe job did not come so far: its log says why.\n"


def document(path: Path) -> Any:
    # As YAML 1.2 has it, where `on` is text.
    loader = type("Loader", (yaml.SafeLoader,), {"yaml_implicit_resolvers": {}})
    return yaml.load(path.read_text(encoding="utf-8"), loader)  # noqa: S506 - a safe one, and our own file


GITHUB = document(CI / "github-actions.yml")
GITLAB = document(CI / "gitlab-ci.yml")
HOOKS = document(ROOT / ".pre-commit-hooks.yaml")


def github_scripts() -> list[str]:
    return [step["run"] for job in GITHUB["jobs"].values() for step in job["steps"] if "run" in step]


def gitlab_scripts() -> list[str]:
    return [line for name in ("flowsched", "flowsched-comment") for line in GITLAB[name]["script"]]


def commands(scripts: list[str]) -> Iterator[list[str]]:
    for line in "\n".join(scripts).splitlines():
        if line.strip().startswith("flowsched "):
            words = shlex.split(line)
            end = next((index for index, word in enumerate(words) if word in (">", "2>", "||")), len(words))
            yield words[1:end]


@pytest.mark.parametrize("name", ["github-workflows:github-actions.yml", "gitlab-ci:gitlab-ci.yml"])
def test_a_file_is_what_its_ci_takes(name: str) -> None:
    schema, _, file = name.partition(":")
    script = Path(sys.executable).parent / "check-jsonschema"

    done = subprocess.run(  # noqa: S603 - a dev dependency
        [str(script), "--builtin-schema", f"vendor.{schema}", str(CI / file)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "command",
    [
        *commands(github_scripts()),
        *commands(gitlab_scripts()),
        *(shlex.split(hook["entry"])[1:] for hook in HOOKS),
    ],
    ids=" ".join,
)
def test_its_commands_and_their_options_are_ours(command: list[str]) -> None:
    name, *arguments = command
    with click.Context(group) as ctx:
        found = group.get_command(ctx, name)
        assert found is not None

        found.make_context(name, arguments, parent=ctx)


def test_every_part_is_there() -> None:
    for scripts in (github_scripts(), gitlab_scripts()):
        assert {name for name, *_ in commands(scripts)} == {"validate", "test", "plan"}
        assert MARKER in "\n".join(scripts)


def test_a_strangers_code_meets_no_token_that_can_write() -> None:
    assert set(GITHUB["on"]) == {"pull_request"}
    assert GITHUB["permissions"] == {"contents": "read"}
    check, comment = GITHUB["jobs"]["check"], GITHUB["jobs"]["comment"]
    assert "permissions" not in check
    checkout = next(step for step in check["steps"] if step.get("uses", "").startswith("actions/checkout"))
    assert checkout["with"] == {"fetch-depth": "0", "persist-credentials": "false"}
    assert comment["permissions"] == {"pull-requests": "write"}
    assert "head.repo.full_name == github.repository" in comment["if"]
    assert not [step for step in comment["steps"] if "checkout" in step.get("uses", "")]
    assert GITLAB["flowsched-comment"]["variables"] == {"GIT_STRATEGY": "none"}
    assert "$FLOWSCHED_COMMENT_TOKEN" in GITLAB["flowsched-comment"]["rules"][0]["if"]
    assert "FLOWSCHED_COMMENT_TOKEN" not in str(GITLAB["flowsched"])


def test_nothing_that_a_stranger_writes_becomes_part_of_a_script() -> None:
    assert not [script for script in github_scripts() if "${{" in script]


def test_every_action_is_pinned_to_a_version() -> None:
    used = [step["uses"] for job in GITHUB["jobs"].values() for step in job["steps"] if "uses" in step]

    assert used
    assert [each for each in used if not re.fullmatch(r"actions/[a-z-]+@v\d+", each)] == []


class Notes(BaseHTTPRequestHandler):
    """As much of GitLab as the comment needs: somebody else's note, and ours where there is one."""

    notes: list[dict[str, Any]]
    calls: list[tuple[str, str, str | None]]

    def do_GET(self) -> None:
        self._answer({"id": 7} if self.path.endswith("/user") else self.notes)

    def do_POST(self) -> None:
        self._write()

    def do_PUT(self) -> None:
        self._write()

    def _write(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.calls.append((self.command, self.path, body["body"]))
        self._answer({})

    def _answer(self, value: Any) -> None:
        assert self.headers["PRIVATE-TOKEN"] == "invented"
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


OURS = {"id": 42, "author": {"id": 7}, "body": PLAN}
FORGED = {"id": 41, "author": {"id": 8}, "body": PLAN}


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("notes", "call"), [([FORGED], ("POST", "")), ([FORGED, OURS], ("PUT", "/42"))], ids=["new", "there"]
)
@pytest.mark.parametrize("plan", [PLAN, None], ids=["plan", "no-plan"])
def test_gitlab_has_one_comment_which_is_brought_up_to_date(
    tmp_path: Path, plan: str | None, notes: list[dict[str, Any]], call: tuple[str, str]
) -> None:
    if plan:
        (tmp_path / "reports").mkdir()
        (tmp_path / "reports" / "plan.md").write_text(plan)
    (tmp_path / "python").symlink_to(sys.executable)
    handler: Any = type("Handler", (Notes,), {"notes": notes, "calls": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        done = subprocess.run(  # noqa: S603 - the script of the file
            ["/bin/bash", "-euo", "pipefail", "-c", "\n".join(GITLAB["flowsched-comment"]["script"])],
            cwd=tmp_path,
            env={
                "PATH": f"{tmp_path}:{os.environ['PATH']}",
                "CI_API_V4_URL": f"http://127.0.0.1:{server.server_port}",
                "CI_MERGE_REQUEST_PROJECT_ID": "3",
                "CI_MERGE_REQUEST_IID": "5",
                "FLOWSCHED_COMMENT_TOKEN": "invented",
            },
            capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
        server.shutdown()

    assert (done.returncode, done.stderr) == (0, "")
    method, end = call
    assert handler.calls == [(method, f"/projects/3/merge_requests/5/notes{end}", plan or NO_PLAN)]


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("found", "said"),
    [("", "POST repos/o/r/issues/5/comments"), ("42\n43\n", "PATCH repos/o/r/issues/comments/42")],
    ids=["new", "there"],
)
@pytest.mark.parametrize("plan", [PLAN, None], ids=["plan", "no-plan"])
def test_github_has_one_comment_which_is_brought_up_to_date(
    tmp_path: Path, plan: str | None, found: str, said: str
) -> None:
    if plan:
        (tmp_path / "plan.md").write_text(plan)
    gh = tmp_path / "gh"
    gh.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *--paginate*) printf %s "{found}" ;; *) echo "$@" >> calls ;; esac\n'
    )  # fmt: skip
    gh.chmod(0o755)
    script = GITHUB["jobs"]["comment"]["steps"][-1]["run"]

    done = subprocess.run(  # noqa: S603 - the script of the file
        ["/bin/bash", "-e", "-c", script],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "REPOSITORY": "o/r", "NUMBER": "5"},
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "calls").read_text() == f"api --silent --method {said} --field body=@plan.md\n"
    assert (tmp_path / "plan.md").read_text() == (plan or NO_PLAN)


GITHUB_PLAN = next(step["run"] for step in GITHUB["jobs"]["check"]["steps"] if step.get("name") == "Plan")
GITLAB_PLAN = next(part for part in GITLAB["flowsched"]["script"] if "flowsched plan" in part)


@pytest.mark.e2e
@pytest.mark.parametrize("script", [GITHUB_PLAN, GITLAB_PLAN], ids=["github", "gitlab"])
@pytest.mark.parametrize(
    ("printed", "said", "code", "expected"),
    [
        (PLAN, "", 0, PLAN),
        (
            f"{MARKER}\n### flowsched: no plan, 1 problem\n",
            "",
            1,
            f"{MARKER}\n### flowsched: no plan, 1 problem\n",
        ),
        (
            "",
            "no schedules\n```\n# @all \\303\\244",
            2,
            f"{MARKER}\n\n### flowsched: no plan\n\n    no schedules\n    ```\n    # @all ??",
        ),
    ],
    ids=["a plan", "problems", "no plan"],
)
def test_the_plan_informs_and_does_not_gate(
    tmp_path: Path, script: str, printed: str, said: str, code: int, expected: str
) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "printed").write_text(printed)
    command = tmp_path / "flowsched"
    command.write_text(f"#!/bin/sh\ncat printed\nprintf '{said}' >&2\nexit {code}\n")
    command.chmod(0o755)

    done = subprocess.run(  # noqa: S603 - the script of the file
        ["/bin/bash", "-eo", "pipefail", "-c", script],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "GITHUB_STEP_SUMMARY": "summary.md"},
        capture_output=True, check=False, timeout=30,
    )  # fmt: skip

    assert done.returncode == 0
    assert (tmp_path / "reports" / "plan.md").read_text() == expected
    if script is GITHUB_PLAN:
        assert (tmp_path / "summary.md").read_text() == expected


def test_validate_and_test_gate() -> None:
    steps = {step.get("name"): step.get("run", "") for step in GITHUB["jobs"]["check"]["steps"]}
    assert "||" not in steps["Validate"] + steps["Test"]
    gating = [line for line in GITLAB["flowsched"]["script"] if re.match(r"flowsched (validate|test)", line)]
    assert len(gating) == 4
    assert all(line.endswith("|| failed=1") for line in gating)


def test_nothing_is_installed_by_a_name_that_may_be_somebody_elses() -> None:
    for document_ in (GITHUB["env"], GITLAB["variables"]):
        assert re.fullmatch(
            r"flowsched\[holidays\] @ git\+https://git\.example\.com/.*", document_["FLOWSCHED"]
        )


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: str(hook["id"]))
def test_a_hook_looks_at_all_schedules_where_one_was_touched(hook: dict[str, str]) -> None:
    assert hook["id"] == hook["entry"].replace(" ", "-")
    assert hook["language"] == "python"
    assert hook["pass_filenames"] == "false"
    for path in ("schedules/a.yaml", "deploy/schedules/b/c.test.yml", "schedules/x.ics", "flowsched.yaml"):
        assert re.search(hook["files"], path)
    assert not re.search(hook["files"], "src/schedules.py")

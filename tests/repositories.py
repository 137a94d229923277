"""Git repositories for tests: real ones, made by the real git."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ada Wind",
    "GIT_AUTHOR_EMAIL": "ada@example.com",
    "GIT_AUTHOR_DATE": "2026-03-01T12:00:00Z",
    "GIT_COMMITTER_NAME": "Bot",
    "GIT_COMMITTER_EMAIL": "bot@example.com",
    "GIT_COMMITTER_DATE": "2026-03-02T12:00:00Z",
}


class Work:
    """A work tree, and what a developer does in it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def made(cls, root: Path, *options: str) -> Work:
        root.mkdir(parents=True, exist_ok=True)
        work = cls(root)
        work.git("init", "--quiet", "--initial-branch=main", *options)
        return work

    def git(self, *arguments: str, **environment: str) -> str:
        done = subprocess.run(  # noqa: S603 - the tests' own commands
            ["git", *arguments],  # noqa: S607
            cwd=self.root,
            env=ENVIRONMENT | environment,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return os.fsdecode(done.stdout).rstrip("\n")

    def write(self, name: str, content: str | bytes = "x\n") -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def commit(self, message: str = "change", **files: str) -> str:
        """Commit the files, and all else that has changed; return the id."""
        for name, content in files.items():
            self.write(name, content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

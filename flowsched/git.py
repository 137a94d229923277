"""What Git knows of files: which commit they are of, and how they were in another. Changes nothing.

The only room that runs git; it blocks. Git finds the repository by the path alone: what a hook has in its
environment (GIT_DIR and the like) is about some repository, perhaps another one. Settings given by the
environment (GIT_CONFIG_*) apply, such as `safe.directory`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from flowsched.errors import GitError, printable, quoted, shortened
from flowsched.model import Commit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import BinaryIO

TIMEOUT = 20.0
"""Real seconds that one call of git may take."""

MOST_OUTPUT = 64 * 1024**2
"""Bytes that one call of git may say."""

MOST_FILES = 20_000
MOST_BYTES = 5 * 1024**2
MOST_BYTES_TOGETHER = 64 * 1024**2
"""Files that are taken out of a commit, bytes of each, and of all: as many as a catalog may have."""

MOST_COMMITS = 10_000
"""Commits that are looked through for trailers."""

TRAILER = "Flowsched-Accept"
"""What a commit message says to flowsched."""

_LINKS_DEEP = 40
_FILE_MODES = frozenset({"100644", "100664", "100755"})
_LINK_MODE = "120000"
_ASIDE = ("-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}", "-c", "log.showSignature=false")
"""What could run a program, or stand in what git says, is switched off."""
_KEPT = ("GIT_CONFIG", "GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_FILESYSTEM")
_SET = {
    "LC_ALL": "C",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    # A partial clone would fetch what it lacks, over the network.
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
}
_NAMED_BY_CI = ("GITHUB_BASE_REF", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME")
_MAIN = ("origin/HEAD", "origin/main", "origin/master", "main", "master")
_REVISION_ALLOWED = "a branch, a tag or a commit, such as main, v1.2 or 3f2c1ab"
_WHOLE = (
    "get the whole history with `git fetch --unshallow` (in a pipeline: `fetch-depth: 0`, `GIT_DEPTH: 0`)"
)
_PARTIAL = "the clone is partial; get the rest with `git fetch --refetch --no-filter`"


@dataclass(frozen=True, slots=True)
class Repository:
    """A work tree."""

    root: Path
    """Absolute, without symbolic links."""

    def inside(self, path: str | Path) -> PurePosixPath:
        """Return where a path lies below the root, symbolic links followed; raises GitError where outside."""
        real = Path(os.path.realpath(path))
        if not real.is_relative_to(self.root):
            raise GitError(f"{path} is not in the Git work tree {self.root}")
        return PurePosixPath(real.relative_to(self.root))


@dataclass(frozen=True, slots=True)
class Base:
    """What a change is held against."""

    commit: str
    """Hex, in full."""
    branch: str
    """The branch that the change is to go to, as Git names it here."""


def repository_of(path: str | Path) -> Repository | None:
    """Return the work tree that holds a path, which need not exist; None where it is in none.

    Raises GitError where there is one that cannot be read: git is missing, or does not trust its owner.
    """
    real = Path(os.path.realpath(path))
    folder = next(each for each in (real, *real.parents) if each.is_dir())
    likely = next((each for each in (folder, *folder.parents) if os.path.lexists(each / ".git")), None)
    if likely is None:
        return None
    done = _run(folder, "rev-parse", "--show-toplevel")
    if done.code == 0:
        return Repository(Path(os.fsdecode(done.out.removesuffix(b"\n"))))
    if "dubious ownership" in done.err or "unsafe repository" in done.err:
        raise GitError(
            f"git does not trust the repository {likely}, as it belongs to another user; to trust it:"
            f" git config --global --add safe.directory {likely} (for a service: --system)"
        )
    if "not a git repository (or" in done.err or "must be run in a work tree" in done.err:
        return None
    raise GitError(f"git cannot read the repository {likely}: {done.reason}")


def resolve(repository: Repository, revision: str) -> str:
    """Return the id of the commit that a revision names: a branch, a tag, a commit, `HEAD~2` and the like.

    Raises GitError where there is no such commit.
    """
    commit = _commit_id(repository, revision)
    if commit is not None:
        return commit
    if revision == "HEAD":
        raise GitError(f"the repository {repository.root} has no commit yet; make one first")
    problem = f"{quoted(revision)} is no commit in {repository.root}; allowed: {_REVISION_ALLOWED}"
    if _is_shallow(repository):
        problem += f"; the clone is shallow and may lack it: {_WHOLE}"
    raise GitError(problem)


def merge_base(repository: Repository, environ: Mapping[str, str]) -> Base:
    """Return the commit at which HEAD left the main branch; on that branch itself, HEAD or what was pushed.

    The main branch is the one that a pipeline names in `environ` (GITHUB_BASE_REF, or GitLab's
    CI_MERGE_REQUEST_TARGET_BRANCH_NAME), or else the first that there is of origin/HEAD, origin/main,
    origin/master, main and master. Raises GitError, which says what to do.
    """
    head = resolve(repository, "HEAD")
    branch, tip = _main_branch(repository, environ)
    done = _run(repository.root, "merge-base", head, tip)
    if done.code == 0:
        return Base(done.out.decode().split()[0], branch)
    if done.out or done.code != 1:
        raise GitError(f"git cannot tell where HEAD left {branch}: {done.reason}")
    problem = f"HEAD and {branch} have no commit in common"
    if _is_shallow(repository):
        raise GitError(f"{problem} in this shallow clone: {_WHOLE}")
    raise GitError(f"{problem}; name the commit to compare with")


def extract(repository: Repository, commit: str, folder: str | PurePosixPath, into: Path) -> None:
    """Write the files below a folder, or one file, as they are in a commit, to the same place below `into`.

    `folder` is relative to the root, and `into` an empty folder; nothing is written where the commit has no
    such folder. The contents are those that Git has stored: no line end or filter is applied. Symbolic links
    are made, and what they lead to is written too; submodules are left out. A file of more than MOST_BYTES
    gets its size, but no contents: a catalog takes none so large. Raises GitError where a link leads out
    of the repository, and for more files or bytes than a catalog may have.
    """
    entries = _with_what_links_lead_to(repository, commit, _normal(str(folder)))
    files = [each for each in entries if each.mode in _FILE_MODES]
    small = [each for each in files if each.size <= MOST_BYTES]
    if len(entries) > MOST_FILES or sum(each.size for each in small) > MOST_BYTES_TOGETHER:
        raise GitError(
            f"{folder} in commit {commit[:12]} is too much; allowed:"
            f" {MOST_FILES:,} files with {MOST_BYTES_TOGETHER:,} bytes"
        )
    try:
        for each, content in _contents(repository, small):
            _place(into, each).write_bytes(content)
        for each in files:
            if each.size > MOST_BYTES:
                with _place(into, each).open("wb") as file:
                    file.truncate(each.size)
        # Last, so that nothing is ever written through one.
        for each in entries:
            if each.link is not None:
                _place(into, each).symlink_to(each.link)
    except OSError as error:
        raise GitError(
            f"cannot write the files of commit {commit[:12]}: {error.strerror or error}"
        ) from error


def commit_of(path: str | Path) -> Commit | None:
    """Return the commit that is checked out where the path lies, and whether all below the path is as in it.

    A file that is untracked or ignored makes it unclean; hidden ones do not count. None where the path is in
    no work tree, or there is no commit yet. Raises GitError.
    """
    repository = repository_of(path)
    if repository is None or _commit_id(repository, "HEAD") is None:
        return None
    said = _said(repository, "rev-list", "-1", "--encoding=UTF-8", "--format=%H%x00%an <%ae>%x00%ct", "HEAD")
    id_, author, committed = said.decode(errors="replace").splitlines()[1].split("\0")
    folder = repository.inside(path)
    changed = _changed_since_head(repository, "--ignored=traditional", "--", str(folder))
    try:
        at = datetime.fromtimestamp(int(committed), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise GitError(f"commit {id_[:12]} has no readable date: {committed}") from error
    return Commit(
        id=id_,
        author=shortened(printable(author), 200),
        at=at,
        clean=all(_is_hidden(each, folder) for each in changed),
    )


def trailers(repository: Repository, old: str | None, new: str) -> frozenset[str]:
    """Return what the `Flowsched-Accept` trailers say of the commits that lead from `old` to `new`.

    `old` is not one of them. Where it is None, or this clone has no such commit, only `new` is looked at.
    Raises GitError.
    """
    known = old is not None and _commit_id(repository, old) is not None
    commits = (f"--max-count={MOST_COMMITS}", new, f"^{old}") if known else ("--max-count=1", new)
    said = _said(
        repository,
        *("rev-list", "--encoding=UTF-8", f"--format=%(trailers:key={TRAILER},valueonly,unfold)", *commits),
    )
    lines = (line.strip() for line in said.decode(errors="replace").splitlines())
    return frozenset(line for line in lines if line and not line.startswith("commit "))


def changed_files(repository: Repository, base: str) -> frozenset[str]:
    """Return the files, relative to the root, that HEAD or the work tree have otherwise than a commit.

    Removed ones and untracked ones are among them, ignored ones and submodules are not. Raises GitError.
    """
    committed = _said(
        repository,
        *(
            "diff-tree",
            "-r",
            "--name-only",
            "-z",
            "--no-renames",
            "--ignore-submodules=all",
            base,
            "HEAD",
            "--",
        ),
    )
    # Not `git diff`: it writes the index anew where only the times of files differ.
    since = _changed_since_head(repository, "--ignored=no", "--ignore-submodules=all")
    return frozenset({os.fsdecode(each) for each in committed.split(b"\0") if each}.union(map(str, since)))


def _changed_since_head(repository: Repository, *more: str) -> list[PurePosixPath]:
    """Return what `git status` names: changed, removed, untracked."""
    status = _said(repository, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", *more)
    return [PurePosixPath(os.fsdecode(each[3:])) for each in status.split(b"\0") if each]


def _main_branch(repository: Repository, environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the main branch and its newest commit."""
    named = next((environ[name] for name in _NAMED_BY_CI if environ.get(name)), None)
    candidates = _MAIN if named is None else (f"origin/{named}", named)
    for branch in candidates:
        commit = _commit_id(repository, branch)
        if commit is not None:
            return branch, commit
    wanted = f"the branch {quoted(named)}" if named else "a main branch"
    problem = f"there is no commit of {wanted} in {repository.root}; looked for {', '.join(candidates)}"
    if _is_shallow(repository):
        raise GitError(f"{problem}; the clone is shallow: {_WHOLE}")
    raise GitError(f"{problem}; fetch it, or name the commit to compare with")


def _commit_id(repository: Repository, revision: str) -> str | None:
    # No name in Git begins with a hyphen; as an argument it would be an option.
    if not revision or revision.startswith("-") or not revision.isprintable():
        return None
    done = _run(repository.root, "rev-parse", "--quiet", "--verify", f"{revision}^{{commit}}")
    return done.out.decode().strip() if done.code == 0 else None


def _is_shallow(repository: Repository) -> bool:
    return _run(repository.root, "rev-parse", "--is-shallow-repository").out == b"true\n"


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file or a symbolic link in a commit."""

    path: str
    """Relative to the root, normal."""
    mode: str
    id: str
    size: int
    link: str | None = None
    """Where it leads, as it is written; None: it is no link."""

    @property
    def target(self) -> str | None:
        """Where it leads, relative to the root; None: it is no link. Raises GitError for a way out."""
        if self.link is None:
            return None
        away = self.link.startswith("/")
        target = _normal(os.path.join(os.path.dirname(self.path), self.link))  # noqa: PTH118, PTH120 - not a file here
        if away or target == ".." or target.startswith("../"):
            raise GitError(
                f"{quoted(self.path)} is a symbolic link out of the repository, to {quoted(self.link)}; what"
                " it led to then is not known"
            )
        return target


def _with_what_links_lead_to(repository: Repository, commit: str, folder: str) -> list[_Entry]:
    """Return the entries of a folder, and of whatever links in it lead to, each once."""
    found: dict[str, _Entry] = {}
    wanted = [folder]
    for _ in range(_LINKS_DEEP):
        new = [each for each in _entries(repository, commit, wanted) if each.path not in found]
        found |= {each.path: each for each in new}
        targets = {each.target for each in new if each.target is not None}
        wanted = sorted(targets - found.keys())
        if not wanted:
            return list(found.values())
    raise GitError(f"{folder} in commit {commit[:12]}: symbolic links lead on and on")


def _entries(repository: Repository, commit: str, paths: list[str]) -> list[_Entry]:
    """Return the files and links of a commit at or below paths that are relative to the root."""
    named = [] if "." in paths else paths
    listed = _said(repository, "ls-tree", "-r", "-l", "-z", "--full-tree", commit, "--", *named)
    entries = []
    for line in listed.split(b"\0"):
        if not line:
            continue
        about, _, path = line.partition(b"\t")
        mode, _, id_, size = about.decode().split()
        if mode in _FILE_MODES or mode == _LINK_MODE:
            entries.append(_Entry(_sound(os.fsdecode(path)), mode, id_, int(size)))
    links = [each for each in entries if each.mode == _LINK_MODE]
    written = {each.path: os.fsdecode(content) for each, content in _contents(repository, links)}
    return [replace(each, link=written.get(each.path)) for each in entries]


def _sound(path: str) -> str:
    """Return a path of a tree; raises GitError for one that no sound repository has."""
    if path.startswith("/") or not all(part not in ("", ".", "..") for part in path.split("/")):
        raise GitError(f"the repository is damaged: {quoted(path)} is no path of a file in it")
    return path


def _contents(repository: Repository, entries: list[_Entry]) -> Iterator[tuple[_Entry, bytes]]:
    """Yield each entry with what it holds."""
    if not entries:
        return
    with tempfile.TemporaryFile() as asked:
        asked.write("".join(f"{each.id}\n" for each in entries).encode())
        asked.seek(0)
        said = _said(repository, "cat-file", "--batch", asked=asked, most=2 * MOST_OUTPUT)
    at = 0
    for each in entries:
        header_end = said.index(b"\n", at)
        header = said[at:header_end]
        if not header.endswith(str(each.size).encode()):
            raise GitError(f"{repository.root} lacks the contents of {quoted(each.path)}: {_PARTIAL}")
        at = header_end + 1
        yield each, said[at : at + each.size]
        at += each.size + 1


def _place(into: Path, entry: _Entry) -> Path:
    place = into / entry.path
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def _normal(path: str) -> str:
    return os.path.normpath(path)


def _is_hidden(path: PurePosixPath, folder: PurePosixPath) -> bool:
    """Tell whether a file below a folder is hidden, or in a hidden folder: such are never read."""
    below = path.relative_to(folder) if path.is_relative_to(folder) else path
    return any(part.startswith(".") for part in below.parts)


@dataclass(frozen=True, slots=True)
class _Done:
    """What a call of git came to."""

    code: int
    out: bytes
    err: str

    @property
    def reason(self) -> str:
        """What git says is wrong, on one line."""
        first = next(iter(self.err.splitlines()), "") or f"exit code {self.code}"
        return shortened(printable(first.removeprefix("fatal: ")), 300)


def _said(
    repository: Repository, *arguments: str, asked: BinaryIO | None = None, most: int = MOST_OUTPUT
) -> bytes:
    """Return what git says; raises GitError where it fails."""
    done = _run(repository.root, *arguments, asked=asked, most=most)
    if "lazy fetching" in done.err or "promisor remote" in done.err:
        raise GitError(f"{repository.root} lacks the contents of a file: {_PARTIAL}")
    if done.code:
        raise GitError(f"git {arguments[0]} failed in {repository.root}: {done.reason}")
    return done.out


def _run(folder: Path, *arguments: str, asked: BinaryIO | None = None, most: int = MOST_OUTPUT) -> _Done:
    """Run git in a folder, and return what it came to; raises GitError where it is missing or endless."""
    program = shutil.which("git")
    if program is None:
        raise GitError("git is not installed, or not in the PATH; what Git knows of the files is not known")
    command = [program, "--no-pager", *_ASIDE, *arguments]
    with tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(  # noqa: S603 - no shell, and no argument that may be an option
                command,
                cwd=folder,
                env=_environment(),
                stdin=asked or subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=err,
                start_new_session=True,
            )
        except OSError as error:
            raise GitError(f"git cannot be run in {folder}: {error.strerror or error}") from error
        out = _output_of(process, most)
        err.seek(0)
        return _Done(process.returncode, out, err.read(4000).decode(errors="replace"))


def _output_of(process: subprocess.Popen[bytes], most: int) -> bytes:
    """Return what a process says until it ends, which it is made to do in time; raises GitError then."""
    assert process.stdout is not None  # noqa: S101 - it was asked for
    late = threading.Event()

    def end() -> None:
        late.set()
        _kill(process)

    timer = threading.Timer(TIMEOUT, end)
    timer.start()
    try:
        with process.stdout as stream:
            out = stream.read(most + 1)
        if len(out) > most:
            raise GitError(f"git says too much; allowed: {most:,} bytes")
        process.wait()
    finally:
        timer.cancel()
        _kill(process)
        process.wait()
    if late.is_set():
        raise GitError(f"git took longer than {TIMEOUT:.0f} seconds and was ended")
    return out


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process that still runs, with all that it has started."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _environment() -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name.startswith(_KEPT)
    }
    return kept | _SET

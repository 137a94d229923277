"""What Git knows of files: which commit they are of, and how they were in another. Changes nothing.

The only room that runs git; it blocks. Git finds the repository by the path alone: what a hook has in its
environment (GIT_DIR and the like) is about some repository, perhaps another one. Settings given by the
environment (GIT_CONFIG_*) apply, such as `safe.directory`.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from flowsched.clock import SystemClock
from flowsched.errors import GitError, printable, quoted, shortened
from flowsched.model import Commit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import IO, BinaryIO

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
_LONGEST_LINK = 4096
"""Symbolic links that one path may lead through, and bytes of one: as many as Linux follows."""

_AT_ONCE = 1024**2
"""Bytes that are read at once of what git says."""

_FILE_MODES = frozenset({"100644", "100664", "100755"})
_LINK_MODE = "120000"
_FOLDER_MODE = "040000"
_OUT = ".."
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
_REMOTE, _LOCAL = "refs/remotes/origin/", "refs/heads/"
# In full: a tag may be named like a branch.
_MAIN = (f"{_REMOTE}HEAD", f"{_REMOTE}main", f"{_REMOTE}master", f"{_LOCAL}main", f"{_LOCAL}master")
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


@dataclass(frozen=True, slots=True)
class Signs:
    """Files of a repository by which its work tree is seen to change; each may be there or not."""

    lock: Path
    """There as long as git changes the work tree, or since it was ended in the middle of that."""
    head: tuple[Path, ...]
    """Written when another commit is checked out."""


def signs_of(path: str | Path) -> Signs | None:
    """Return the signs of the work tree that holds a path; None where there is none. Runs no git.

    None also where git's own files cannot be read, or hold no path.
    """
    real = Path(os.path.realpath(path))
    entry = next((each / ".git" for each in (real, *real.parents) if os.path.lexists(each / ".git")), None)
    if entry is None:
        return None
    try:
        signs = _signs_at(entry)
    except (OSError, ValueError):
        return None
    # After a loss of power a file may be there with nothing but zeros in it.
    return None if any("\0" in str(each) for each in (signs.lock, *signs.head)) else signs


def _signs_at(entry: Path) -> Signs:
    folder = entry
    if entry.is_file():  # of a further work tree, or of a submodule
        folder = entry.parent / _line_of(entry).removeprefix("gitdir:").strip()
    common = folder / _line_of(folder / "commondir") if (folder / "commondir").is_file() else folder
    head = [folder / "HEAD"]
    branch = _line_of(folder / "HEAD") if (folder / "HEAD").is_file() else ""
    if branch.startswith("ref:"):
        named = common / branch.removeprefix("ref:").strip()
        head += [named if named.is_file() else common / "packed-refs", common / "reftable" / "tables.list"]
    return Signs(folder / "index.lock", tuple(head))


def _line_of(file: Path) -> str:
    with file.open("rb") as stream:
        return os.fsdecode(stream.readline(_LONGEST_LINK)).rstrip("\n")


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
    such folder. The contents are those that Git has stored: no line end or filter is applied. A symbolic link
    becomes one that leads straight to where it ends in the commit, which is written too, and so never out of
    `into`, whatever a commit holds; one that ends nowhere, or leads back to itself, stays such a one.
    Submodules are left out. A file of more than MOST_BYTES gets its size, but no contents: a catalog takes
    none so large. Raises GitError where a link leads out of the repository, also where it comes back, and for
    more files or bytes than a catalog may have.
    """
    tree = _Tree(repository, commit)
    entries, ends = _with_what_links_lead_to(tree, os.path.normpath(folder))
    files = [each for each in entries if each.mode in _FILE_MODES]
    small = [each for each in files if each.size <= MOST_BYTES]
    if sum(each.size for each in small) > MOST_BYTES_TOGETHER:
        raise _too_much(commit, str(folder))
    try:
        for each, content in _contents(repository, small):
            _place(into, each.path).write_bytes(content)
        for each in files:
            if each.size > MOST_BYTES:
                with _place(into, each.path).open("wb") as file:
                    file.truncate(each.size)
        # Last, so that nothing is ever written through one.
        for path, end in ends.items():
            _place_link(into, path, end)
    except OSError as error:
        raise GitError(
            f"cannot write the files of commit {commit[:12]}: {error.strerror or error}"
        ) from error


def commit_of(path: str | Path, *beside: str | Path) -> Commit | None:
    """Return the commit that is checked out where the path lies, and whether all below the path is as in it.

    A file that is untracked or ignored makes it unclean, and so does one that Git was told not to look at
    (`--assume-unchanged`, `--skip-worktree`); hidden ones count where they are among `beside`. What
    symbolic links lead to and through counts as well; one that leads out of the work tree makes it unclean.
    None where the path is in no work tree, or there is no commit yet. Raises GitError.
    """
    repository = repository_of(path)
    if repository is None or _commit_id(repository, "HEAD") is None:
        return None
    said = _said(repository, "rev-list", "-1", "--encoding=UTF-8", "--format=%H%x00%an <%ae>%x00%ct", "HEAD")
    # Not splitlines(): an author may have in the name what it takes for an end of line.
    id_, author, committed = said.decode(errors="replace").split("\n")[1].split("\0")
    try:
        at = datetime.fromtimestamp(int(committed), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise GitError(f"commit {id_[:12]} has no readable date: {committed}") from error
    return Commit(
        id=id_,
        author=shortened(printable(author), 200),
        at=at,
        clean=_is_clean(repository, path, *beside),
    )


def trailers(repository: Repository, old: str | None, new: str) -> frozenset[str]:
    """Return what the `Flowsched-Accept` trailers say of the commits that lead from `old` to `new`.

    `old` is not one of them. Where it is None, or this clone has no such commit, only `new` is looked at; so
    it is where `new` does not come after `old`: of a history written anew, nobody knows what was accepted
    under it already. Nothing is looked at where `new` comes before `old`. Raises GitError.
    """
    known = old is not None and _commit_id(repository, old) is not None
    since = (f"^{old}",) if known else ()
    most = MOST_COMMITS if old and known and _comes_after(repository, old, new) else 1
    commits = (f"--max-count={most}", new, *since)
    said = _said(
        repository,
        *("rev-list", "--encoding=UTF-8", f"--format=%(trailers:key={TRAILER},valueonly,unfold)", *commits),
    )
    lines = (line.strip() for line in said.decode(errors="replace").split("\n"))
    return frozenset(line for line in lines if line and not line.startswith("commit "))


def _comes_after(repository: Repository, old: str, new: str) -> bool:
    """Tell whether a commit is another or has it among its ancestors."""
    done = _run(repository.root, "merge-base", "--is-ancestor", old, new)
    if done.code not in (0, 1):
        raise GitError(f"git cannot tell whether {new[:12]} comes after {old[:12]}: {done.reason}")
    return done.code == 0


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
    candidates = _MAIN if named is None else (f"{_REMOTE}{named}", f"{_LOCAL}{named}")
    for branch in candidates:
        commit = _commit_id(repository, branch)
        if commit is not None:
            return _short(branch), commit
    wanted = f"the branch {quoted(named)}" if named else "a main branch"
    looked_for = ", ".join(map(_short, candidates))
    problem = f"there is no commit of {wanted} in {repository.root}; looked for {looked_for}"
    if _is_shallow(repository):
        raise GitError(f"{problem}; the clone is shallow: {_WHOLE}")
    raise GitError(f"{problem}; fetch it, or name the commit to compare with")


def _short(branch: str) -> str:
    """Return the name that people call a branch by."""
    return branch.removeprefix(_LOCAL).removeprefix("refs/remotes/")


def _commit_id(repository: Repository, revision: str) -> str | None:
    # No name in Git begins with a hyphen; as an argument it would be an option.
    if not revision or revision.startswith("-") or not revision.isprintable():
        return None
    done = _run(repository.root, "rev-parse", "--quiet", "--verify", f"{revision}^{{commit}}")
    return done.out.decode().strip() if done.code == 0 else None


def _is_shallow(repository: Repository) -> bool:
    return _run(repository.root, "rev-parse", "--is-shallow-repository").out == b"true\n"


def _is_clean(repository: Repository, *paths: str | Path) -> bool:
    """Tell whether all that a load of paths reads is as in HEAD."""
    places = _places_read(repository, *paths)
    if places is None:
        return False
    whole = {
        each for each in places if not any(_reads(one, each) for one in places.intersection(each.parents))
    }
    below = ("--", *sorted(map(str, whole)))
    changed = _changed_since_head(repository, "--ignored=traditional", *below)
    changed += _not_looked_at(repository, *below)
    return not any(_reads(one, each) for each in changed for one in whole)


def _not_looked_at(repository: Repository, *below: str) -> list[PurePosixPath]:
    """Return the files that `git status` was told to take for unchanged: nobody knows whether they are."""
    listed = _said(repository, "ls-files", "-v", "-z", *below).split(b"\0")
    # A tag in lower case is --assume-unchanged, S is --skip-worktree.
    return [PurePosixPath(os.fsdecode(each[2:])) for each in listed if each[:1].islower() or each[:1] == b"S"]


def _places_read(repository: Repository, *paths: str | Path) -> frozenset[PurePosixPath] | None:
    """Return what a load of paths reads, relative to the root: files, folders, and links on the way to them.

    None where that leads out of the work tree or round and round, or is more than a load would read.
    """
    left: list[str] = []
    for path in paths:
        lexical = Path(os.path.abspath(path))  # noqa: PTH100 - links on the way are among what is read
        known = lexical.is_relative_to(repository.root)
        left.append(str(lexical.relative_to(repository.root) if known else repository.inside(path)))
    places: set[PurePosixPath] = set()
    looked_at = 0
    while left:
        way = _follow(left.pop(), lambda each: _in_work_tree(repository.root / each))
        if way.end is None or way.end == _OUT:
            return None
        places.update(map(PurePosixPath, way.links))
        if (end := PurePosixPath(way.end)) in places:
            continue
        if any(os.path.lexists(repository.root / each / ".git") for each in list(end.parents)[:-1]):
            return None  # in another repository, of whose files this one does not know
        places.add(end)
        for folder, folders, files in os.walk(repository.root / end):
            folders[:] = [each for each in folders if not each.startswith(".")]
            below = [Path(folder, each) for each in (*folders, *files) if not each.startswith(".")]
            looked_at += len(below)
            if looked_at > MOST_FILES:
                return None
            left += [str(each.relative_to(repository.root)) for each in below if each.is_symlink()]
    return frozenset(places)


def _reads(place: PurePosixPath, path: PurePosixPath) -> bool:
    """Tell whether a path is a place or below it, and not hidden there: that is read by its name alone."""
    if not path.is_relative_to(place):
        return False
    return not any(part.startswith(".") for part in path.relative_to(place).parts)


@dataclass(frozen=True, slots=True)
class _Way:
    """Where a path leads, relative to the root."""

    end: str | None
    """Without a link in it, whether something is there or not; `_OUT`: out of the root; None: in a circle."""
    links: tuple[str, ...]
    """The symbolic links that it leads through, each without another link in its path."""


def _follow(path: str, look: Callable[[str], str | bool]) -> _Way:
    """Follow a path that is relative to the root, as the system does: part by part.

    `look` says what is at a path without links: where a symbolic link leads, or whether it is a folder.
    """
    left = path.split("/")[::-1]
    at: list[str] = []
    links: list[str] = []
    while left:
        part = left.pop()
        if part in ("", "."):
            continue
        if at and look("/".join(at)) is not True:
            # Nothing is below what is no folder, not even the way up.
            return _Way("/".join((*at, "..." if part == ".." else part)), tuple(links))
        if part == "..":
            if not at:
                return _Way(_OUT, tuple(links))
            at.pop()
            continue
        at.append(part)
        found = look("/".join(at))
        if isinstance(found, str):
            links.append("/".join(at))
            if found.startswith("/"):
                return _Way(_OUT, tuple(links))
            if len(links) > _LINKS_DEEP:
                return _Way(None, tuple(links))
            at.pop()
            left += found.split("/")[::-1]
    return _Way("/".join(at) or ".", tuple(links))


def _in_work_tree(path: Path) -> str | bool:
    try:
        return str(path.readlink()) if path.is_symlink() else path.is_dir()
    except OSError as error:
        raise GitError(f"{path} cannot be read: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file or a symbolic link in a commit."""

    path: str
    """Relative to the root, normal."""
    mode: str
    id: str
    size: int


class _Tree:
    """The files of a commit."""

    def __init__(self, repository: Repository, commit: str) -> None:
        self.repository = repository
        self.commit = commit
        self._folders: dict[str, dict[str, str]] = {}
        self._links_at: dict[str, _Entry] = {}
        self._links: dict[str, str] = {}

    def below(self, paths: list[str]) -> list[_Entry]:
        """Return the files and links at or below paths without links in them."""
        entries = [each for each in self._sized([] if "." in paths else paths) if _is_taken(each)]
        self._read_links(entries)
        return entries

    def look(self, path: str) -> str | bool:
        """Return what `_follow` asks for, of a path in a folder that is there."""
        mode = self._mode(path)
        return self._links[self.link(path).id] if mode == _LINK_MODE else mode == _FOLDER_MODE

    def link(self, path: str) -> _Entry:
        """Return the symbolic link that is at a path, having read it."""
        if path not in self._links_at:
            self._read_links(self._sized([path]))
        return self._links_at[path]

    def _mode(self, path: str) -> str | None:
        folder = path.rpartition("/")[0]
        if folder not in self._folders:
            listed = self._listed([f"{folder}/"] if folder else [])
            self._folders[folder] = {each: about[0] for about, each in listed}
        return self._folders[folder].get(path)

    def _read_links(self, entries: list[_Entry]) -> None:
        links = [each for each in entries if each.mode == _LINK_MODE and each.id not in self._links]
        for each in links:
            if not 0 < each.size <= _LONGEST_LINK:
                raise GitError(f"{quoted(each.path)} is a symbolic link of {each.size:,} bytes")
        for each, content in _contents(self.repository, links):
            if b"\0" in content:
                raise GitError(f"{quoted(each.path)} is a symbolic link to what is no path")
            self._links[each.id] = os.fsdecode(content)
        self._links_at |= {each.path: each for each in entries if each.mode == _LINK_MODE}

    def _sized(self, paths: list[str]) -> list[_Entry]:
        return [
            _Entry(path, mode, id_, 0 if size == "-" else int(size))
            for (mode, _, id_, size), path in self._listed(paths, "-r", "-l")
        ]

    def _listed(self, paths: list[str], *options: str) -> Iterator[tuple[list[str], str]]:
        # Sizes only where they are asked for: a partial clone knows those of the files alone that it has.
        command = ("ls-tree", *options, "-z", "--full-tree", self.commit, "--", *paths)
        for line in _said(self.repository, *command).split(b"\0"):
            if line:
                about, _, path = line.partition(b"\t")
                yield about.decode().split(), _sound(os.fsdecode(path))


def _is_taken(entry: _Entry) -> bool:
    return entry.mode in _FILE_MODES or entry.mode == _LINK_MODE


def _with_what_links_lead_to(tree: _Tree, folder: str) -> tuple[list[_Entry], dict[str, str | None]]:
    """Return the entries of a folder and of whatever links lead to, each once; and where each link ends."""
    way = _follow(folder, tree.look)
    found = {path: tree.link(path) for path in way.links}
    ends = {path: _end(tree, entry) for path, entry in found.items()}
    wanted = {way.end}
    for _ in range(_LINKS_DEEP):
        paths = sorted(each for each in wanted if each is not None and each not in found)
        if not paths:
            return list(found.values()), ends
        new = {each.path: each for each in tree.below(paths) if each.path not in found}
        if len(found) + len(new) > MOST_FILES:
            raise _too_much(tree.commit, folder)
        found |= new
        led_to = {path: _end(tree, each) for path, each in new.items() if each.mode == _LINK_MODE}
        ends |= led_to
        wanted = set(led_to.values())
    raise GitError(f"{folder} in commit {tree.commit[:12]}: symbolic links lead on and on")


def _too_much(commit: str, folder: str) -> GitError:
    return GitError(
        f"{folder} in commit {commit[:12]} is too much; allowed:"
        f" {MOST_FILES:,} files with {MOST_BYTES_TOGETHER:,} bytes"
    )


def _end(tree: _Tree, link: _Entry) -> str | None:
    """Return where a symbolic link ends, as `_Way` has it. Raises GitError for a way out."""
    end = _follow(link.path, tree.look).end
    if end == _OUT:
        raise GitError(
            f"{quoted(link.path)} is a symbolic link out of the repository, to"
            f" {quoted(str(tree.look(link.path)))}; what it led to then is not known"
        )
    return end


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


def _place(into: Path, path: str) -> Path:
    place = into / path
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def _place_link(into: Path, path: str, end: str | None) -> None:
    """Make a link to where it ends, or to itself where it leads in a circle."""
    place = _place(into, path)
    # A damaged tree may have a link and a folder of one name; below a link, the way up would be another.
    if place.parent.resolve() != into.resolve() / PurePosixPath(path).parent:
        raise GitError(f"the repository is damaged: {quoted(path)} lies below a symbolic link")
    place.symlink_to(place.name if end is None else os.path.relpath(into / end, place.parent))


@dataclass(frozen=True, slots=True)
class _Done:
    """What a call of git came to."""

    code: int
    out: bytes
    err: str

    @property
    def reason(self) -> str:
        """What git says is wrong, on one line."""
        first = self.err.partition("\n")[0] or f"exit code {self.code}"
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
    clock = SystemClock()
    until = clock.monotonic() + TIMEOUT
    try:
        with process.stdout as stream:
            out = _read_in_time(stream, most, until)
        process.wait(max(0.0, until - clock.monotonic()))
    except (TimeoutError, subprocess.TimeoutExpired):
        raise GitError(f"git took longer than {TIMEOUT:.0f} seconds and was ended") from None
    finally:
        _kill(process)
        process.wait()
    return out


def _read_in_time(stream: IO[bytes], most: int, until: float) -> bytes:
    """Return what is said until all that can say something have ended; raises TimeoutError, GitError.

    Not `stream.read`: what git has started may outlive it out of reach, and keep the stream open.
    """
    clock = SystemClock()
    out = bytearray()
    with selectors.DefaultSelector() as ready:
        ready.register(stream, selectors.EVENT_READ)
        while (left := until - clock.monotonic()) > 0:
            if ready.select(left):
                said = os.read(stream.fileno(), _AT_ONCE)
                if not said:
                    return bytes(out)
                out += said
                if len(out) > most:
                    raise GitError(f"git says too much; allowed: {most:,} bytes")
    raise TimeoutError


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

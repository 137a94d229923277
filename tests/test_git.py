"""What Git knows, asked of real repositories."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import time
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import pytest

from flowsched import git
from flowsched.config import load_catalog
from flowsched.errors import ConfigError, GitError, UsageError
from flowsched.git import Base, Repository
from tests.repositories import Work

SCHEDULE = "schedules:\n  nightly: {cron: '30 2 * * *', timezone: UTC, flow: 3377}\n"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let neither the machine's settings nor those of a hook that runs these tests decide."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work.made(tmp_path / "work")


def here(work: Work) -> Repository:
    repository = git.repository_of(work.root)
    assert repository
    return repository


def taken(work: Work, commit: str, folder: str, into: Path) -> dict[str, bytes]:
    """Extract a folder, and return the contents of the regular files by path."""
    into.mkdir()
    git.extract(here(work), git.resolve(here(work), commit), folder, into)
    return {
        str(path.relative_to(into)): path.read_bytes()
        for path in sorted(into.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


# --- which repository ---


def test_a_path_in_a_work_tree_has_its_root_whether_it_is_there_or_not(work: Work) -> None:
    work.write("a/b/c.yaml")

    for path in (work.root, work.root / "a/b", work.root / "a/b/c.yaml", work.root / "gone/away"):
        assert git.repository_of(path) == Repository(work.root.resolve())


def test_a_path_in_no_work_tree_has_none_and_git_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")

    assert git.repository_of(tmp_path) is None
    assert git.commit_of(tmp_path) is None


def test_where_git_is_missing_that_is_said(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    with pytest.raises(GitError, match="git is not installed, or not in the PATH"):
        git.repository_of(work.root)


def test_a_bare_repository_and_the_inside_of_one_are_no_work_trees(tmp_path: Path, work: Work) -> None:
    work.commit()
    bare = Work.made(tmp_path / "bare.git", "--bare")

    assert git.repository_of(bare.root) is None
    assert git.repository_of(work.root / ".git/refs") is None
    work.git("config", "core.bare", "true")
    assert git.repository_of(work.root) is None


def test_what_is_named_like_a_repository_and_is_none_is_none(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()

    assert git.repository_of(tmp_path) is None


def test_a_work_tree_whose_repository_is_gone_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("gitdir: /nowhere\n")

    with pytest.raises(GitError, match=r"cannot read the repository .*: not a git repository: /nowhere"):
        git.repository_of(tmp_path)


def test_a_symbolic_link_into_a_work_tree_is_followed(tmp_path: Path, work: Work) -> None:
    work.write("schedules/a.yaml")
    (tmp_path / "current").symlink_to(work.root / "schedules")

    repository = git.repository_of(tmp_path / "current")

    assert repository == here(work)
    assert repository.inside(tmp_path / "current") == PurePosixPath("schedules")


def test_a_path_outside_is_refused(tmp_path: Path, work: Work) -> None:
    with pytest.raises(GitError, match="is not in the Git work tree"):
        here(work).inside(tmp_path)


def test_a_hooks_environment_does_not_mislead(
    tmp_path: Path, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Work.made(tmp_path / "other")
    other.commit()
    head = work.commit()
    monkeypatch.setenv("GIT_DIR", str(other.root / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other.root))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other.root / ".git/index"))

    found = git.commit_of(work.root)

    assert here(work).root == work.root.resolve()
    assert found
    assert (found.id, found.clean) == (head, True)


def test_a_repository_of_another_user_is_said_to_be_so(
    tmp_path: Path, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    mistrusting = tmp_path / "bin" / "git"
    mistrusting.parent.mkdir()
    mistrusting.write_text(f'#!/bin/sh\nGIT_TEST_ASSUME_DIFFERENT_OWNER=1 exec {shutil.which("git")} "$@"\n')
    mistrusting.chmod(0o755)
    monkeypatch.setenv("PATH", str(mistrusting.parent), prepend=os.pathsep)

    with pytest.raises(
        GitError, match=r"does not trust .*/work, .* git config --global --add safe\.directory"
    ):
        git.repository_of(work.root)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "safe.directory")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "*")
    assert git.repository_of(work.root)


def test_a_further_work_tree_has_its_own_root_and_head(tmp_path: Path, work: Work) -> None:
    first = work.commit()
    second = work.commit()
    work.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "second"), first)

    further = git.repository_of(tmp_path / "second")

    assert further == Repository((tmp_path / "second").resolve())
    assert git.resolve(further, "HEAD") == first
    assert git.resolve(here(work), "HEAD") == second


# --- which commit ---


def test_branches_tags_and_short_ids_name_commits(work: Work) -> None:
    first = work.commit()
    work.git("tag", "-a", "-m", "first", "v1")
    second = work.commit()

    wanted = {"main": second, "v1": first, "HEAD~1": first, second[:7]: second, second: second}

    assert {name: git.resolve(here(work), name) for name in wanted} == wanted


@pytest.mark.parametrize(
    "revision",
    [
        "no-such",
        "",
        "-",
        "--all",
        "--output=x",
        "main..main",
        "main:a.yaml",
        "HEAD^{tree}",
        "a\0b",
        "a\nb",
        "ä€",
        "x" * 5000,
    ],
)
def test_what_names_no_commit_is_wrong_usage_that_says_what_is_allowed(work: Work, revision: str) -> None:
    work.commit(**{"a.yaml": "a"})

    with pytest.raises(UsageError, match=r"is no commit in .*; allowed: a branch, a tag or a commit"):
        git.resolve(here(work), revision)
    assert sorted(path.name for path in work.root.iterdir()) == [".git", "a.yaml"]


def test_a_repository_without_a_commit_says_so(work: Work) -> None:
    work.write("a.yaml")

    with pytest.raises(GitError, match="has no commit yet"):
        git.resolve(here(work), "HEAD")
    with pytest.raises(GitError, match="has no commit yet"):
        git.merge_base(here(work), {})
    assert git.commit_of(work.root) is None


# --- the merge base ---


@pytest.fixture
def branched(work: Work) -> dict[str, str]:
    """Main with two commits, and a branch with one that left it after the first."""
    commits = {"first": work.commit("first", **{"a.yaml": "1"})}
    work.git("checkout", "--quiet", "-b", "topic")
    commits["topic"] = work.commit("topic", **{"b.yaml": "2"})
    work.git("checkout", "--quiet", "main")
    commits["main"] = work.commit("main", **{"c.yaml": "3"})
    work.git("checkout", "--quiet", "topic")
    return commits


def test_the_base_of_a_branch_is_where_it_left_main(work: Work, branched: dict[str, str]) -> None:
    assert git.merge_base(here(work), {}) == Base(branched["first"], "main")


def test_the_base_of_main_itself_is_its_head(work: Work, branched: dict[str, str]) -> None:
    work.git("checkout", "--quiet", "main")

    assert git.merge_base(here(work), {}) == Base(branched["main"], "main")


def test_the_base_of_a_branch_that_main_was_merged_into_is_what_was_merged(
    work: Work, branched: dict[str, str]
) -> None:
    work.git("merge", "--quiet", "--no-edit", "main")

    assert git.merge_base(here(work), {}) == Base(branched["main"], "main")


def test_a_detached_head_has_a_base_like_any_other(work: Work, branched: dict[str, str]) -> None:
    work.git("checkout", "--quiet", "--detach", "topic")

    assert git.merge_base(here(work), {}) == Base(branched["first"], "main")


@pytest.mark.parametrize("variable", ["GITHUB_BASE_REF", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME"])
def test_a_pipeline_names_the_branch(work: Work, branched: dict[str, str], variable: str) -> None:
    work.git("branch", "release", branched["topic"])
    work.git("update-ref", "refs/remotes/origin/release", branched["first"])

    assert git.merge_base(here(work), {variable: "release"}) == Base(branched["first"], "origin/release")
    assert git.merge_base(here(work), {variable: ""}) == Base(branched["first"], "main")
    with pytest.raises(GitError, match=r"no commit of the branch 'gone' in .*; fetch it"):
        git.merge_base(here(work), {variable: "gone"})


def test_what_was_pushed_comes_before_what_is_only_here(work: Work, branched: dict[str, str]) -> None:
    found = []
    for ref in ("refs/heads/master", "refs/remotes/origin/master", "refs/remotes/origin/main"):
        work.git("update-ref", ref, branched["topic"])
        found.append(git.merge_base(here(work), {}).branch)
    work.git("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/master")
    found.append(git.merge_base(here(work), {}).branch)
    work.git("branch", "-D", "main")

    assert found == ["main", "origin/master", "origin/main", "origin/HEAD"]


def test_where_there_is_no_main_branch_the_next_step_is_said(work: Work, branched: dict[str, str]) -> None:
    work.git("branch", "-D", "main")

    with pytest.raises(
        GitError, match=r"looked for origin/HEAD, .*, main, master; fetch it, or name the commit"
    ):
        git.merge_base(here(work), {})


def test_a_tag_or_a_branch_named_like_the_main_branch_is_not_it(work: Work, branched: dict[str, str]) -> None:
    work.git("update-ref", "refs/remotes/origin/main", branched["first"])
    for name in ("origin/main", "origin/HEAD", "main", "origin/release", "release"):
        work.git("tag", name, branched["topic"])
    for name in ("origin/main", "origin/master"):
        work.git("update-ref", f"refs/heads/{name}", branched["topic"])

    assert git.merge_base(here(work), {}) == Base(branched["first"], "origin/main")
    work.git("update-ref", "-d", "refs/remotes/origin/main")
    assert git.merge_base(here(work), {}) == Base(branched["first"], "main")
    with pytest.raises(GitError, match="looked for origin/release, release"):
        git.merge_base(here(work), {"GITHUB_BASE_REF": "release"})


def test_where_the_main_branch_of_the_remote_is_this_one_the_base_is_what_was_pushed(
    work: Work, branched: dict[str, str]
) -> None:
    work.git("update-ref", "refs/remotes/origin/topic", branched["topic"])
    work.git("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/topic")
    pushed = git.merge_base(here(work), {})
    work.commit("not pushed")

    assert pushed == Base(branched["topic"], "origin/HEAD")
    assert git.merge_base(here(work), {}) == pushed


def test_a_replaced_commit_is_what_it_was(tmp_path: Path, work: Work) -> None:
    first = work.commit("first\n\nFlowsched-Accept: first", **{"a.yaml": "first"})
    second = work.commit("second", **{"a.yaml": "second"})
    work.git("replace", first, second)

    assert taken(work, first, ".", tmp_path / "into") == {"a.yaml": b"first"}
    assert git.trailers(here(work), None, first) == {"first"}


def test_histories_that_never_met_have_no_base(work: Work, branched: dict[str, str]) -> None:
    work.git("checkout", "--quiet", "--orphan", "alone")
    work.commit("alone")

    with pytest.raises(GitError, match="HEAD and main have no commit in common; name the commit"):
        git.merge_base(here(work), {})


def test_a_shallow_clone_has_its_base_where_it_can_be_known(
    tmp_path: Path, work: Work, branched: dict[str, str]
) -> None:
    def clone(name: str, *options: str) -> Work:
        work.git("clone", "--quiet", "--depth=1", *options, f"file://{work.root}", str(tmp_path / name))
        return Work(tmp_path / name)

    alone = clone("alone", "--branch=topic")
    alone.git("remote", "set-head", "origin", "--delete")
    with pytest.raises(GitError, match=r"no commit of a main branch .*; the clone is shallow: .*--unshallow"):
        git.merge_base(here(alone), {})

    both = clone("both", "--no-single-branch")
    assert git.merge_base(here(both), {}) == Base(branched["topic"], "origin/HEAD")
    both.git("remote", "set-head", "origin", "main")
    with pytest.raises(
        GitError, match=r"HEAD and origin/HEAD have no commit in common in this shallow clone: "
    ):
        git.merge_base(here(both), {})


def test_a_shallow_clone_says_how_to_get_the_rest(
    tmp_path: Path, work: Work, branched: dict[str, str]
) -> None:
    work.git(
        "clone", "--quiet", "--depth=1", "--no-single-branch", f"file://{work.root}", str(tmp_path / "c")
    )
    clone = Work(tmp_path / "c")

    with pytest.raises(GitError, match=r"no commit in common in this shallow clone: .*git fetch --unshallow"):
        git.merge_base(here(clone), {"GITHUB_BASE_REF": "main"})
    with pytest.raises(
        GitError, match=r"is no commit .*; the clone is shallow and may lack it: .*fetch-depth: 0"
    ):
        git.resolve(here(clone), branched["first"])
    with pytest.raises(GitError, match=r"no commit of the branch 'gone'.*; the clone is shallow: "):
        git.merge_base(here(clone), {"GITHUB_BASE_REF": "gone"})
    clone.git("fetch", "--quiet", "--unshallow")
    assert git.merge_base(here(clone), {"GITHUB_BASE_REF": "main"}).commit == branched["first"]


# --- files of a commit ---


def test_a_folder_of_a_commit_loads_like_the_folder_itself(
    tmp_path: Path, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.write("schedules/north/a.yaml", SCHEDULE)
    work.commit("first", **{"README.md": "not in the folder"})
    monkeypatch.chdir(work.root)
    before = load_catalog("schedules", None)
    shutil.rmtree(work.root / "schedules")

    files = taken(work, "HEAD", "schedules", tmp_path / "into")

    assert files == {"schedules/north/a.yaml": SCHEDULE.encode()}
    assert load_catalog("schedules", None, base=tmp_path / "into") == before


def test_neither_work_tree_nor_index_nor_refs_are_touched(tmp_path: Path, work: Work) -> None:
    work.write("schedules/a.yaml", SCHEDULE)
    same = work.write("schedules/same.yaml", SCHEDULE)
    first = work.commit()
    work.write("schedules/a.yaml", "changed\n")
    work.write("schedules/b.yaml", "staged\n")
    work.git("add", "schedules/b.yaml")
    os.utime(same, (1, 1))  # the index could be refreshed

    def everything() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in work.root.rglob("*") if path.is_file()}

    before = everything()
    taken(work, first, "schedules", tmp_path / "into")
    git.commit_of(work.root / "schedules")
    git.changed_files(here(work), first)

    assert everything() == before


def test_the_files_are_those_of_the_commit_also_after_a_rename(tmp_path: Path, work: Work) -> None:
    work.write("schedules/old.yaml", SCHEDULE)
    work.commit()
    work.git("mv", "schedules", "plans")
    work.git("mv", "plans/old.yaml", "plans/new.yaml")
    work.commit()

    assert taken(work, "HEAD~1", "schedules", tmp_path / "a") == {"schedules/old.yaml": SCHEDULE.encode()}
    assert taken(work, "HEAD", "schedules", tmp_path / "b") == {}
    assert taken(work, "HEAD", "plans/new.yaml", tmp_path / "c") == {"plans/new.yaml": SCHEDULE.encode()}


def test_the_whole_tree_can_be_had(tmp_path: Path, work: Work) -> None:
    work.write("schedules/a.yaml", "a")
    work.commit(**{"b.yaml": "b"})

    assert taken(work, "HEAD", ".", tmp_path / "into") == {"b.yaml": b"b", "schedules/a.yaml": b"a"}


ODD = ["with blank.yaml", "new\nline.yaml", 'quo"te\'.yaml', "tab\t.yaml", "ümläut-時.yaml",
       "back\\slash.yaml", "-rf.yaml", "*.yaml", ":(top)x.yaml", "$(id).yaml",
       os.fsdecode(b"latin-\xe9.yaml")]  # fmt: skip


def test_odd_names_are_names_like_any_other(tmp_path: Path, work: Work) -> None:
    for name in ODD:
        work.write(f"-odd *dir/{name}", name.encode(errors="surrogateescape"))
    work.write("-odd xdir/no.yaml")
    commit = work.commit()

    files = taken(work, "HEAD", "-odd *dir", tmp_path / "into")

    assert files == {f"-odd *dir/{name}": name.encode(errors="surrogateescape") for name in ODD}
    work.write("-odd xdir/no.yaml", "changed")
    found, other = git.commit_of(work.root / "-odd *dir"), git.commit_of(work.root / "-odd xdir")
    assert found
    assert other
    assert (found.clean, other.clean) == (True, False)
    for name in ODD:
        work.write(f"-odd *dir/{name}", "changed")
    changed = {f"-odd *dir/{name}" for name in ODD}
    assert git.changed_files(here(work), commit) == changed | {"-odd xdir/no.yaml"}


@pytest.mark.parametrize("name", [":!odd", ":odd", ":(exclude)odd", ":(icase)odd", ":/odd"])
def test_a_folder_named_like_a_pattern_of_git_is_a_folder(tmp_path: Path, work: Work, name: str) -> None:
    file = work.write(f"{name}/a.yaml", "a")
    work.write("odd/b.yaml", "b")
    work.commit()
    before = git.commit_of(work.root / name)
    file.write_text("changed")
    after = git.commit_of(work.root / name)

    assert before
    assert after
    assert (before.clean, after.clean) == (True, False)
    assert taken(work, "HEAD", name, tmp_path / "into") == {f"{name}/a.yaml": b"a"}


def test_contents_are_as_git_has_them_whatever_the_attributes_say(tmp_path: Path, work: Work) -> None:
    work.write("crlf.yaml", b"a: 1\r\nb: 2\r\n")
    work.write("lf.yaml", b"a: 1\nb: $Id$\n")
    work.write("nul.yaml", b"\0\xff\xfe")
    work.commit()
    work.write(".gitattributes", "*.yaml text eol=crlf ident\n")
    work.git("config", "core.autocrlf", "true")
    work.git("commit", "--quiet", "--allow-empty", "-m", "attributes")

    assert taken(work, "HEAD", ".", tmp_path / "into") == {
        "crlf.yaml": b"a: 1\r\nb: 2\r\n",
        "lf.yaml": b"a: 1\nb: $Id$\n",
        "nul.yaml": b"\0\xff\xfe",
    }


def test_an_executable_file_is_a_plain_one(tmp_path: Path, work: Work) -> None:
    work.write("schedules/a.yaml", SCHEDULE).chmod(0o755)
    work.commit()

    taken(work, "HEAD", "schedules", tmp_path / "into")

    assert not (tmp_path / "into/schedules/a.yaml").stat().st_mode & stat.S_IXUSR


def test_what_symbolic_links_lead_to_is_there_too(tmp_path: Path, work: Work) -> None:
    work.write("shared/deep/base.yaml", SCHEDULE)
    work.write("shared/one.yaml", "one")
    work.write("other/not-wanted.yaml")
    (work.root / "schedules").mkdir()
    (work.root / "schedules/folder").symlink_to("../shared/deep")
    (work.root / "schedules/file.yaml").symlink_to("../links/one.yaml")
    (work.root / "schedules/nowhere.yaml").symlink_to("../gone.yaml")
    (work.root / "links").mkdir()
    (work.root / "links/one.yaml").symlink_to("../shared/one.yaml")
    (work.root / "schedules/loop").symlink_to(".")
    work.commit()

    files = taken(work, "HEAD", "schedules", tmp_path / "into")

    assert files == {"shared/deep/base.yaml": SCHEDULE.encode(), "shared/one.yaml": b"one"}
    assert (tmp_path / "into/schedules/folder/base.yaml").read_text() == SCHEDULE
    assert (tmp_path / "into/schedules/file.yaml").read_text() == "one"
    assert not (tmp_path / "into/schedules/nowhere.yaml").exists()


def links(work: Work, **targets: str) -> None:
    for name, target in targets.items():
        path = work.root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)


def test_a_link_through_a_linked_folder_leads_to_the_file(tmp_path: Path, work: Work) -> None:
    work.write("real/team/a.yaml", SCHEDULE)
    work.write("real/team/not-wanted.yaml")
    links(work, current="real", schedules__a="../current/team/../team/a.yaml", schedules__b="../current/team")
    (work.root / "schedules/a").rename(work.root / "schedules/a.yaml")
    work.commit()

    taken(work, "HEAD", "schedules/a.yaml", tmp_path / "one")
    files = taken(work, "HEAD", "schedules", tmp_path / "all")

    assert (tmp_path / "one/schedules/a.yaml").read_text() == SCHEDULE
    assert not (tmp_path / "one/real/team/not-wanted.yaml").exists()
    assert sorted(files) == ["real/team/a.yaml", "real/team/not-wanted.yaml"]
    assert (tmp_path / "all/schedules/a.yaml").samefile(tmp_path / "all/schedules/b/a.yaml")


def test_a_folder_below_a_linked_one_is_taken_from_where_it_was(tmp_path: Path, work: Work) -> None:
    work.write("v1/schedules/a.yaml", SCHEDULE)
    links(work, current="v1", latest="current")
    work.commit()

    taken(work, "HEAD", "latest/schedules", tmp_path / "into")

    assert (tmp_path / "into/latest/schedules/a.yaml").read_text() == SCHEDULE


def test_what_links_make_of_a_folder_loads_as_in_the_work_tree(
    tmp_path: Path, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.write("schedules/north/a.yaml", SCHEDULE)
    work.write("shared/b.yaml", SCHEDULE.replace("nightly", "shared"))
    links(work, via="shared", schedules__one="../shared", schedules__two="../via", schedules__three="north")
    work.commit()
    monkeypatch.chdir(work.root)

    taken(work, "HEAD", "schedules", tmp_path / "into")

    assert load_catalog("schedules", None, base=tmp_path / "into") == load_catalog("schedules", None)


@pytest.mark.parametrize(
    "targets",
    [
        {"schedules__x.yaml": "x.yaml"},
        {"schedules__x.yaml": "y.yaml", "schedules__y.yaml": "x.yaml"},
        {"schedules__x": "."},
        {"schedules__x": "../schedules"},
        {"schedules__x.yaml": "../gone.yaml"},
        {"schedules__x.yaml": "gone/../a.yaml"},
        {"schedules__x.yaml": "a.yaml/../a.yaml"},
        {"schedules__x.yaml": "a.yaml/b.yaml"},
        {"schedules": "schedules"},
        {"schedules": "nowhere"},
    ],
)
def test_links_that_lead_nowhere_are_a_problem_as_in_the_work_tree(
    tmp_path: Path, work: Work, monkeypatch: pytest.MonkeyPatch, targets: dict[str, str]
) -> None:
    if "schedules" not in targets:
        work.write("schedules/a.yaml", SCHEDULE)
    links(work, **targets)
    work.commit(**{"other.yaml": SCHEDULE})
    monkeypatch.chdir(work.root)
    with pytest.raises(ConfigError) as here_:
        load_catalog("schedules", None)

    files = taken(work, "HEAD", "schedules", tmp_path / "into")
    with pytest.raises(ConfigError) as there:
        load_catalog("schedules", None, base=tmp_path / "into")

    assert "other.yaml" not in files

    def said(error: ConfigError) -> list[tuple[str, str]]:
        return [(each.file, each.message.partition(":")[0]) for each in error.problems]

    assert said(there.value) == said(here_.value)


@pytest.mark.parametrize(
    ("way", "target"),
    [
        ("../../..", "d/../../../etc/passwd"),
        ("..", "d/../../secret.yaml"),
        ("..", "d/../../work/schedules/a.yaml"),
        ("/etc", "d/passwd"),
    ],
)
def test_a_link_that_leads_out_by_another_link_is_refused(
    tmp_path: Path, work: Work, way: str, target: str
) -> None:
    work.write("schedules/a.yaml", SCHEDULE)
    links(work, schedules__d=way, schedules__q__r__d=way, schedules__x=target, schedules__q__r__x=target)
    work.commit()

    with pytest.raises(GitError, match=r"is a symbolic link out of the repository, to "):
        taken(work, "HEAD", "schedules", tmp_path / "into")
    assert list((tmp_path / "into").iterdir()) == []


def test_no_link_that_is_made_leads_out_of_the_folder(tmp_path: Path, work: Work) -> None:
    work.write("schedules/q/r/a.yaml", SCHEDULE)
    links(work, schedules__q__r__d="../../..", schedules__q__r__x="d/schedules/q/d2", schedules__q__d2="r/d")
    links(work, schedules__self="self", schedules__none="q/gone/../../../../..")
    work.commit()

    taken(work, "HEAD", "schedules", tmp_path / "into")

    into = (tmp_path / "into").resolve()
    made = [path for path in into.rglob("*") if path.is_symlink()]
    assert len(made) == 5
    assert all(Path(os.path.realpath(each)).is_relative_to(into) for each in made)


@pytest.mark.parametrize("target", ["x" * 5000, "a\0b", ""])
def test_a_link_to_what_is_no_path_is_refused(tmp_path: Path, work: Work, target: str) -> None:
    work.write("target", target)
    blob = work.git("hash-object", "-w", "target")
    work.git("update-index", "--add", "--cacheinfo", f"120000,{blob},schedules/x.yaml")
    work.git("commit", "--quiet", "-m", "odd")

    with pytest.raises(GitError, match=r"'schedules/x\.yaml' is a symbolic link (of .* bytes|to what is no)"):
        taken(work, "HEAD", "schedules", tmp_path / "into")


def test_links_that_lead_on_and_on_are_given_up(tmp_path: Path, work: Work) -> None:
    for number in range(50):
        work.write(f"d{number}/a.yaml")
        links(work, **{f"d{number}__next": f"../d{number + 1}"})
    work.commit()

    with pytest.raises(GitError, match="symbolic links lead on and on"):
        taken(work, "HEAD", "d0", tmp_path / "into")


@pytest.mark.parametrize("out", ["/etc", "../../outside", "../.."])
def test_a_link_out_of_the_repository_is_refused(tmp_path: Path, work: Work, out: str) -> None:
    (work.root / "schedules").mkdir()
    (work.root / "schedules/out.yaml").symlink_to(out)
    work.commit()

    with pytest.raises(GitError, match=r"'schedules/out\.yaml' is a symbolic link out of the repository"):
        taken(work, "HEAD", "schedules", tmp_path / "into")


def test_a_tree_made_to_write_elsewhere_writes_nothing_there(tmp_path: Path, work: Work) -> None:
    work.write("evil.yaml", "evil")
    work.commit()
    blob = work.git("rev-parse", "HEAD:evil.yaml")

    def commit(tree: bytes) -> str:
        (tmp_path / "tree").write_bytes(tree)
        made = work.git("hash-object", "-t", "tree", "-w", "--literally", str(tmp_path / "tree"))
        return work.git("commit-tree", "-m", "evil", made)

    raw = bytes.fromhex(blob)
    up = commit(b"100644 ../evil.yaml\0" + raw)
    inner = work.git("rev-parse", "HEAD^{tree}")
    twice = commit(b"120000 a\0" + raw + b"40000 a\0" + bytes.fromhex(inner))
    (tmp_path / "here").write_text(".")
    here_ = bytes.fromhex(work.git("hash-object", "-w", str(tmp_path / "here")))
    (tmp_path / "up").write_text("../evil.yaml")
    above = bytes.fromhex(work.git("hash-object", "-w", str(tmp_path / "up")))
    commit(b"120000 b\0" + above)
    links_only = work.git("hash-object", "-t", "tree", "-w", "--literally", str(tmp_path / "tree"))
    link = b"120000 a\0" + here_
    below = commit(link + b"40000 a\0" + bytes.fromhex(links_only) + link)

    for number, evil in enumerate((up, twice, below)):
        with pytest.raises(
            GitError, match=r"is no path of a file in it|cannot write the files|lies below a symbolic link"
        ):
            taken(work, evil, ".", tmp_path / f"into{number}")
    assert not (tmp_path / "evil.yaml").exists()


def test_a_submodule_is_left_out_and_is_a_repository_of_its_own(tmp_path: Path, work: Work) -> None:
    other = Work.made(tmp_path / "other")
    inner = other.commit(**{"inner.yaml": "inner"})
    work.write("schedules/a.yaml", "a")
    work.git(
        "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(other.root), "schedules/sub"
    )
    work.commit()

    files = taken(work, "HEAD", "schedules", tmp_path / "into")
    found = git.commit_of(work.root / "schedules/sub")

    assert files == {"schedules/a.yaml": b"a"}
    assert found
    assert found.id == inner


def test_a_file_too_large_for_a_catalog_keeps_its_size_but_not_its_contents(
    tmp_path: Path, work: Work
) -> None:
    size = git.MOST_BYTES + 1
    work.write("schedules/large.yaml", b"x" * size)
    work.commit()

    taken(work, "HEAD", "schedules", tmp_path / "into")

    large = tmp_path / "into/schedules/large.yaml"
    assert (large.stat().st_size, large.read_bytes()[:3]) == (size, b"\0\0\0")


def test_more_than_a_catalog_may_have_is_refused(
    tmp_path: Path, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        work.write(f"schedules/{number}.yaml", b"x" * 1000)
    work.commit()

    monkeypatch.setattr(git, "MOST_FILES", 2)
    with pytest.raises(GitError, match="is too much; allowed: 2 files with 67,108,864 bytes"):
        taken(work, "HEAD", "schedules", tmp_path / "a")
    monkeypatch.setattr(git, "MOST_FILES", 3)
    monkeypatch.setattr(git, "MOST_BYTES_TOGETHER", 2999)
    with pytest.raises(GitError, match="is too much; allowed: 3 files with 2,999 bytes"):
        taken(work, "HEAD", "schedules", tmp_path / "b")


def test_a_partial_clone_may_lack_what_is_not_wanted(tmp_path: Path, work: Work) -> None:
    work.git("config", "uploadpack.allowFilter", "true")
    work.commit(**{"README": "old", "all/README": "old", "all/schedules/a.yaml": "same"})
    work.commit(**{"README": "new", "all/README": "new"})
    work.git("clone", "--quiet", "--filter=blob:none", f"file://{work.root}", str(tmp_path / "c"))

    files = taken(Work(tmp_path / "c"), "HEAD~1", "all/schedules", tmp_path / "into")

    assert files == {"all/schedules/a.yaml": b"same"}


def test_a_partial_clone_fetches_nothing_and_says_what_it_lacks(tmp_path: Path, work: Work) -> None:
    work.git("config", "uploadpack.allowFilter", "true")
    work.commit(**{"a.yaml": "old"})
    work.commit(**{"a.yaml": "new"})
    work.git("clone", "--quiet", "--filter=blob:none", f"file://{work.root}", str(tmp_path / "c"))

    with pytest.raises(GitError, match=r"lacks the contents of .* partial; .*git fetch --refetch"):
        taken(Work(tmp_path / "c"), "HEAD~1", ".", tmp_path / "into")


# --- where files come from ---


def test_a_commit_is_known_with_author_and_time(work: Work) -> None:
    work.write("schedules/a.yaml", SCHEDULE)
    head = work.commit()

    found = git.commit_of(work.root / "schedules")

    assert found
    assert (found.id, found.author) == (head, "Ada Wind <ada@example.com>")
    assert (found.at, found.clean) == (datetime(2026, 3, 2, 12, tzinfo=UTC), True)


def test_an_author_cannot_garble_a_log(work: Work) -> None:
    work.write("a.yaml")
    work.git("add", "--all")
    work.git("commit", "--quiet", "-m", "x", GIT_AUTHOR_NAME="A\x1b[31m Zoë" + "z" * 900)

    found = git.commit_of(work.root)

    assert found
    assert found.author.startswith("A\\x1b[31m Zoë")
    assert len(found.author) == 200


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\u0085", "\f", "\v", "\r", "\x1c"])
def test_what_only_looks_like_the_end_of_a_line_is_none(work: Work, end: str) -> None:
    work.git("commit", "--quiet", "--allow-empty", "-m", "x", GIT_AUTHOR_NAME=f"A{end}b")
    mentioned = work.commit(f"x\n\nFlowsched-Accept: not{end}mass-change")

    found = git.commit_of(work.root)
    work.git("checkout", "--quiet", "HEAD~1")
    odd = git.commit_of(work.root)

    assert found
    assert odd
    assert odd.author == f"A{ascii(end)[1:-1]}b <ada@example.com>"
    assert odd.author.isprintable()
    assert "mass-change" not in git.trailers(here(work), None, mentioned)


@pytest.mark.parametrize(
    ("change", "clean"),
    [
        ("modified", False),
        ("staged", False),
        ("removed", False),
        ("untracked", False),
        ("ignored", False),
        ("moved away", False),
        ("hidden", True),
        ("in a hidden folder", True),
        ("touched", True),
        ("elsewhere", True),
    ],
)
def test_a_folder_is_clean_when_all_that_is_read_is_as_in_the_commit(  # noqa: C901 - one case each
    work: Work,
    change: str,
    clean: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    file = work.write("schedules/a.yaml", SCHEDULE)
    work.write(".gitignore", "*.local.yaml\n")
    work.commit()
    match change:
        case "modified" | "staged":
            file.write_text("changed")
        case "removed":
            file.unlink()
        case "untracked":
            work.write("schedules/new/b.yaml")
        case "ignored":
            work.write("schedules/b.local.yaml")
        case "moved away":
            work.git("mv", "schedules/a.yaml", "a.yaml")
        case "hidden":
            work.write("schedules/.a.yaml.swp")
        case "in a hidden folder":
            work.write("schedules/.cache/a.yaml")
        case "touched":
            os.utime(file, (1, 1))
        case "elsewhere":
            work.write("other/b.yaml")
    if change == "staged":
        work.git("add", "--all")

    found = git.commit_of(work.root / "schedules")

    assert found
    assert found.clean is clean


@pytest.mark.parametrize(
    ("change", "clean"),
    [
        ("nothing", True),
        ("what is read through links", False),
        ("a link on the way", False),
        ("what is ignored", False),
        ("what is beside it", True),
    ],
)
def test_what_links_lead_to_counts_for_a_clean_folder(
    work: Work,
    change: str,
    clean: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    for version in ("v1", "v2"):
        work.write(f".shared/{version}/team/a.yaml", SCHEDULE)
    work.write("schedules/b.yaml", SCHEDULE)
    work.write(".gitignore", "local/\n")
    work.write("local/x.yaml", SCHEDULE)
    links(work, current=".shared/v1", schedules__team="../current/team")
    links(work, schedules__loop=".")
    if change == "what is ignored":
        links(work, **{"schedules__x.yaml": "../local/x.yaml"})
    work.commit()
    match change:
        case "what is read through links":
            work.write(".shared/v1/team/a.yaml", "changed")
        case "a link on the way":
            (work.root / "current").unlink()
            links(work, current=".shared/v2")
        case "what is beside it":
            work.write(".shared/v2/team/a.yaml", "changed")
            work.write(".shared/v1/b.yaml")

    found = git.commit_of(work.root / "schedules")

    assert found
    assert found.clean is clean


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_a_file_that_git_is_told_not_to_look_at_is_not_clean(work: Work, flag: str) -> None:
    work.write("schedules/a.yaml", SCHEDULE)
    work.write("other/a.yaml", SCHEDULE)
    work.commit()
    work.git("update-index", flag, "other/a.yaml")
    before = git.commit_of(work.root / "schedules")
    work.git("update-index", flag, "schedules/a.yaml")
    work.write("schedules/a.yaml", "changed")
    after = git.commit_of(work.root / "schedules")

    assert before
    assert after
    assert (before.clean, after.clean) == (True, False)


def test_hidden_files_count_where_they_are_named(work: Work) -> None:
    work.write("schedules/a.yaml", SCHEDULE)
    work.write("schedules/.b/c.ics")
    work.commit()
    folder = work.root / "schedules"
    named = work.root / "schedules/.b/c.ics"

    def is_clean(*beside: Path) -> bool:
        found = git.commit_of(folder, *beside)
        assert found
        return found.clean

    assert is_clean(named)
    named.write_text("changed")
    assert is_clean()
    assert not is_clean(named)
    work.write("schedules/.new.ics")
    assert not is_clean(folder / ".new.ics")
    (folder / ".out.ics").symlink_to(work.root.parent / "out.ics")
    work.commit()
    assert is_clean(named)
    assert not is_clean(folder / ".out.ics")


def test_a_link_in_the_path_of_the_folder_counts_too(work: Work) -> None:
    for version in ("v1", "v2"):
        work.write(f"{version}/a.yaml", SCHEDULE)
    links(work, current="v1")
    work.commit()
    before = git.commit_of(work.root / "current")
    (work.root / "current").unlink()
    links(work, current="v2")
    after = git.commit_of(work.root / "current")

    assert before
    assert after
    assert (before.clean, after.clean) == (True, False)


def test_a_folder_that_reads_from_another_repository_or_none_is_not_clean(tmp_path: Path, work: Work) -> None:
    other = Work.made(tmp_path / "other")
    other.commit(**{"inner/x.yaml": SCHEDULE})
    options = ("-c", "protocol.file.allow=always", "submodule", "--quiet", "add")
    work.git(*options, str(other.root), "sub")

    def is_clean(name: str, target: str) -> bool:
        (work.root / name).mkdir()
        (work.root / name / "x.yaml").symlink_to(target)
        work.commit()
        found = git.commit_of(work.root / name)
        assert found
        return found.clean

    assert not is_clean("outside", "../../other/inner/x.yaml")
    assert not is_clean("absolute", str(work.root / "sub"))
    assert not is_clean("submodule", "../sub/inner/x.yaml")
    assert not is_clean("circle", "x.yaml")
    assert is_clean("nothing", "../gone.yaml")


def test_no_program_of_the_repositorys_settings_is_run(tmp_path: Path, work: Work) -> None:
    work.write("a.yaml")
    first = work.commit()
    work.write("a.yaml", "changed\n")
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    for key in ("core.fsmonitor", "core.pager", "diff.external", "diff.x.command", "diff.x.textconv"):
        work.git("config", key, str(trap))
    work.git("config", "log.showSignature", "true")
    work.git("config", "gpg.program", str(trap))
    for hook in ("post-index-change", "reference-transaction", "post-checkout"):
        shutil.copy(trap, work.root / ".git/hooks" / hook)
    work.write(".git/info/attributes", "*.yaml diff=x\n")

    git.commit_of(work.root)
    git.changed_files(here(work), first)
    git.trailers(here(work), None, first)
    taken(work, first, ".", tmp_path / "into")

    assert not (tmp_path / "sprung").exists()


# --- what a commit says ---


def test_trailers_are_those_of_the_commits_since(work: Work) -> None:
    zero = work.commit("zero\n\nFlowsched-Accept: zero")
    work.git("checkout", "--quiet", "-b", "topic")
    work.commit("one\n\nFlowsched-Accept: mass-change\nSigned-off-by: A <a@b>")
    work.git("checkout", "--quiet", "main")
    two = work.commit("two\n\nFlowsched-Accept: not a trailer, as text follows\n\nEnd.")
    work.git("merge", "--quiet", "--no-ff", "-m", "merge\n\nflowsched-accept:  merged ", "topic")
    last = work.commit("last")

    repository = here(work)

    assert git.trailers(repository, zero, last) == {"mass-change", "merged"}
    assert git.trailers(repository, two, "HEAD") == {"mass-change", "merged"}
    assert git.trailers(repository, None, "HEAD") == frozenset()
    assert git.trailers(repository, None, zero) == {"zero"}
    assert git.trailers(repository, "f" * 40, last) == frozenset()
    assert git.trailers(repository, last, zero) == frozenset()


def test_of_a_history_that_was_written_anew_only_the_newest_commit_says_something(work: Work) -> None:
    start = work.commit("start")
    work.commit("one\n\nFlowsched-Accept: mass-change")
    old = work.commit("two")
    work.git("reset", "--quiet", "--hard", start)
    work.commit("one, again\n\nFlowsched-Accept: mass-change")
    new = work.commit("two, again")
    said = work.commit("three\n\nFlowsched-Accept: newest")

    assert git.trailers(here(work), old, new) == frozenset()
    assert git.trailers(here(work), old, said) == {"newest"}
    assert git.trailers(here(work), start, said) == {"mass-change", "newest"}


def test_changed_files_are_all_that_differ_from_the_base(work: Work) -> None:
    for name in ("same", "touched", "edited", "removed", "moved"):
        work.write(f"schedules/{name}.yaml", f"{name} and some more to be alike\n")
    work.write(".gitignore", "*.log\n")
    base = work.commit()
    work.write("schedules/edited.yaml", "committed\n")
    work.commit()
    (work.root / "schedules/removed.yaml").unlink()
    work.git("mv", "schedules/moved.yaml", "elsewhere.yaml")
    os.utime(work.root / "schedules/touched.yaml", (1, 1))
    work.write("schedules/untracked.yaml")
    work.write("schedules/x.log")

    assert git.changed_files(here(work), base) == {
        "schedules/edited.yaml",
        "schedules/removed.yaml",
        "schedules/moved.yaml",
        "elsewhere.yaml",
        "schedules/untracked.yaml",
    }


# --- git itself in trouble ---


def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)


def test_a_git_that_hangs_is_ended_with_all_it_has_started(
    tmp_path: Path, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, f"sleep 3600 & echo $! >{tmp_path}/pid; wait")
    monkeypatch.setattr(git, "TIMEOUT", 0.5)
    began = time.monotonic()

    with pytest.raises(GitError, match="git took longer than"):
        git.repository_of(work.root)

    assert time.monotonic() - began < 10
    with pytest.raises(ProcessLookupError):
        _wait_until_gone(int((tmp_path / "pid").read_text()))


def test_what_git_leaves_behind_out_of_reach_holds_nobody_up(
    tmp_path: Path, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, f"setsid sleep 60 & echo $! >{tmp_path}/pid; exit 0")
    monkeypatch.setattr(git, "TIMEOUT", 0.5)
    began = time.monotonic()

    with pytest.raises(GitError, match="git took longer than"):
        git.repository_of(work.root)

    assert time.monotonic() - began < 10
    with contextlib.suppress(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def _wait_until_gone(pid: int) -> None:
    for _ in range(500):
        if Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
            raise ProcessLookupError
        os.kill(pid, 0)
        time.sleep(0.01)


def test_a_git_that_talks_without_end_is_ended(
    tmp_path: Path, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, "exec yes")
    monkeypatch.setattr(git, "MOST_OUTPUT", 10_000)

    with pytest.raises(GitError, match="git says too much"):
        git.trailers(Repository(work.root), None, "HEAD")


def test_what_git_says_is_wrong_is_said_on_one_line(
    tmp_path: Path, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(
        tmp_path,
        monkeypatch,
        "printf 'fatal: all \\033[31mwrong \\342\\200\\250here\\nhint: more\\n' >&2; exit 128",
    )

    with pytest.raises(GitError, match=r"cannot read the repository .*: all \\x1b\[31mwrong \\u2028here$"):
        git.repository_of(work.root)

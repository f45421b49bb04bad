"""The ignore rules, with git itself as the judge."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sordino_client.corpus.gitignore import ignored, parse_rules
from sordino_client.corpus.policy import CorpusPolicy, ExclusionReason
from sordino_client.corpus.walk import walk

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is the oracle")

NAMES = ["a", "b", "ab", "a.b", "src", "A", "[a]", "a b", "!a", "#a", "a ", "é", "a\\b", "]", "-", "*"]
ATOMS = [
    *("a", "b", "ab", "src", ".", "a.b", "*.b", "é", "-", "]", "#", "!", " ", "\\ ", "\\", "\r"),
    *("*", "**", "?", "/", "**/", "/**", "/"),
    *(
        "[ab]",
        "[!a]",
        "[^b]",
        "[a-b]",
        "[]a]",
        "[a/]",
        "[\\]]",
        "[--z]",
        "[a\\-b]",
        "[[:alpha:]]",
        "[[:bad:]]",
    ),
    *("[[:]", "["),
]
RULES = st.lists(st.lists(st.sampled_from(ATOMS), min_size=1, max_size=5).map("".join), max_size=4)
IGNORE_FILE = st.tuples(RULES, st.sampled_from(["\n", "\r\n"])).map(
    lambda pair: pair[1].join([*pair[0], ""]).encode()
)


class _TakeAll:
    def directory(self, path: str) -> ExclusionReason | None:
        return None

    def file(self, path: str) -> ExclusionReason | None:
        return None


def taken(root: Path) -> set[str]:
    """What the walk lets through, the ignore files themselves left out of the account."""
    paths = {path for path, _ in walk(root, _TakeAll(), CorpusPolicy(minimum_bytes=1), Counter())}
    return {path for path in paths if not path.endswith(".gitignore")}


def git_takes(root: Path, paths: list[str]) -> set[str]:
    answer = subprocess.run(
        ["git", "-C", str(root), "check-ignore", "-z", "--no-index", "--stdin"],
        input="\0".join(paths).encode(),
        capture_output=True,
        check=False,
    )
    assert answer.returncode in (0, 1), answer.stderr
    return set(paths) - set(answer.stdout.decode().split("\0"))


@pytest.fixture(scope="module")
def work_tree(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A git work tree of names that rules find hard, two levels of directories deep."""
    root = tmp_path_factory.mktemp("work-tree")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    paths = [f"{a}.d/{b}" for a in NAMES for b in NAMES] + [f"src/{a}/{b}" for a in NAMES for b in NAMES[::3]]
    paths += [f"a/b/{b}" for b in NAMES] + [name for name in NAMES if name not in ("src", "a")]
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")
    return root, paths


@needs_git
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(top=IGNORE_FILE, nested=IGNORE_FILE, deep=IGNORE_FILE, exclude=IGNORE_FILE)
def test_the_walk_takes_exactly_what_git_does_not_ignore(
    work_tree: tuple[Path, list[str]], top: bytes, nested: bytes, deep: bytes, exclude: bytes
) -> None:
    root, paths = work_tree
    rules = {
        ".gitignore": top,
        "src/.gitignore": nested,
        "a/b/.gitignore": deep,
        ".git/info/exclude": exclude,
    }
    for name, content in rules.items():
        (root / name).write_bytes(content)
    assert taken(root) == git_takes(root, paths)


@needs_git
def test_rules_above_the_named_folder_reach_into_it(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    for name in ("app/src/one.log", "app/src/two.py", "app/src/three.tmp", "app/src/deep/four.bak"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / ".gitignore").write_text("*.log\n/app/src/deep/*.bak\n")
    (tmp_path / "app/.gitignore").write_text("*.tmp\n")
    assert taken(tmp_path / "app/src") == {"two.py"}


@needs_git
def test_a_folder_that_its_work_tree_ignores_is_read_when_it_is_named(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text(".venv/\nbuild/\n")
    (tmp_path / ".venv/package/build").mkdir(parents=True)
    (tmp_path / ".venv/package/build/main.py").write_bytes(b"x")
    assert taken(tmp_path / ".venv/package") == {"build/main.py"}


@needs_git
def test_a_linked_work_tree_obeys_the_exclude_file_of_its_repository(tmp_path: Path) -> None:
    main, linked = tmp_path / "main", tmp_path / "linked"
    subprocess.run(["git", "init", "-q", str(main)], check=True)
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(
        ["git", "-C", str(main), *identity, "commit", "-q", "--allow-empty", "-m", "x"], check=True
    )
    subprocess.run(
        ["git", "-C", str(main), "worktree", "add", "-q", str(linked)], check=True, capture_output=True
    )
    (main / ".git/info").mkdir(exist_ok=True)
    (main / ".git/info/exclude").write_text("private*\n")
    for name in ("private.py", "public.py"):
        (linked / name).write_bytes(b"x")
    assert taken(linked) == {"public.py"} == git_takes(linked, ["private.py", "public.py"])


FILES = ("a.log", "b.py", "c.tmp")
LINES = st.lists(
    st.sampled_from(
        ["*.log", "!*.log", "/c.tmp", "*.tmp", "!c.tmp", "x", "x/", "y/*.py", "**/b.py", "!b.py"]
    ),
    max_size=3,
).map(lambda lines: "".join(f"{line}\n" for line in lines))
KINDS = st.sampled_from(
    ["folder", "folder", "repository", "repository", "pointer", "worktree", "nul", "nowhere", "empty"]
)
FOLDER = st.fixed_dictionaries(
    {
        "kind": KINDS,
        "rules": st.none() | LINES,
        "linked": st.booleans(),  # the ignore file is a symbolic link
        "exclude": st.none() | LINES,
        "configured": st.none() | LINES,  # core.excludesFile of this repository
    }
)
NESTED: Any = st.recursive(
    st.tuples(FOLDER, st.just({})),
    lambda below: st.tuples(FOLDER, st.dictionaries(st.sampled_from(["x", "y", "z"]), below, max_size=3)),
    max_leaves=4,
)


def git(*arguments: str, folder: Path) -> bytes:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_nested(folder: Path, spec: Any, beside: Path, main: Path) -> None:
    """A folder as `spec` has it; what lies outside of the tree (repositories that are pointed to) goes `beside`."""
    settings_, below = spec
    kind = settings_["kind"]
    number = len(list(beside.iterdir()))
    if kind == "worktree":
        git("worktree", "add", "-q", "--detach", str(folder), folder=main)
    else:
        folder.mkdir(exist_ok=True)
    if kind == "repository":
        git("init", "-q", folder=folder)
    elif kind == "pointer":
        git("init", "-q", f"--separate-git-dir={beside / f'git{number}'}", folder=folder)
    elif kind == "nul":
        (folder / ".git").write_bytes(b"gitdir: no\0where")
    elif kind == "nowhere":
        (folder / ".git").write_text("gitdir: ../nowhere\n")
    elif kind == "empty":
        (folder / ".git").mkdir()
    for name in FILES:
        (folder / name).write_bytes(b"x")
    if settings_["rules"] is not None:
        if settings_["linked"]:
            (beside / f"rules{number}").write_text(settings_["rules"])
            (folder / ".gitignore").symlink_to(beside / f"rules{number}")
        else:
            (folder / ".gitignore").write_text(settings_["rules"])
    if kind in {"repository", "pointer"}:
        own = folder / ".git" if kind == "repository" else beside / f"git{number}"
        if settings_["exclude"] is not None:
            (own / "info").mkdir(exist_ok=True)
            (own / "info/exclude").write_text(settings_["exclude"])
        if settings_["configured"] is not None:
            (beside / f"configured{number}").write_text(settings_["configured"])
            git("config", "core.excludesFile", str(beside / f"configured{number}"), folder=folder)
    for name, inner in below.items():
        make_nested(folder / name, inner, beside, main)


def git_lists(repository: Path) -> set[Path]:
    """Every regular file that git does not ignore, in the repository and in those within it."""
    found: set[Path] = set()
    for name in git("ls-files", "-z", "-o", "--exclude-standard", folder=repository).decode().split("\0"):
        path = repository / name
        if name.endswith("/"):
            found |= git_lists(path)
        elif name and not path.is_symlink() and path.stat().st_size:
            found.add(path)
    return found


@needs_git
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    top=LINES,
    exclude=LINES,
    person=LINES,
    tree=st.dictionaries(st.sampled_from(["x", "y", "z"]), NESTED, max_size=3),
)
def test_in_repositories_within_repositories_the_walk_takes_what_git_does(
    tmp_path_factory: pytest.TempPathFactory, top: str, exclude: str, person: str, tree: Any
) -> None:
    base = tmp_path_factory.mktemp("nested").resolve()
    root, beside = base / "root", base / "beside"
    root.mkdir()
    beside.mkdir()
    (beside / "person").write_text(person)
    (beside / "config").write_text(
        f"[core]\n\texcludesFile = {beside / 'person'}\n[user]\n\tname = a\n\temail = a@example.org\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_CONFIG_GLOBAL", str(beside / "config"))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        git("init", "-q", folder=root)
        git("commit", "-q", "--allow-empty", "-m", "x", folder=root)
        (root / ".gitignore").write_text(top)
        (root / ".git/info/exclude").write_text(exclude)
        for name in FILES:
            (root / name).write_bytes(b"x")
        for name, spec in tree.items():
            make_nested(root / name, spec, beside, root)
        found = {path for path, _ in walk(root, _TakeAll(), CorpusPolicy(minimum_bytes=1), Counter())}
        assert {root / path for path in found} == git_lists(root)


@needs_git
def test_a_person_s_own_ignore_file_holds_where_nothing_else_is_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home/git").mkdir(parents=True)
    (tmp_path / "home/git/ignore").write_text("*.log\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    root = tmp_path / "root"
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    for name in FILES:
        (root / name).write_bytes(b"x")
    assert taken(root) == {"b.py", "c.tmp"} == git_takes(root, list(FILES))


def test_sordinoignore_takes_away_and_never_brings_back(tmp_path: Path) -> None:
    for name in ("kept.py", "mine.py", "git.py"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / ".gitignore").write_text("git.py\n!mine.py\n")
    (tmp_path / ".sordinoignore").write_text("mine.py\n!git.py\n")
    assert taken(tmp_path) == {"kept.py", ".sordinoignore"}


@given(st.binary(max_size=200), st.text(min_size=1, max_size=40).filter(lambda name: "\0" not in name))
def test_no_bytes_in_an_ignore_file_are_an_error(content: bytes, path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        return
    assert ignored([parse_rules(content)], path, is_directory=False) in (True, False)


def test_a_hostile_pattern_takes_no_exponential_time() -> None:
    rules = [parse_rules(b"*a" * 60 + b"b\n" + b"**/a/" * 40 + b"*b\n")]
    assert not ignored(rules, "/".join(["a"] * 60) + "/" + "a" * 250, is_directory=False)

"""What a guide or runbook tells a person to type exists: commands, options, files, units and queries."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest
from tests.ops.observed import DEPLOY, ROOT, known_registries, load, read_rules, unknown_parts

from sordino_platform import cli

DOCS = ROOT / "docs"
GUIDES = sorted(
    [
        *(DOCS / "runbooks").glob("*.md"),
        *(DOCS / "guides").glob("*.md"),
        *DOCS.glob("*.md"),
        ROOT / "README.md",
    ]
)
ROOT_COMMAND = cli.LazyCommands()
RECORDED = {rule.name for rule in read_rules() if not rule.alert}


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


def typed(text: str) -> Iterator[list[str]]:
    """Every `sordino ...` command line: in fenced blocks (continued lines joined) and between backticks."""
    fences = re.findall(r"^ *```\w*\n(.*?)^ *```", text, flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in fences for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`([^`\n]+)`", prose)
    for line in lines:
        found = re.search(r"(?:^|&& |sudo -u sordino |exec \S+ (?:-- )?)(sordino [a-z-].*)", line)
        if found:
            yield shlex.split(found.group(1).split(" && ")[0], comments=True)


@cache
def sub_command(group: click.Group, name: str) -> click.Command | None:
    """One sub-command, imported once."""
    return group.get_command(click.Context(group), name)


def problem(words: list[str]) -> str | None:
    """What of a command line the product does not have."""
    command: click.Command = ROOT_COMMAND
    rest = words[1:]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        below = sub_command(command, rest.pop(0))
        if below is None:
            return f"no command {' '.join(words)}"
        command = below
    known = {
        option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
    }
    if isinstance(command, cli.LazyCommands):
        known = {"--version", "--help", "--install-completion", "--show-completion"}
    for word in rest:
        if word.startswith("--") and word.split("=")[0] not in {*known, "--help"}:
            return f"no option {word} in {' '.join(words)}"
    return None


@pytest.mark.parametrize("path", GUIDES, ids=label)
def test_every_command_and_option_exists(path: Path) -> None:
    assert not [found for words in typed(path.read_text(encoding="utf-8")) if (found := problem(words))]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("sordino client sing", "no command sordino client sing"),
        ("sordino client ledger --jason", "no option --jason in sordino client ledger --jason"),
        ("sordino --version", None),
        ("sordino coordinator rounds --folder x --last 3", None),
    ],
)
def test_a_command_that_is_not_there_is_found(line: str, found: str | None) -> None:
    assert problem(shlex.split(line)) == found


@pytest.mark.parametrize(
    "words",
    [
        "--adapter-rank",
        "charter new root --base",
        "sordino base add",
        "base_model",
        "huggingface",
        "--update-check",
        "accept_unasked",
        "sordino serve",
        "client ledger recover",
        "client memory --purge",
        "coordinator adopt",
        "sordino lab",
    ],
)
def test_what_a_person_must_find_stands_in_a_guide(words: str) -> None:
    assert any(words in path.read_text(encoding="utf-8") for path in GUIDES if path.parent.name == "guides")


@pytest.mark.parametrize("path", GUIDES, ids=label)
def test_every_link_leads_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert target.startswith("https://") or (path.parent / target).exists(), target


@pytest.mark.parametrize("path", GUIDES, ids=label)
def test_every_query_asks_for_something_that_is_measured(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for expr in re.findall(r"promtool query instant \S+ '([^']+)'", text):
        assert not list(unknown_parts(expr, known_registries().values(), RECORDED)), expr


@pytest.mark.parametrize("path", GUIDES, ids=label)
def test_every_file_of_ours_that_is_named_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"(?<![\w/.-])((?:deploy|docs)/[\w./-]*\w)", text):
        assert (ROOT / name).exists(), name


def test_the_ports_of_the_guides_are_those_of_the_examples() -> None:
    targets = {
        scrape["job_name"]: scrape["static_configs"][0]["targets"][0].rpartition(":")[2]
        for side in ("coordinator", "member")
        for scrape in load(DEPLOY / f"prometheus/{side}.yml")["scrape_configs"]
    }
    assert targets == {"sordino-coordinator": "9464", "sordino-member": "9465", "sordino-completion": "9466"}
    for path in GUIDES:
        ports = set(re.findall(r"127\.0\.0\.1:(\d+)/metrics", path.read_text(encoding="utf-8")))
        assert ports <= set(targets.values()), path

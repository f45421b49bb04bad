"""What the documents claim names the test that fails when it stops being true.

The protocol's every MUST, and what its threat model calls tested; each row of what the reviewer is told to try; each
row and point by which the privacy statement says who is protected. A test that is named must exist.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FILES = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
FUNCTIONS = {
    node.name
    for path in FILES
    for node in ast.walk(ast.parse((ROOT / path).read_text()))
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
}
NAMED = re.compile(r"`((?:tests/[\w/*]+\.py)?(?:::)?(?:test_\w+(?:\.py)?|test_\w+_\*\.py)?)`")


def blocks(text: str) -> Iterator[str]:
    """Paragraphs, points of lists and rows of tables; a paragraph that ends with a colon has the list that follows."""
    waiting = ""
    for paragraph in re.split(r"\n\s*\n", text):
        rows = re.split(r"\n(?=[*|] |\| )", paragraph.strip("\n"))
        whole = waiting + "\n".join(rows)
        if waiting or (len(rows) == 1 and paragraph.rstrip().endswith(":")):
            waiting = whole if paragraph.rstrip().endswith(":") else ""
            if not waiting:
                yield whole
            continue
        yield from rows


def named_in(block: str) -> list[str]:
    return [name for name in NAMED.findall(block) if "test_" in name]


def section(text: str, title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def rows(text: str) -> list[str]:
    """The rows of a section's tables, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [
        line
        for at, line in enumerate(lines)
        if not re.fullmatch(r"[| :-]+", line) and not re.fullmatch(r"[| :-]+", (lines[at + 1 :] or [""])[0])
    ]


PROTOCOL = (DOCS / "protocol.md").read_text()
STATEMENT = (DOCS / "privacy-statement.md").read_text()
REVIEW = (DOCS / "guides" / "security-review.md").read_text()
POINTS = re.compile(r"^\* .*?(?=^\* |^\n|\Z)", re.MULTILINE | re.DOTALL)


def test_every_must_of_the_protocol_names_its_test() -> None:
    # The head of the table of phases says MUST for its rows, which are looked at below.
    claims = [
        block
        for block in blocks(PROTOCOL)
        if "MUST" in block and "the member MUST check, then does" not in block
    ]
    assert len(claims) > 20
    assert [block[:90] for block in claims if not named_in(block)] == []


def test_every_phase_of_the_protocol_names_the_tests_of_what_a_member_checks() -> None:
    table = PROTOCOL.split("the member MUST check, then does |", 1)[1].split("\n\n", 1)[0]
    phases = rows("| head |\n| --- |" + table)
    assert len(phases) >= 7
    assert [row[:60] for row in phases if not named_in(row)] == []


def test_what_the_threat_model_calls_tested_names_the_test() -> None:
    tested = [row for row in rows(section(PROTOCOL, "1. Threat model")) if "tested" in row]
    assert len(tested) >= 4
    assert [row[:90] for row in tested if not named_in(row)] == []


def test_every_attack_that_the_reviewer_is_told_to_try_names_the_test_that_tries_it() -> None:
    attacks = rows(section(REVIEW, "Where to attack"))
    assert len(attacks) > 20
    assert [row[:90] for row in attacks if not named_in(row)] == []


def test_everything_that_once_got_past_the_whole_names_what_holds_it_now() -> None:
    text = (DOCS / "hardening.md").read_text()
    mended = rows(text)
    assert len(mended) == 17
    assert "in seventeen ways" in " ".join(text.split())
    assert [row[:60] for row in mended if not named_in(row)] == []


def test_every_protection_of_the_privacy_statement_names_its_test() -> None:
    protections = rows(section(STATEMENT, "Who is protected, from whom, by what"))
    assert len(protections) >= 6
    assert [row[:90] for row in protections if not named_in(row)] == []


@pytest.mark.parametrize("title", ["The mechanism, for a cryptographer", "How it is checked"])
def test_every_point_of_the_privacy_statement_names_its_test(title: str) -> None:
    points = POINTS.findall(section(STATEMENT, title))
    assert len(points) >= 4
    assert [point[:90] for point in points if not named_in(point)] == []


@pytest.mark.parametrize("guide", ["member", "operator", "vscode"])
def test_what_a_guide_promises_names_its_test(guide: str) -> None:
    promises = rows(section((DOCS / "guides" / f"{guide}.md").read_text(), "Which test holds what"))
    assert len(promises) >= 6
    assert [row[:90] for row in promises if not named_in(row)] == []


PAGES = sorted(path.relative_to(ROOT).as_posix() for path in [ROOT / "README.md", *DOCS.rglob("*.md")])


@pytest.mark.parametrize("page", [page for page in PAGES if named_in((ROOT / page).read_text())])
def test_a_test_that_is_named_exists(page: str) -> None:
    for name in named_in((ROOT / page).read_text()):
        file, _, function = name.rpartition("::") if "::" in name else ("", "", name)
        if function.endswith(".py"):
            file, function = function, ""
        if "*" in file:
            assert any(Path(one).match(file) for one in FILES), name
        elif file:
            assert file in FILES or any(one.endswith("/" + file) for one in FILES), name
        if function:
            assert function in FUNCTIONS, name


def test_a_claim_without_a_test_would_be_found() -> None:
    text = "A member MUST sing.\n\n* It MUST dance (`test_a_release_comes_back_as_it_was_signed`).\n* It MUST rest."
    assert [block for block in blocks(text) if "MUST" in block and not named_in(block)] == [
        "A member MUST sing.",
        "* It MUST rest.",
    ]

"""Judges whether a shown text adds a syntax error, with the whole true file and another method than the syntax gate.

The shown text replaces the same number of lines of the true text. The rest of the passage and of the file follow it. A
shown text may end within a line, so every possible ending is tried: closing the open quotes and brackets, adding a
missing operand or name, ending the statement, starting or ending a block, or continuing with the true line from any of
its words. The text adds an error only if every ending leaves the file with more errors than the true file has. A text
that is a prefix of the true text adds none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product

from sordino_client.completion.showing.syntax import gate_for
from sordino_client.laboratory.completion_benchmark.typing.replay import AddsError

PAIRS = {"(": ")", "[": "]", "{": "}"}
STRINGS = re.compile(r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`")
CLOSES_TEXT = ("", '"', "'", '"""', "*/", "`")
OPERANDS = ("", " x", " x()", "()", " x x", " x = x", " x in x", ": x", "; x; x", " x; x; x", " ? x : x", ")")
IN_BRACES = (
    "",
    ";",
    " {",
    " {}",
    " x;",
    " x() {",
    " x() {}",
    " = x;",
    ":",
    " x:",
    " -> {",
    "\n}",
    ";\n}",
    " {\n}",
    "\nx x;",
    "\nx x() {",
)
IN_PYTHON = (
    *(
        "",
        ":",
        " x:",
        "():",
        " x():",
        ": x = x",
        " = x",
        " import x",
        "\n{i}if x:",
        "\n{i}def x(): x",
        "\n{i}    x",
    ),
    *(":\n{i}    x", " x:\n{i}    x", " x():\n{i}    x"),
)
MAX_TAILS = 24


def adds_error(path: str) -> AddsError:
    """The judge of shown texts in a file of this name. Without a grammar for its language nothing is an error."""
    gate = gate_for(path)
    endings = IN_PYTHON if path.endswith((".py", ".pyi")) else IN_BRACES

    def added(before: str, shown: str, coming: str, after: str) -> bool:
        if gate is None or coming.startswith(shown):
            return False
        lines = coming.split("\n")
        replaced = lines[: shown.count("\n") + 1]
        rest = "".join(f"\n{line}" for line in lines[len(replaced) :]) + after
        allowed = gate.errors(before + coming + after)
        return all(
            gate.errors(before + shown + finish + rest) > allowed
            for finish in _finishes(before[before.rfind("\n") + 1 :] + shown, replaced[-1], endings)
        )

    return added


def _finishes(line: str, truth: str, endings: tuple[str, ...]) -> Iterator[str]:
    """The endings that are tried after `line`, which replaces `truth`."""
    last = line.rsplit("\n", 1)[-1]
    indent = last[: len(last) - len(last.lstrip())]
    yield from ("", ";")
    words = [found.start() for found in re.finditer(r"\w+|[^\w\s]", truth)]
    yield from (truth[at:] for at in words[:MAX_TAILS])
    closers = {closed: _closing(line + closed) for closed in CLOSES_TEXT}
    for closed, operand, ending in product(CLOSES_TEXT, OPERANDS, endings):
        for brackets in dict.fromkeys((closers[closed], "")):
            yield closed + operand + brackets + ending.replace("{i}", indent)


def _closing(line: str) -> str:
    """The brackets that close what `line` leaves open. Brackets in strings do not count."""
    open_: list[str] = []
    for character in STRINGS.sub("", line):
        if character in PAIRS:
            open_.append(PAIRS[character])
        elif open_ and character == open_[-1]:
            open_.pop()
    return "".join(reversed(open_))

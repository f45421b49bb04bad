"""Keeps text that stands behind the cursor from being offered again: the rest of the line, and the next lines. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from sordino_client.completion.text.brackets import balanced

# A line must hold more than brackets to count as repeated; brackets alone are the business of brackets.py.
SAYS: Final = re.compile(r"\w\w")
LINES: Final = 8
# An unfinished line must be this long before it counts as the beginning of the one below.
BEGUN: Final = 4


def next_lines(suffix: str) -> tuple[str, ...]:
    """The next few lines behind the cursor's that are not blank, without their indentation."""
    below = suffix.partition("\n")[2][:4096].split("\n")
    return tuple(line.strip() for line in below if line.strip())[:LINES]


def repeated_from(text: str, line: str, below: Sequence[str], *, cut_short: bool) -> int | None:
    """The place where `text` begins to repeat the lines below it, None if it does not.

    `line` is what stands before the cursor on its line; `cut_short`: the text's last line may go on.

    >>> repeated_from("return a;\\n    }", "    ", ["return a;", "}"], cut_short=False)
    0
    """
    if not below or not SAYS.search(below[0]):
        return None
    start, written = 0, text.split("\n")
    for number, one in enumerate(written):
        said = (line + one if number == 0 else one).strip()
        unfinished = cut_short and number == len(written) - 1 and one.strip() and len(said) >= BEGUN
        if one.strip() and (said == below[0] or (unfinished and below[0].startswith(said))):
            return max(start - 1, 0)
        start += len(one) + 1
    return None


def overlap(text: str, rest: str) -> int:
    """How many characters at the end of `text` are also the beginning of the rest of the line, so that they would stand
    there twice.

    The longest such piece whose own brackets and quotes are in balance: the bracket that ends `.size()` belongs to it,
    whatever bracket stands behind the cursor.

    >>> overlap("a, b", ", b)"), overlap(".size()", ")")
    (3, 0)
    """
    rest = rest.rstrip()
    last = text.rpartition("\n")[2]
    for length in range(min(len(rest), len(last)), 0, -1):
        if last.endswith(rest[:length]) and balanced(rest[:length]):
            return length
    return 0

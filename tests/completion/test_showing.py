"""What is shown is a beginning of what was written, worth a look, and no new syntax error."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tree_sitter import Language, Parser

from sordino_client.completion.showing.judgement import hopeless, judge
from sordino_client.completion.showing.syntax import GRAMMARS, Gate, _errors, gate_for
from sordino_client.completion.showing.worth import PRICES, Show, ends
from sordino_client.completion.text.place import Place

PIECES = st.lists(
    st.tuples(st.text(alphabet="ab1_ .(){}\n;", max_size=6), st.floats(-6, 0)), min_size=1, max_size=12
)
JAVA = "class Account {\n    private int balance;\n\n    void deposit(int amount) {\n        <>\n    }\n}\n"
PYTHON = "class Account:\n    def deposit(self, amount):\n        <>\n\n    def close(self):\n        pass\n"
CODE = {
    ".java": JAVA,
    ".py": PYTHON,
    ".js": "class Account {\n  deposit(amount) {\n    <>\n  }\n}\n",
    ".ts": "class Account {\n  deposit(amount: number): void {\n    <>\n  }\n}\n",
    ".tsx": "export function Account() {\n  <>\n  return <p>a</p>;\n}\n",
    ".go": "package main\n\nfunc deposit(amount int) {\n\t<>\n}\n",
    ".c": "int deposit(int amount) {\n    <>\n}\n",
    ".cpp": "class Account {\n  int deposit(int amount) {\n    <>\n  }\n};\n",
    ".rs": "fn deposit(amount: i32) {\n    <>\n}\n",
    ".cs": "class Account {\n  void Deposit(int amount) {\n    <>\n  }\n}\n",
}
SHOWS: tuple[Show, ...] = ("eager", "balanced", "quiet")


def gate(path: str) -> Gate:
    found = gate_for(path)
    assert found is not None
    return found


def sides(code: str) -> tuple[str, str]:
    prefix, _, suffix = code.partition("<>")
    return prefix, suffix


@given(PIECES, st.sampled_from(SHOWS))
def test_what_is_shown_is_a_beginning_that_ends_a_word_and_no_blank(
    pieces: list[tuple[str, float]], show: Show
) -> None:
    text = "".join(piece for piece, _ in pieces)
    judged = judge(text, [p for p, _ in pieces], [q for _, q in pieces], Place.of("", ""), None, show)
    shown = text[: judged.end]
    assert shown == shown.rstrip()
    if shown:
        following = text[judged.end : judged.end + 1]
        assert not ((shown[-1].isalnum() or shown[-1] == "_") and (following.isalnum() or following == "_"))
        assert len(shown) > 1
    else:
        assert judged.why == "unsure" or not text


@given(PIECES)
def test_who_is_quieter_shows_no_more(pieces: list[tuple[str, float]]) -> None:
    text = "".join(piece for piece, _ in pieces)
    split = [p for p, _ in pieces], [q for _, q in pieces]
    lengths = [judge(text, *split, Place.of("", ""), None, show).end for show in SHOWS]
    assert lengths == sorted(lengths, reverse=True)


@given(PIECES, st.sampled_from(SHOWS))
def test_what_is_not_written_on_could_never_have_been_worth_it(
    pieces: list[tuple[str, float]], show: Show
) -> None:
    split = [p for p, _ in pieces], [q for _, q in pieces]
    for end in ends("".join(split[0]), *split, price=PRICES[show]):
        length = next(n for n in range(len(pieces) + 1) if len("".join(split[0][:n])) >= end.at)
        assert sum(split[1][:length]) >= hopeless(show)


def test_all_shows_everything_and_a_sure_text_is_shown_whole() -> None:
    place = Place.of("return ", "")
    assert judge("total;", ["total", ";"], [-9.0, -9.0], place, None, "all").end == 6
    assert judge("total;", ["total", ";"], [-0.01, -0.01], place, None, "quiet").end == 6
    half = judge("total + other;", ["total", " + other;"], [-0.01, math.log(0.01)], place, None, "balanced")
    assert (half.end, half.why) == (5, "unsure")


@pytest.mark.parametrize("suffix", sorted(CODE))
def test_a_closing_bracket_too_many_is_refused_in_every_language(suffix: str) -> None:
    prefix, behind = sides(CODE[suffix])
    assert not gate(f"a{suffix}").passes(prefix, "amount) ))", behind)
    assert gate(f"a{suffix}").passes(prefix, "balance(amount)", behind)


@pytest.mark.parametrize(
    ("code", "path", "text", "kept"),
    [
        (JAVA, "A.java", "this.balance = amount) {", "this.balance = amount"),
        (JAVA, "A.java", "if (amount > 0) {", "if (amount > 0) {"),
        (JAVA, "A.java", "for (int i = 0; i < amount; i++) {\n            add(i);", None),
        (JAVA, "A.java", "this.balance += amount;", None),
        (JAVA, "A.java", "log.info(", None),
        (PYTHON, "a.py", "self.balance = balance):", "self.balance = balance"),
        (PYTHON, "a.py", "if amount > 0:", None),
        (PYTHON, "a.py", "for item in self.items:\n            item.close()", None),
        (PYTHON, "a.py", "return self._balance[", None),
        (PYTHON, "a.py", "@property", None),
    ],
)
def test_a_text_is_cut_where_it_would_become_an_error(
    code: str, path: str, text: str, kept: str | None
) -> None:
    prefix, behind = sides(code)
    places = list(range(len(text), 0, -1))
    assert text[: gate(path).end(prefix, text, behind, ends=places)] == (text if kept is None else kept)


def test_a_line_that_is_beyond_repair_holds_nothing_against_what_follows() -> None:
    assert gate("A.java").end("class A {\n    int ) = (", "balance", "\n}\n", ends=[7]) == 7


def test_a_language_without_a_grammar_passes() -> None:
    assert gate_for("notes.txt") is None
    judged = judge("amount) ))", ["amount) ))"], [-0.01], Place.of("", ""), "notes.txt", "quiet")
    assert judged.end == len("amount) ))")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 200), st.text(alphabet="ab(){};\n =é", max_size=12)), max_size=5))
def test_parsing_what_changed_finds_what_parsing_all_finds(edits: list[tuple[int, str]]) -> None:
    import tree_sitter_java

    text, watched = JAVA.replace("<>", ""), gate("A.java")
    for at, piece in edits:
        text = text[: at % (len(text) + 1)] + piece + text[at % (len(text) + 1) :]
        parsed = watched._parse(text)
        watched._last = parsed
        fresh = Parser(Language(tree_sitter_java.language())).parse(text.encode())
        assert (_errors(parsed.tree.root_node) == 0) == (_errors(fresh.root_node) == 0)


def test_every_grammar_that_is_named_is_installed() -> None:
    for suffix in GRAMMARS:
        assert gate_for(f"a{suffix}") is not None

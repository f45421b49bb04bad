"""What is shown is a beginning of what was written, worth a look, and no new syntax error."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tree_sitter import Language, Parser

from sordino_client.completion.showing.judgement import hopeless, judge
from sordino_client.completion.showing.syntax import GRAMMARS, MAX_PARSES, Gate, _errors, gate_for
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
# What may stand in the place.
TRUE = {
    ".java": 'if (amount > 0 && name.equals("a\\"b")) {\n            this.balance += amount;\n        }',
    ".py": 'if amount > 0:\n            self.names = [f"{name}" for name in names]  # all\n            raise Error',
    ".js": "for (const one of this.all) {\n      one.add(`a ${amount}`, () => 1);\n    }",
    ".ts": "const all: Map<string, number> = new Map();\n    all.set('a', amount as number);",
    ".tsx": "const [count, setCount] = useState<number>(0);",
    ".go": 'for i, one := range all {\n\t\tfmt.Println("a", one[i])\n\t}',
    ".c": "for (int i = 0; i < amount; i++) {\n        total[i] += *next(&all, 'a');\n    }",
    ".cpp": "for (const auto& one : all) {\n      total += std::get<0>(one);\n    }\n    return total;",
    ".rs": 'let all: Vec<i32> = (0..amount).map(|one| one + 1).collect();\n    println!("{}", all.len());',
    ".cs": 'foreach (var one in all) {\n      Total += one.Amount ?? 0;\n      Log($"a {one}");\n    }',
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
    assert not gate(f"a{suffix}").end(prefix, "amount) ))", behind, ends=[9])
    assert gate(f"a{suffix}").end(prefix, "balance(amount)", behind, ends=[15])


@pytest.mark.parametrize(
    ("code", "path", "text", "kept"),
    [
        (JAVA, "A.java", "this.balance = amount) {", "this.balance = amount"),
        (JAVA, "A.java", "if (amount > 0) {", "if (amount > 0) {"),
        (JAVA, "A.java", "for (int i = 0; i < amount; i++) {\n            add(i);", None),
        (JAVA, "A.java", "this.balance += amount;", None),
        (JAVA, "A.java", "log.info(", None),
        (JAVA, "A.java", "int[] rates = new", None),
        (JAVA, "A.java", "for (int i = 0; i <", None),
        (JAVA, "A.java", "try (Reader reader = new Reader", None),
        (JAVA, "A.java", 'log.info("a", "b c', None),
        (JAVA, "A.java", "/** what it does", None),
        (PYTHON, "a.py", "self.balance = balance):", "self.balance = balance"),
        (PYTHON, "a.py", "if amount > 0:", None),
        (PYTHON, "a.py", "for item in self.items:\n            item.close()", None),
        (PYTHON, "a.py", "return self._balance[", None),
        (PYTHON, "a.py", "@property", None),
        (PYTHON, "a.py", "async def", None),
        (PYTHON, "a.py", "names = {name for", None),
        (PYTHON, "a.py", 'log.info("a", \'b c', None),
        (PYTHON, "a.py", '"""What it does.', None),
        (PYTHON, "a.py", "= balance", ""),
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


@pytest.mark.parametrize("quote", ["`", '"', "'"])
def test_what_begins_right_behind_an_opened_quote_is_not_refused(quote: str) -> None:
    before = f"class Account {{\n  deposit(amount) {{\n    one.add({quote}"
    assert gate("a.js").end(before, "a", "\n  }\n}\n", ends=[1]) == 1


@pytest.mark.parametrize("suffix", sorted(CODE))
@settings(max_examples=120, deadline=None)
@given(st.data())
def test_no_part_of_a_true_file_is_refused(suffix: str, data: st.DataObject) -> None:
    code = CODE[suffix].replace("<>", TRUE[suffix])
    ends = [found.end() for found in re.finditer(r"\w+|[^\w\s]+", code)]
    end = data.draw(st.sampled_from(ends))
    start = data.draw(st.integers(max(end - 30, 0), end - 1))
    below = code[end:]
    for behind in (below, "\n" + below.partition("\n")[2]):  # in the middle of the line, or at its end
        assert gate(f"a{suffix}").end(code[:start], code[start:end], behind, ends=[end - start])


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(CODE)),
    st.integers(0, 200),
    st.text(alphabet="ab(){}[];:\"'`*/#\n =é\0", max_size=60),
    st.lists(st.integers(1, 60), max_size=24),
    st.booleans(),
)
def test_a_look_costs_a_handful_of_parses_whatever_the_text(
    suffix: str, at: int, text: str, ends: list[int], rest: bool
) -> None:
    code, watched = CODE[suffix], gate(f"a{suffix}")
    before, behind = code[:at], ("" if rest else "\n") + code[at:]
    possible = [end for end in ends if end <= len(text)]
    parsed = watched.parses
    assert watched.end(before, text, behind, ends=possible) in {0, *possible}
    assert watched.parses - parsed <= MAX_PARSES


def test_below_a_line_that_is_wrong_nothing_is_judged() -> None:
    prefix = "class A {\n    void f() {\n        if ) a (> 0\n        "
    assert gate("A.java").end(prefix, "balance = 0)", "\n    }\n}\n", ends=[12]) == 12


def test_what_would_end_the_comment_it_stands_in_must_leave_the_file_whole() -> None:
    prefix, suffix = "class A {\n    /**\n     * What", "\n     * it is.\n     */\n    int a;\n}\n"
    assert gate("A.java").end(prefix, " a thing.", suffix, ends=[9]) == 9
    assert gate("A.java").end(prefix, " a thing. */", suffix, ends=[12, 9]) == 9


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
        parsed = watched._parse(text.encode(), watched._last)
        watched._last = parsed
        fresh = Parser(Language(tree_sitter_java.language())).parse(text.encode())
        assert (_errors(parsed.tree.root_node) == 0) == (_errors(fresh.root_node) == 0)


def test_every_grammar_that_is_named_is_installed() -> None:
    for suffix in GRAMMARS:
        assert gate_for(f"a{suffix}") is not None

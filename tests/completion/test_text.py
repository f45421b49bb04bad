"""The boundary between model and editor: for any text, any line ending, any cursor."""

from __future__ import annotations

import codecs
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sordino_client.completion.text import brackets, following, loops, utf8
from sordino_client.completion.text.fitting import Fit
from sordino_client.completion.text.place import Place, ending, normal, whole

ENDINGS = st.sampled_from(["\n", "\r\n", "\r"])
LINES = st.lists(
    st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=12), max_size=8
)
HALVES = st.text(st.sampled_from(["a", "é", "😀", "\ud83d", "\ude00", "\r", "\n"]), max_size=20)


class TestPlace:
    @given(LINES, ENDINGS, st.data())
    def test_inside_a_line_ends_with_lf_and_outside_as_in_the_document(
        self, lines: list[str], end: str, data: st.DataObject
    ) -> None:
        document = end.join(lines)
        at = data.draw(st.integers(0, len(document)))
        place = Place.of(document[:at], document[at:])
        if document[at - 1 : at + 1] == "\r\n" and at:
            assert place.inside == "line_ending"
            return
        assert place.inside is None
        assert place.prefix + place.suffix == "\n".join(lines)
        assert place.outward("x\ny") == (f"x{end}y" if len(lines) > 1 else "x\ny")

    @given(HALVES, HALVES, st.text("ab\n"))
    def test_whatever_comes_in_no_half_goes_out(self, prefix: str, suffix: str, text: str) -> None:
        place = Place.of(prefix, suffix)
        for side in (place.prefix, place.suffix):
            assert "\r" not in side
            side.encode()
        out = place.outward(text)
        assert normal(out) == text
        if place.ending == "\r\n":
            assert not re.search(r"\r(?!\n)|(?<!\r)\n", out)

    def test_the_nearest_line_above_says_how_lines_end(self) -> None:
        assert ending("a\nb\r\nc", "\n") == "\r\n"
        assert ending("a\r\nb\nc", "\r\n") == "\n"
        assert ending("a", "\r\nb\n") == "\r\n"
        assert ending("", "") == "\n"

    def test_a_cursor_within_a_pair_of_surrogates_is_told(self) -> None:
        assert Place.of("\ud83d", "\ude00").inside == "character"
        assert whole("a\ud83db") == "a\ufffdb"


class TestUtf8:
    @given(st.one_of(st.binary(max_size=6), st.text(max_size=4).map(str.encode)), st.integers(0, 6))
    def test_what_may_follow_is_what_a_decoder_takes(self, data: bytes, cut: int) -> None:
        data = data[: max(len(data) - cut, 0)]
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            decoder.decode(data)
            expected = b"\r" not in data
        except UnicodeDecodeError:
            expected = False
        # A decoder waits for a second byte that can only be wrong; the automaton knows after the second.
        assert (utf8.after(utf8.START, data) != utf8.BAD) == expected

    @given(st.data())
    def test_any_choice_among_the_allowed_is_text(self, data: st.DataObject) -> None:
        pieces = [bytes([value]) for value in range(256)] + [
            "é".encode(),
            "😀".encode()[1:],
            "€".encode()[:2],
        ]
        continuations = utf8.Continuations(pieces, end=0)
        state, written = utf8.START, b""
        for _ in range(12):
            token = data.draw(st.sampled_from(continuations.allowed[state].nonzero()[0].tolist()))
            state, written = int(continuations.after[state, token]), written + pieces[token]
        codecs.getincrementaldecoder("utf-8")().decode(written)


BALANCED = st.recursive(
    st.text("ab, ", max_size=3),
    lambda inner: st.tuples(st.sampled_from(["()", "[]", "{}"]), inner, inner).map(
        lambda part: part[0][0] + part[1] + part[0][1] + part[2]
    ),
    max_leaves=8,
)


def unmatched(text: str) -> int:
    """How many closing brackets close nothing."""
    stack: list[str] = []
    count = 0
    for mark in text:
        if mark in "([{":
            stack.append(mark)
        elif mark in ")]}":
            if stack and brackets.OPENS[stack[-1]] == mark:
                stack.pop()
            else:
                count += 1
    return count


class TestBrackets:
    @given(BALANCED, st.text("()[]{}ab,\n", max_size=10), st.data())
    def test_in_a_balanced_line_nothing_is_closed_twice(
        self, line: str, text: str, data: st.DataObject
    ) -> None:
        at = data.draw(st.integers(0, len(line)))
        kept = text[: Fit(line[:at], line[at:])(text, done=True).end]
        assert unmatched(line[:at] + kept + line[at:]) == 0

    @pytest.mark.parametrize(
        ("prefix", "suffix", "text", "offered"),
        [
            ("foo(a, b", ");", "ar)", "ar"),
            ("foo(a, b", ");", "ar);", "ar"),
            ("foo(a, b", "", "ar);", "ar);"),
            ("foo(x", ")", ".bar()", ".bar()"),
            ("foo(x", ")", ".bar(", ".bar"),
            ("foo(bar(x", "))", ", y)", ", y"),
            ("a[i", "] = 1;", "ndex]", "ndex"),
            ('print("hello', '")', ' world")', " world"),
            ("x = foo(", '"a")', '"a")', ""),
            ("call(function() {\n    ", "\n})", "})", ""),
            ("call(function() {\n    go();\n", "", "})", "})"),
            ("", "", "})", ""),
            ("let a = b", "", "})", ""),
            ("class A {\n    int f() {\n        ", "\n}\n", "return a;\n    }", "return a;\n    }"),
            ("class A {\n    int f() {\n        ", "\n    }\n}\n", "return a;\n    }", "return a;"),
            ("foo(\n    a,\n    b", "\n)\n", ")", ""),
            ("// don't (\nfoo(a", ")", ", b)", ", b"),
            ('log("a (b', "", ' c", x)', ' c", x)'),
        ],
    )
    def test_what_is_closed_behind_the_cursor_is_not_closed_again(
        self, prefix: str, suffix: str, text: str, offered: str
    ) -> None:
        fitted = Fit(prefix, suffix)(text, done=True)
        assert text[: fitted.end] == offered
        assert (fitted.cut is not None) == (offered != text)

    def test_what_is_open_too_far_above_is_not_mistaken_for_what_is_near(self) -> None:
        prefix = "class A {\n" + "    int x;\n" * 2000 + "    int f() {\n        "
        assert Fit(prefix, "\n}\n")("return a;\n    }", done=True).cut is None
        assert Fit(prefix, "\n    }\n}\n")("return a;\n    }", done=True).cut == "repeats_suffix"


class TestFollowing:
    @pytest.mark.parametrize(
        ("text", "rest", "twice"),
        [
            ("a, b", ", b)", 3),
            ("x;", ";", 1),
            ("x", ";", 0),
            (".size()", ")", 0),
            ("b = c", " = c  ", 4),
            ("", "x", 0),
        ],
    )
    def test_the_rest_of_the_line_is_said_once(self, text: str, rest: str, twice: int) -> None:
        assert following.overlap(text, rest) == twice

    @pytest.mark.parametrize(
        ("prefix", "suffix", "text", "offered"),
        [
            ("int getA() {\n        ", "\n        return a;\n    }\n", "return a;\n    }", ""),
            ("int getA() {\n        ret", "\n        return a;\n    }\n", "urn a;", ""),
            (
                "int getA() {\n        ",
                "\n\n        return a;\n    }\n",
                "log(a);\n        return a;\n    }",
                "log(a);",
            ),
            ("f {\n  ", "\n  done();\n}\n", "go();\n  do", "go();\n  do"),
            ("f {\n  ", "\n  done();\n}\n", "go();\n  done(", "go();"),
            ("if x:\n    ", "\n    }\n", "a\n    b", "a\n    b"),
        ],
    )
    def test_the_next_lines_are_not_offered_again(
        self, prefix: str, suffix: str, text: str, offered: str
    ) -> None:
        assert text[: Fit(prefix, suffix)(text, done=True, cut_short=True).end] == offered


class TestLoops:
    @pytest.mark.parametrize(
        ("text", "offered"),
        [
            (" b + b + b + b + b", " b"),
            ("0, 0, 0, 0, 0", "0"),
            ("foo(foo(foo(foo(foo(foo(", "foo"),
            ("the value of the value of the value of the", "the value of the value of the value of the"[:12]),
            ("””””””””””””””””””””", "”"),
            ("-" * 40, "-" * 40),
            ("# " + "=" * 60, "# " + "=" * 60),
            ("1_000_000_000", "1_000_000_000"),
            ("a, b, a", "a, b, a"),
            ("x.add(1);\nx.add(1);\nx.add(1);\n", "x.add(1);"),
            ("if a:\n  b()\nif a:\n  b()\nif a:\n  b()\n", "if a:\n  b()"),
            ("x.add(1);\nx.add(2);\nx.add(3);", "x.add(1);\nx.add(2);\nx.add(3);"),
        ],
    )
    def test_what_turns_in_circles_is_cut_to_its_first_turn(self, text: str, offered: str) -> None:
        assert text[: Fit("f(", "")(text, done=True).end] == offered

    @given(st.text("ab ,+\n", max_size=60))
    def test_what_is_offered_turns_in_no_circle(self, text: str) -> None:
        kept = text[: Fit("", "")(text, done=True).end]
        assert loops.in_line(kept.rpartition("\n")[2]) is None


@given(
    st.text('ab;\n(){}" ', max_size=50),
    st.sampled_from(
        [("f(", ")"), ("f {\n  ", "\n  a;\n}\n"), ("", ""), ('g("', '")\n'), ("f {\n  x", " b;")]
    ),
)
def test_what_a_stream_has_sent_is_what_remains(text: str, place: tuple[str, str]) -> None:
    fit, sent = Fit(*place), 0
    for length in range(len(text) + 1):
        fitted = fit(text[:length], done=False)
        if fitted.over:
            break
        assert fitted.safe <= length
        sent = max(sent, fitted.safe)
    else:
        fitted = fit(text, done=True)
    assert fitted.end >= sent
    assert fitted.end <= len(text)

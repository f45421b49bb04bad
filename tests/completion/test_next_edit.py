"""Next edit: what a change is, where it applies again, and what the endpoint says of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sordino_client.completion.edits.change import MAX_CHARACTERS, change_between
from sordino_client.completion.edits.next import MAX_TEXT, EditHistory, next_place
from sordino_client.completion.edits.place import places
from sordino_client.completion.lsp.baseline import Baseline, Edit

CALLS = """def first(client):
    value = client.fetch(name, limit=10)
    return value


def second(client):
    value = client.fetch(name, limit=10)
    return value


def third(client):
    value = client.fetch(name, limit=10)
    return value
"""
ONE, OTHER = "client.fetch(name, limit=10)", "client.fetch(name, limit=20)"
LINES = st.text(st.sampled_from("ab_1 .,()=\n"), max_size=60)


def found(before: str, after: str, show: Any = "balanced") -> str | None:
    """The text after the offered change was made, None where none is offered."""
    place = next_place(before, after, editor="e", history=EditHistory(), show=show)
    return None if place is None else after[: place.start] + place.new + after[place.end :]


@given(LINES, LINES)
def test_a_change_is_what_makes_one_text_of_the_other_wherever_it_is_one(before: str, after: str) -> None:
    change = change_between(before, after)
    if change is not None:
        assert after.startswith(change.new, change.start)
        undone = after[: change.start] + change.old + after[change.start + len(change.new) :]
        # Equal changes of one line are one: then the others still stand.
        assert undone == before or change.new in undone
        assert change.old.strip()
        assert not {"\n", "\r"} & set(change.old + change.new)


@given(LINES, LINES)
def test_every_place_holds_what_was_changed_and_none_is_the_change_itself(before: str, after: str) -> None:
    change = change_between(before, after)
    if change is not None:
        for place in places(after, change):
            assert after[place.start : place.end] == change.old
            assert place.end <= change.start or place.start >= change.start + len(change.new)


@pytest.mark.parametrize(
    ("before", "after", "old", "new"),
    [
        ("total = 1", "totals = 1", "total", "totals"),
        ("f(host)", "f(host, timeout=5)", "host", "host, timeout=5"),
        ("x = name", "x = self.name", "name", "self.name"),
        ("a.get(b) + a.get(c)", "a.fetch(b) + a.fetch(c)", "get", "fetch"),
        ("drop(x, y)", "drop(x)", ", y", ""),
    ],
)
def test_a_change_is_named_by_whole_words(before: str, after: str, old: str, new: str) -> None:
    change = change_between(before, after)
    assert change is not None
    assert (change.old, change.new) == (old, new)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a = 1\n", "a = 1\nb = 2\n"),
        ("a = 1", "a  = 1"),
        ("same", "same"),
        ("", "x" * (MAX_CHARACTERS + 1)),
        ("a\r\nb", "a\nb"),
    ],
)
def test_lines_blanks_and_long_texts_are_no_change(before: str, after: str) -> None:
    assert change_between(before, after) is None


def test_the_next_place_below_is_offered_and_the_first_again_after_the_last() -> None:
    text, edits = CALLS, 0
    at = text.index(ONE, text.index("second"))
    after = text[:at] + OTHER + text[at + len(ONE) :]
    history = EditHistory()
    order = []
    before = text
    while (place := next_place(before, after, editor="e", history=history, show="balanced")) is not None:
        order.append(after.count("\n", 0, place.start))
        before, after = after, after[: place.start] + place.new + after[place.end :]
        edits += 1
        assert edits < 9
    assert order == [11, 1]
    assert after == text.replace(ONE, OTHER)


def test_a_place_that_looks_otherwise_is_not_offered() -> None:
    before = "i = 0\nfor i in range(3):\n    print(i)\n"
    assert found(before, before.replace("i = 0", "j = 0")) is None


def test_who_made_a_change_before_is_offered_more_places() -> None:
    before = "a = load(x)\nb = load(y)\nc = load(z)\n"
    after = before.replace("load(x)", "read(x)")
    history = EditHistory()
    at = {"editor": "e", "history": history, "show": "balanced"}
    first = next_place(before, after, **at)  # type: ignore[arg-type]
    then = after.replace("load(y)", "read(y)")
    second = next_place(after, then, **at)  # type: ignore[arg-type]
    assert second is not None
    assert then[second.start : second.end] == "load"
    assert first is None or after[first.start : first.end] == "load"
    assert history.made("other", "x", None) == 0


def test_settings_order_how_much_is_offered() -> None:
    before = "a = load(x)\nb = load(y)\n"
    after = before.replace("load(x)", "read(x)")
    shown = [found(before, after, show) is not None for show in ("quiet", "balanced", "eager", "all")]
    assert shown == sorted(shown)
    assert shown[-1]


def test_a_large_file_costs_nothing() -> None:
    text = "a = load(x)\n" * (MAX_TEXT // 12 + 1)
    assert found(text, text.replace("load", "read", 1)) is None


def test_a_change_goes_on_in_its_line_and_ends_with_another() -> None:
    baseline = Baseline("ab\ncd\n")
    baseline.edited([Edit(0, 0, "x")], "xab\ncd\n")
    baseline.edited([Edit(1, 0, "y")], "xyab\ncd\n")
    assert baseline.before == "ab\ncd\n"
    baseline.edited([Edit(5, 1, "z")], "xyab\nzd\n")
    assert (baseline.before, baseline.after) == ("xyab\ncd\n", "xyab\nzd\n")
    baseline.edited([Edit(5, 0, "\n")], "xyab\n\nzd\n")
    assert baseline.before == baseline.after
    baseline.edited([Edit(0, 1, ""), Edit(0, 1, "")], "ab\n\nzd\n")
    assert baseline.before == baseline.after


def ask(serving: Any, path: str, before: str, after: str, **more: Any) -> Any:
    body = {"path": path, "before": before, "after": after, **more}
    return serving.endpoint.ask("POST", "/v1/next-edit", body)["place"]


def test_the_endpoint_counts_columns_as_the_editor_does(serving: Any) -> None:
    before = f"# 😀 {ONE}\r\nx = '😀', {ONE}\r\n"
    after = before.replace("10", "20", 1)
    place = ask(serving, "a.py", before, after)
    assert place == {
        "range": {"start": {"line": 1, "character": 35}, "end": {"line": 1, "character": 37}},
        "text": "20",
    }
    assert ask(serving, "a.py", before, after, encoding="utf-32")["range"]["start"]["character"] == 34


def test_no_change_is_looked_for_in_a_file_that_may_hold_secrets(serving: Any) -> None:
    assert ask(serving, "a.py", CALLS, CALLS.replace("10", "20", 1)) is not None
    assert ask(serving, ".env", CALLS, CALLS.replace("10", "20", 1)) is None


def test_every_editor_of_the_language_server_has_it_as_a_code_action(serving: Any) -> None:
    from tests.completion.test_lsp import Editor

    editor = Editor(serving.state)
    try:
        uri = "file:///next.py"
        editor.open(uri, CALLS)
        where = {"textDocument": {"uri": uri}, "range": {"start": at(1, 0), "end": at(1, 0)}, "context": {}}
        assert editor.ask("textDocument/codeAction", where) == []
        column = CALLS.splitlines()[1].index("10")
        change = {"range": {"start": at(1, column), "end": at(1, column + 1)}, "text": "2"}
        document = {"uri": uri, "version": 2}
        editor.tell("textDocument/didChange", {"textDocument": document, "contentChanges": [change]})
        (action,) = editor.ask("textDocument/codeAction", where)
        assert action["title"] == "Make the same change in line 7"
        assert action["edit"]["changes"][uri] == [
            {"range": {"start": at(6, column), "end": at(6, column + 2)}, "newText": "20"}
        ]
        only = {**where, "context": {"only": ["quickfix"]}}
        assert editor.ask("textDocument/codeAction", only) == []
        asked = {"command": "sordino.nextEdit", "arguments": [uri]}
        assert editor.ask("workspace/executeCommand", asked)["text"] == "20"
    finally:
        assert editor.end() == 0


def at(line: int, character: int) -> dict[str, int]:
    return {"line": line, "character": character}

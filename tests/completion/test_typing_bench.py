"""The typing benchmark counts every character once, accepts only what is right, and gives the same figures again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from sordino_client.laboratory.completion_benchmark.typing.contenders import word_completion
from sordino_client.laboratory.completion_benchmark.typing.errors import adds_error
from sordino_client.laboratory.completion_benchmark.typing.figures import figures, paired_gain
from sordino_client.laboratory.completion_benchmark.typing.passages import passages
from sordino_client.laboratory.completion_benchmark.typing.replay import (
    Passage,
    Typed,
    TypedSuggestion,
    acceptable,
    replay,
)
from sordino_client.training.stream import SourceDocument
from sordino_platform import cli

TEXTS = st.text(alphabet="ab_ .()\n", max_size=60)


def passage(text: str, before: str = "", after: str = "") -> Passage:
    return Passage(language="java", project="p", path="A.java", before=before, text=text, after=after)


def always(text: str) -> TypedSuggestion:
    return TypedSuggestion(text=text, milliseconds=1.0)


@given(TEXTS, st.lists(st.none() | TEXTS, max_size=80))
def test_every_character_is_typed_or_accepted_exactly_once(text: str, suggestions: list[str | None]) -> None:
    waiting = iter(suggestions)

    def suggest(prefix: str, suffix: str) -> TypedSuggestion | None:
        return None if (said := next(waiting, None)) is None else always(said)

    typed = replay(passage(text), suggest)
    assert typed.keys + typed.saved == typed.characters == len(text)
    assert typed.right <= typed.shown


@given(TEXTS, TEXTS)
def test_a_suggestion_is_asked_for_with_what_stands_on_both_sides(text: str, after: str) -> None:
    seen: list[tuple[str, str]] = []

    def suggest(prefix: str, suffix: str) -> None:
        seen.append((prefix, suffix))

    replay(passage(text, "before", after), suggest)
    assert seen == [("before" + text[:at], after) for at in range(len(text))]


def test_a_suggestion_that_is_right_costs_one_key() -> None:
    typed = replay(
        passage("return total;\n"), lambda prefix, _: always("return total;") if not prefix else None
    )
    assert (typed.right, typed.saved, typed.wrong_characters) == (1, len("return total;") - 1, 0)


@pytest.mark.parametrize("wrong", ["return totals;", "return tot", "returns", "retu"])
def test_half_a_word_or_a_wrong_end_is_not_accepted(wrong: str) -> None:
    assert not acceptable(wrong, "return total;\n")


def test_a_suggestion_stays_while_the_keys_follow_it_and_its_wrong_end_is_counted_once() -> None:
    asked: list[str] = []

    def suggest(prefix: str, suffix: str) -> TypedSuggestion | None:
        asked.append(prefix)
        return always("return x + 1") if prefix == "" else None

    typed = replay(passage("return y"), suggest)
    assert typed.shown == 1
    assert typed.wrong_characters == len("x + 1")
    assert asked == [""]


def test_word_completion_offers_the_nearest_identifier_and_never_the_word_itself() -> None:
    made = word_completion("int balance = 0;\nint bandwidth = 1;\nreturn ba", "\nballast")
    assert made is not None
    assert made.text == "ndwidth"
    assert word_completion("int ba", "\nballast").text == "llast"  # type: ignore[union-attr]
    assert word_completion("x = 1", "") is None
    assert word_completion("balance", "") is None


def documents() -> list[SourceDocument]:
    lines = [f"    int value{n} = {n};" for n in range(300)]
    return [
        SourceDocument(project=f"p{n % 2}", path=f"A{n}.java", language="java", text="\n".join(lines[n:]))
        for n in range(6)
    ]


def test_passages_are_lines_of_the_file_and_the_same_in_any_list() -> None:
    found = passages(documents(), files=4, characters=100)
    texts = {document.path: document.text for document in documents()}
    assert len(found) == 4
    for one in found:
        assert one.before + one.text + one.after == texts[one.path]
        assert one.before == "" or one.before.endswith("\n")
    assert {p.path: p.text for p in passages(documents()[:3], files=4, characters=100)}.items() <= {
        p.path: p.text for p in passages(documents(), files=6, characters=100)
    }.items()


def test_figures_are_shares_with_an_interval_over_files() -> None:
    rows = [
        Typed(characters=100, keys=80, shown=10, right=4, saved=20, wrong_characters=8, milliseconds=[10.0]),
        Typed(characters=100, keys=60, shown=10, right=8, saved=40, wrong_characters=6, milliseconds=[30.0]),
    ]
    found = figures(rows, interval=True)
    assert (found["saved_share"], found["right_share"], found["wrong_characters_per_100_keys"]) == (
        0.3,
        0.6,
        10.0,
    )
    assert found["saved_share_ci"] == [0.2, 0.4]
    assert paired_gain(rows, rows) == {"saved_share_gain": 0.0, "ci": [0.0, 0.0]}


def _corpora(folder: Path) -> None:
    for role, language in (("heldout", "java"), ("heldout-python", "python")):
        rows = [
            {"project": "p", "path": f"{language}{n}.{language[:2]}", "language": language, "text": d.text}
            for n, d in enumerate(documents())
        ]
        (folder / f"{role}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.slow
def test_files_beside_the_open_one_are_measured_against_the_open_file_alone(tmp_path: Path) -> None:
    _corpora(tmp_path)
    command = ["bench", "typing", "--files", "2", "--characters", "60", "--cache", str(tmp_path), "--json"]
    done = CliRunner().invoke(cli.app, [*command, "--context", "2"])
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found["by_context"]) == {"0", "2"}
    gained = found["by_context"]["2"]["saved_share"] - found["by_context"]["0"]["saved_share"]
    assert found["over_the_open_file"]["saved_share_gain"] == pytest.approx(gained, abs=0.02)


@pytest.mark.slow
def test_the_command_types_through_the_real_endpoint_and_gives_the_same_shares_again(tmp_path: Path) -> None:
    _corpora(tmp_path)
    command = ["bench", "typing", "--files", "2", "--characters", "60", "--cache", str(tmp_path), "--json"]
    first, second = (
        json.loads(CliRunner().invoke(cli.app, command).stdout.splitlines()[-1]) for _ in range(2)
    )
    assert set(first) >= {
        "saved_share", "saved_share_ci", "right_share", "wrong_characters_per_100_keys", "p50_ms", "p95_ms",
        "by_layer", "by_language", "peers",
    }  # fmt: skip
    timeless = [
        {k: v for k, v in one["by_layer"]["both"].items() if not k.endswith("ms")} for one in (first, second)
    ]
    assert timeless[0] == timeless[1]
    assert timeless[0]["saved_share"] > 0.3, "numbered declarations are easy to foretell"


@pytest.mark.parametrize(
    ("shown", "wrong"),
    [
        ("this.balance += amount", False),  # what is missing behind it can still be typed
        ("if (amount", False),
        ("log.info(", False),
        ("this.balance = amount) {", True),
        ("= amount;", True),
    ],
)
def test_an_error_is_what_nothing_behind_it_mends(shown: str, wrong: bool) -> None:
    before = "class Account {\n    void deposit(int amount) {\n        "
    coming, after = "total.add(amount);", "\n        log();\n    }\n}\n"
    assert adds_error("Account.java")(before, shown, coming, after) is wrong
    assert not adds_error("notes.txt")(before, shown, coming, after)

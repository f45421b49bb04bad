"""A figure that pages quote is the one that was measured, or the one that the code holds, wherever it stands."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

from sordino_client.corpus import registry
from sordino_client.ledger import chain
from sordino_client.settings import MemberSettings
from sordino_coordinator import round_tables
from sordino_platform.offer import Unready

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight"),
    *("nine", "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen"),
)
FIELD: dict[str, Any] = json.loads((DOCS / "field-benchmark.json").read_text())
README = (ROOT / "README.md").read_text()


def page(name: str) -> str:
    """A page on one line, so that a figure is found wherever it was wrapped."""
    return " ".join((DOCS / name).read_text().split())


def measured(name: str) -> tuple[float, float, float]:
    """Mean and interval of a worth in the field's report."""
    found = FIELD[name]
    if isinstance(found, dict):
        return found["mean"], *found["ci"]
    return found, *FIELD[f"{name}_ci"]


@pytest.mark.parametrize(
    "name",
    [
        "worth_newcomers_8_files",
        "worth_newcomers_8_files_adapters",
        "worth_newcomers_8_files_pulled",
        "worth_newcomers_all_files",
        "worth_newcomers_eps2",
        "worth_members",
        "worth_members_everything",
        "worth_members_adapters",
        "worth_members_eps2",
        "worth_members_pulled",
        "worth_members_beyond_averaging",
        "ceiling_newcomers_8_files",
    ],
)
def test_the_federation_benchmark_quotes_what_its_report_says(name: str) -> None:
    mean, low, high = measured(name)
    assert re.search(
        rf"{mean:+.4f} \[{low:+.4f}, {high:+.4f}\]".replace("+", r"\+"), page("federation-benchmark.md")
    ), f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]"


@pytest.mark.parametrize(
    "name",
    [
        "worth_newcomers_8_files",
        "worth_newcomers_8_files_adapters",
        "worth_newcomers_all_files",
        "worth_newcomers_eps2",
        "worth_members",
        "worth_members_everything",
        "worth_members_adapters",
        "worth_members_eps2",
    ],
)
def test_the_federation_benchmark_quotes_next_tokens_as_measured(name: str) -> None:
    found = FIELD[f"{name}_next_token"]
    mean, (low, high) = 100 * found["mean"], (100 * end for end in found["ci"])
    assert f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]" in page("federation-benchmark.md")


def test_the_federation_benchmark_quotes_bare_models_and_curves_as_measured() -> None:
    text = page("federation-benchmark.md")
    bare = {name: of["bits_per_byte"] for name, of in FIELD["tables"]["newcomers"]["nothing"].items()}
    base, federation = bare["base"], bare["federation_eps8"]
    assert (
        f"from {base:.4f} to {federation:.4f} bits per byte on the newcomers, {base - federation:.3f}" in text
    )
    curve = dict(FIELD["curves"]["federation_eps8"])
    assert (
        f"it begins at {curve[0]:.4f} and stands at {curve[20]:.4f}, {curve[25]:.4f} and {curve[30]:.4f}"
        in text
    )
    members = {name: of["bits_per_byte"] for name, of in FIELD["tables"]["members"]["nothing"].items()}
    assert f"({members['federation_eps8']:.3f} against {members['alone']:.3f} bits per byte" in text
    assert f"the public base has {members['base']:.3f})" in text
    assert FIELD["complete"]
    assert not FIELD["missing"]


def test_the_federation_benchmark_counts_what_members_take_as_measured() -> None:
    taken = [one["taking"] for one in FIELD["members_take"].values()]
    shares = [one["share"] for one in taken]
    assert not {0.0, 1.0} & set(shares)
    text = page("federation-benchmark.md")
    assert f"{shares.count(0.25)} a quarter of the way" in text
    assert (
        f"{shares.count(0.5)} a half, {shares.count(0.75)} three quarters, nobody nothing and nobody everything"
        in text
    )
    with_memory = WORDS[sum(one["shared_memory"] for one in taken)].capitalize()
    assert f"{with_memory} of eighteen take the shared memory" in text


def test_the_readme_quotes_what_the_report_of_the_field_says() -> None:
    tables = FIELD["tables"]
    for name, party, knowledge in (
        ("worth_newcomers_8_files", "newcomers", "few"),
        ("worth_members", "members", "all"),
    ):
        mean, low, high = measured(name)
        own = tables[party][knowledge]["base own"]["bits_per_byte"]
        assert f"{mean:.3f} bits per byte [{low:.3f}, {high:.3f}]" in README
        assert f"or {100 * mean / own:.0f} %" in README
    better, worse = FIELD["members_better_off"], FIELD["members_worse_off"]
    assert f"{len(better)} of {len(better) + len(worse)} were better off" in README
    (lost,) = (FIELD["worth_members_by_party"][name] for name in worse)
    assert f"one lost {-lost:.3f}" in README
    assert f"epsilon {FIELD['epsilon_federation']:.2f}" in README
    run = FIELD["runs"]["federation_eps8"]
    carried = (run["bytes"]["received"] + run["bytes"]["sent"]) / (run["rounds"] * FIELD["members"])
    assert f"{carried / 1e6:.1f} MB of traffic" in README
    ratio = FIELD["ceiling_newcomers_8_files"] / FIELD["worth_newcomers_8_files"]
    assert f"{WORDS[round(ratio)]} times as much by sharing text" in README


def test_the_readme_quotes_what_the_page_of_completions_says() -> None:
    saved, low, high = re.findall(r"(\d+\.\d) % \[(\d+\.\d), (\d+\.\d)\] of the characters", README)[0]
    assert f"| **{saved} %** | {low} to {high} |" in page("completion.md")
    (words,) = re.findall(r"an editor's word completion saves (\d+\.\d) %", README)
    assert f"| an editor's word completion | {words} % |" in page("completion.md")
    (large, small) = re.findall(
        r"\| serving process at rest, 22M \(2.3M\) \| (\d+ to \d+) MB \((\d+ to \d+)\) \|",
        page("completion.md"),
    )[0]
    least, most = int(small.split()[0]), int(large.split()[-1])
    assert f"{round(least, -1)} to {round(most, -1)} MB of memory" in README


def test_the_reasons_of_a_member_that_is_not_ready_are_counted_right() -> None:
    statement = page("privacy-statement.md")
    assert f"one of {WORDS[len(Unready)]} reasons" in statement
    assert f"{WORDS[len(Unready) - 1].capitalize()} follow from settings" in statement


def test_the_rules_by_which_a_member_refuses_are_counted_right() -> None:
    source = (ROOT / "privacy/sordino_privacy/secagg/refusals.py").read_text()
    numbers = {int(number) for number in re.findall(r'"""Refusal (\d+):', source)}
    assert numbers == set(range(1, len(numbers) + 1))
    assert f"members refuse by {WORDS[len(numbers)]} rules" in README


def test_the_bugs_that_tests_plant_are_counted_right() -> None:
    tree = ast.parse((ROOT / "tests/dpsgd/test_audit.py").read_text())
    (bugs,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CAUGHT_BY"
    )
    assert isinstance(bugs, ast.Dict)
    assert f"Tests plant {WORDS[len(bugs.keys)]} bugs" in page("privacy-statement.md")


def test_the_versions_of_what_lies_on_disk_are_those_of_the_code() -> None:
    upgrade = page("guides/upgrade.md")
    assert f"by schema {round_tables.SCHEMA_VERSION} " in upgrade
    assert f"by format {chain.VERSION} " in upgrade
    assert f"its register of units by version {registry._VERSION}," in upgrade


def test_a_members_caps_are_those_of_its_settings() -> None:
    fields = MemberSettings.model_fields
    day, rounds = fields["epsilon_per_day"].default, fields["rounds_per_day"].default
    assert f"epsilon {day:.0f} and {rounds} begun rounds in any 24 hours" in page("privacy-statement.md")
    assert (
        f"No more than `epsilon_per_day` ({day:.0f}) is spent and no more than `rounds_per_day` ({rounds}) rounds begin"
    ) in page("guides/member.md")

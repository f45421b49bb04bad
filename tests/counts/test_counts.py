"""The laws of the shared counts: what one unit and one member can change, and what is read back."""

import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sordino_privacy.counts import CountPlan, Phrases, SharedMemory, rows
from sordino_privacy.counts.cells import Cells, Keys, turns
from sordino_privacy.counts.counting import chosen, counted, marked, noised
from sordino_privacy.errors import ConfigurationError, StorageError
from sordino_privacy.keystream import Keystream

VOCABULARY, END = 64, 0
PLAN = CountPlan(
    bits=12,
    phrases=8,
    shortest=3,
    longest=5,
    noise_multiplier=0.75,
    largest_count=4,
    witnesses=3,
    delta=1e-6,
    salt=3,
)

PLAN_FIELDS: dict[str, Any] = {
    name: value for name, value in json.loads(PLAN.canonical()).items() if name != "kind"
}
# As a plan was written before there was a choice.
BEFORE_THE_CHOICE = (
    b'{"bits":12,"delta":1e-06,"deviations":4.0,"expected_units":1000,"kind":"count","largest_count":42,"longest":6,'
    b'"noise_multiplier":1.0,"phrases":400,"salt":3154211455312715196,"shortest":3,"surprise":1.5,"window":128,'
    b'"windows_per_unit":4,"witnesses":3}'
)
Text = list[int]
Unit = list[Text]
Units = list[Unit]
texts = st.lists(st.integers(0, VOCABULARY - 1), min_size=0, max_size=60)
units_of_texts = st.lists(st.lists(texts, min_size=1, max_size=3), min_size=0, max_size=6)


def phrases(tokens: list[int], plan: CountPlan = PLAN, *, nats: float = 2.0) -> Phrases:
    """The phrases of a text in which every token surprised the base alike."""
    array = np.array(tokens, np.uint16)
    return Phrases.of(array, np.full(len(tokens), nats), plan, vocabulary=VOCABULARY, end=END)


def cells_of(unit: Unit, plan: CountPlan = PLAN) -> Cells:
    return marked(chosen([phrases(text, plan) for text in unit], plan), plan)


def memory(total: npt.NDArray[Any], plan: CountPlan = PLAN, *, survivors: int = 1) -> SharedMemory:
    """The memory of a sum that is told in whole counts."""
    return SharedMemory.of_sum(np.asarray(total), plan, survivors=survivors, step=1.0)


@given(units_of_texts, st.lists(texts, min_size=1, max_size=3))
def test_one_unit_changes_a_members_counts_by_no_more_than_the_sensitivity(
    units: Units, another: Unit
) -> None:
    before = counted([cells_of(unit) for unit in units], PLAN)
    after = counted([cells_of(unit) for unit in [*units, another]], PLAN)
    assert np.linalg.norm(after - before) <= PLAN.sensitivity() + 1e-9
    assert np.abs(after - before).max(initial=0) <= 1 + 1e-9


@given(st.lists(st.lists(st.integers(0, PLAN.cells - 1), max_size=16, unique=True), min_size=1, max_size=40))
def test_however_many_units_the_counts_stay_within_their_ranges_and_their_length(
    units: list[list[int]],
) -> None:
    plan = CountPlan(**{**PLAN_FIELDS, "expected_units": 1})
    total = counted([np.array(unit, np.int64) for unit in units], plan)
    assert total.max() <= plan.largest_count
    assert np.linalg.norm(total) <= plan.longest_counts() * (1 + 1e-12)
    fewer = counted([np.array(unit, np.int64) for unit in units[1:]], plan)
    assert np.linalg.norm(total - fewer) <= plan.sensitivity() + 1e-9


@given(texts)
def test_a_unit_gives_no_more_phrases_than_it_may_and_each_once(text: Text) -> None:
    picked = chosen([phrases(text), phrases(text)], PLAN)
    assert len(picked) <= PLAN.phrases
    assert len(set(picked.tolist())) == len(picked)
    assert len(cells_of([text, text])) <= 2 * PLAN.phrases


@given(texts, texts)
def test_units_that_share_all_their_phrases_choose_the_same_ones_in_whatever_order_they_stand(
    one: Text, other: Text
) -> None:
    assert set(chosen([phrases(one), phrases(other)], PLAN).tolist()) == set(
        chosen([phrases(other), phrases(one), phrases(one)], PLAN).tolist()
    )


@given(texts)
def test_a_text_of_any_length_has_its_phrases_and_one_that_is_too_short_has_none(text: Text) -> None:
    plan = CountPlan(**{**PLAN_FIELDS, "longest": 12})
    expected = sum(
        END not in text[place - length + 1 : place + 1]
        for length in range(plan.shortest, 13)
        for place in range(length - 1, len(text))
    )
    assert len(phrases(text, plan).keys) == expected


@given(texts)
def test_no_phrase_crosses_the_end_of_a_document(text: Text) -> None:
    found = phrases(text)
    for place, length in zip(found.places, found.lengths, strict=True):
        assert END not in text[place - length + 1 : place + 1]
        assert place - length + 1 >= 0


def test_a_phrase_is_counted_only_where_its_last_token_surprised_the_base() -> None:
    assert len(phrases([5, 6, 7, 8], nats=1.49).keys) == 0
    nats = np.array([0.0, 0.0, 1.5, 0.0])
    found = Phrases.of(np.array([5, 6, 7, 8], np.uint16), nats, PLAN, vocabulary=VOCABULARY, end=END)
    assert found.places.tolist() == [2]
    assert found.lengths.tolist() == [3]
    assert found.nats.tolist() == [1.5]


def surprising(tokens: Text, nats: list[float], plan: CountPlan = PLAN) -> Phrases:
    """The phrases of a text whose tokens cost the base so many nats."""
    return Phrases.of(np.array(tokens, np.uint16), np.array(nats), plan, vocabulary=VOCABULARY, end=END)


@given(st.lists(st.tuples(st.integers(1, VOCABULARY - 1), st.floats(1.5, 12)), min_size=1, max_size=60))
def test_a_unit_gives_the_phrases_that_surprise_most(text: list[tuple[int, float]]) -> None:
    found = surprising([token for token, _ in text], [nats for _, nats in text])
    most: dict[int, float] = {}
    for key, nats in zip(found.keys.tolist(), found.nats.tolist(), strict=True):
        most[key] = max(nats, most.get(key, 0.0))
    given = chosen([found], PLAN).tolist()
    assert len(given) == min(len(most), PLAN.phrases)
    left = [nats for key, nats in most.items() if key not in given]
    assert min((most[key] for key in given), default=math.inf) >= max(left, default=0.0)


def test_a_phrase_is_as_surprising_as_it_is_where_it_surprises_most_in_whatever_order_places_stand() -> None:
    plan = CountPlan(**{**PLAN_FIELDS, "phrases": 1})
    often = [surprising([5, 6, 7], [0.0, 0.0, 2.0]), surprising([5, 6, 7], [0.0, 0.0, 9.0])]
    once = surprising([8, 9, 10], [0.0, 0.0, 5.0])
    for places in ([*often, once], [once, *reversed(often)]):
        assert chosen(places, plan).tolist() == often[0].keys.tolist()


@given(texts)
def test_by_turn_units_choose_as_they_always_did_whatever_surprised_them(text: Text) -> None:
    plan = CountPlan(**{**PLAN_FIELDS, "choice": "turn"})
    one = surprising(text, [2.0] * len(text), plan)
    other = surprising(text, [2.0 + place % 7 for place in range(len(text))], plan)
    first, second = (sorted(chosen([found], plan).tolist()) for found in (one, other))
    assert first == second
    different = np.unique(one.keys)
    if len(different) > plan.phrases:
        assert first == sorted(different[np.argsort(turns(different))[: plan.phrases]].tolist())


@given(st.lists(st.integers(1, VOCABULARY - 1), min_size=3, max_size=12))
def test_what_many_units_hold_is_foretold_at_every_length(text: Text) -> None:
    plan = CountPlan(**{**PLAN_FIELDS, "phrases": 64})
    total = counted([cells_of([text], plan)] * 5, CountPlan(**{**PLAN_FIELDS, "largest_count": 5}))
    held = SharedMemory.of_sum(total * 1000, plan, survivors=1, step=1.0)
    for place in range(2, len(text)):
        foretold = {one.length: one for one in held.follows(text[:place], vocabulary=VOCABULARY)}
        for length in range(plan.shortest, min(plan.longest, place + 1) + 1):
            assert text[place] in foretold[length].tokens


def test_a_phrase_whose_one_cell_another_filled_is_not_believed() -> None:
    text = [5, 6, 7]
    first, second = rows(phrases(text).keys, PLAN)
    total = np.zeros(PLAN.cells)
    total[first] = 1000
    assert memory(total).follows([5, 6], vocabulary=VOCABULARY) == []
    total[second] = 400
    (found,) = memory(total).follows([5, 6], vocabulary=VOCABULARY)
    assert found.tokens.tolist() == [7]
    assert found.counts.tolist() == [400.0], "the smaller of the two: the rest is another phrase's"


@given(st.integers(1, 1000), st.integers(2, 50), st.integers(1, 100))
def test_what_one_member_counts_alone_stays_below_the_threshold_by_its_witnesses(
    survivors: int, witnesses: int, most: int
) -> None:
    plan = CountPlan(**{**PLAN_FIELDS, "witnesses": witnesses, "largest_count": most})
    assert plan.largest_count * plan.witnesses <= plan.threshold(survivors=survivors)
    assert plan.threshold(survivors=survivors) >= plan.deviations * plan.deviation() * math.sqrt(survivors)


def test_a_phrase_of_one_member_only_does_not_appear_and_one_of_many_does() -> None:
    """Five members, each with noise of its own, one hundred phrases that one member holds in every one of its units and
    one hundred that every member holds in some."""
    plan = CountPlan(
        bits=14, phrases=100, longest=3, noise_multiplier=0.75, largest_count=31, delta=1e-6, salt=5
    )
    rng = np.random.default_rng(1)
    alone, common = (rng.integers(0, 2**63, 100).astype(np.uint64) for _ in range(2))
    total = np.zeros(plan.cells)
    for member in range(5):
        units = [marked(common, plan)] * 31 + ([marked(alone, plan)] * 500 if member == 0 else [])
        total += noised(counted(units, plan), plan, Keystream(bytes([member] * 32)))
    held = memory(total, plan, survivors=5)
    believed = set(held.cells.tolist())

    def seen(wanted: Keys) -> int:
        return sum(a in believed and b in believed for a, b in zip(*rows(wanted, plan), strict=True))

    assert seen(alone) == 0
    assert seen(common) >= 95
    assert len(held.cells) < 1.2 * 200 + 10, "what is not common is not in the file at all"


@settings(max_examples=30)
@given(st.dictionaries(st.integers(0, PLAN.cells - 1), st.integers(0, 10_000), max_size=50))
def test_a_memory_is_its_bytes(values: dict[int, int]) -> None:
    total = np.zeros(PLAN.cells)
    total[list(values)] = list(values.values())
    held = memory(total, survivors=3)
    again = SharedMemory.decode(held.encode())
    assert again.encode() == held.encode()
    assert again.digest() == held.digest()
    assert again.plan == PLAN
    assert again.survivors == 3


@settings(max_examples=200)
@given(st.data())
def test_bytes_that_no_memory_has_are_refused(data: st.DataObject) -> None:
    total = np.zeros(PLAN.cells)
    total[[1, 70, 3000]] = 1000
    good = memory(total).encode()
    bad = bytearray(good)
    at = data.draw(st.integers(0, len(bad) - 1))
    bad[at] ^= data.draw(st.integers(1, 255))
    try:
        found = SharedMemory.decode(bytes(bad))
    except StorageError:
        return
    assert found.encode() == bytes(bad) != good, "only another memory's bytes pass"
    for cut in (good[:-1], good + b"\0", b"", good[:30]):
        with pytest.raises(StorageError):
            SharedMemory.decode(cut)


@pytest.mark.parametrize(
    "wrong",
    [
        {"phrases": 0},
        {"bits": 23},
        {"shortest": 6},
        {"noise_multiplier": 0.01},
        {"noise_multiplier": float("nan")},
        {"delta": 0.5},
        {"witnesses": 1},
        {"salt": -1},
        {"salt": 1.5},
        {"phrases": True},
        {"choice": "mine"},
        {"choice": ["turn"]},
    ],
)
def test_an_impossible_plan_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        CountPlan(**{**PLAN_FIELDS, **wrong})


def test_a_plan_is_its_canonical_bytes_and_another_kind_is_none() -> None:
    raw = json.loads(PLAN.canonical())
    assert CountPlan.parse(raw) == PLAN
    assert CountPlan.parse(raw).digest() == PLAN.digest()
    for other in (
        {**raw, "kind": "train"},
        {**raw, "more": 1},
        {k: v for k, v in raw.items() if k != "salt"},
    ):
        with pytest.raises(ConfigurationError):
            CountPlan.parse(other)


def test_a_plan_and_a_memory_from_before_there_was_a_choice_keep_their_bytes_and_choose_by_turn() -> None:
    plan = CountPlan.parse(json.loads(BEFORE_THE_CHOICE))
    assert plan.choice == "turn"
    assert plan.canonical() == BEFORE_THE_CHOICE
    held = memory(np.full(plan.cells, 1e4), plan)
    assert b"choice" not in held.encode()
    assert SharedMemory.decode(held.encode()).plan == plan
    assert PLAN.canonical() != CountPlan(**{**PLAN_FIELDS, "choice": "turn"}).canonical()


def test_the_noise_has_the_deviation_that_the_plan_says() -> None:
    plan = CountPlan(bits=18, phrases=8, noise_multiplier=0.75, largest_count=30, delta=1e-6, salt=3)
    noise = noised(np.zeros(plan.cells), plan, Keystream(bytes(32)))
    assert abs(float(noise.std()) / plan.deviation() - 1) < 0.01

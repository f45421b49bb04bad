"""The shared memory in the engine: a third memory, above the model and below the developer's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from sordino_client.completion import bundle
from sordino_client.completion.memory import shared
from sordino_client.completion.memory.recall import LocalRecall
from sordino_client.completion.prompt import Prompt
from sordino_platform import base
from sordino_platform.architecture import merged, without_adapters
from sordino_platform.release import write_serving_bundle
from sordino_privacy.counts import CountPlan, Phrases, SharedMemory
from sordino_privacy.counts.counting import counted, marked
from sordino_privacy.errors import StorageError

VOCABULARY = 4096
PLAN = CountPlan(bits=16, phrases=200, noise_multiplier=1.0, largest_count=30, delta=1e-6, salt=4)
TEXT = [700, 701, 702, 703, 704, 705, 706]


def memory_of(text: list[int]) -> SharedMemory:
    """A memory in which every phrase of the text was counted far beyond the threshold."""
    nats = np.full(len(text), 3.0)
    phrases = Phrases.of(np.array(text, np.uint16), nats, PLAN, vocabulary=VOCABULARY, end=0)
    total = counted([marked(phrases.keys, PLAN)], PLAN) * 1e4
    return SharedMemory.of_sum(total, PLAN, survivors=5, step=1.0)


def recall(before: list[int], memory: SharedMemory | None) -> LocalRecall:
    return LocalRecall(
        [], Prompt(tokens=[], typed=b"", healed=0, opening=(), before=before, after=[]), memory
    )


def flat() -> npt.NDArray[np.float64]:
    return np.full(VOCABULARY, 1 / VOCABULARY)


def test_a_phrase_of_the_shared_memory_is_foretold_in_a_file_that_never_held_it() -> None:
    held = memory_of(TEXT)
    with_memory = recall(TEXT[:5], held).mix(flat(), [])
    without = recall(TEXT[:5], None).mix(flat(), [])
    assert with_memory[705] > 20 * without[705]
    assert with_memory.sum() == pytest.approx(1)
    assert recall(TEXT[:3], held).mix(flat(), TEXT[3:5])[705] == pytest.approx(with_memory[705])


def test_where_the_shared_memory_says_nothing_nothing_changes() -> None:
    held = memory_of(TEXT)
    np.testing.assert_array_equal(
        recall([9, 8, 7, 6], held).mix(flat(), []), recall([9, 8, 7, 6], None).mix(flat(), [])
    )
    odds = flat()
    assert shared.blend(odds, [], shared.fitted("surprise")) is odds


def test_a_memory_from_before_there_was_a_choice_is_read_with_the_weights_that_it_had() -> None:
    held = memory_of(TEXT)
    total = np.zeros(PLAN.cells)
    total[held.cells] = held.counts
    before = SharedMemory.of_sum(total, replace(PLAN, choice="turn"), survivors=5, step=1.0)
    found = shared.evidence(before, TEXT[:5], vocabulary=VOCABULARY)
    assert found
    np.testing.assert_allclose(
        recall(TEXT[:5], before).mix(flat(), []), shared.blend(flat(), found, shared.fitted("turn"))
    )
    assert not np.array_equal(
        recall(TEXT[:5], before).mix(flat(), []), recall(TEXT[:5], held).mix(flat(), [])
    )


def test_the_developers_own_file_has_the_last_word() -> None:
    held = memory_of(TEXT)
    own = [*TEXT[:5], 99] * 6 + TEXT[:5]
    mixed = recall(own, held).mix(flat(), [])
    assert mixed[99] > mixed[705]


def test_a_release_brings_its_memory_to_the_engine_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    config, _, parameters = base.load()
    tokenizer = Path(str(base.__path__[0])) / "tokenizer.json"
    held = memory_of(TEXT)
    place = write_serving_bundle(
        tmp_path, without_adapters(config), merged(parameters), tokenizer, release=3, memory=held
    )
    found = bundle.load(place)
    assert found.memory is not None
    assert found.memory.digest() == held.digest()
    file = place / "shared-memory.bin"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(StorageError):
        bundle.load(place)
    plain = write_serving_bundle(tmp_path, without_adapters(config), merged(parameters), tokenizer, release=4)
    assert bundle.load(plain).memory is None

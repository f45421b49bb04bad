"""Near-duplicates, with datasketch and exact Jaccard indices as the judges."""

from __future__ import annotations

import numpy as np
import pytest
from datasketch import MinHash
from hypothesis import given
from hypothesis import strategies as st

from sordino_client.corpus.similarity import (
    PERMUTATIONS,
    clusters,
    near_duplicates,
    shingles,
    sketch,
)


def program(seed: int, tokens: int = 400) -> list[str]:
    return [f"w{value}" for value in np.random.default_rng(seed).integers(0, 500, tokens)]


def edited(words: list[str], share: float, seed: int) -> list[str]:
    """The same words with one contiguous part replaced."""
    length = int(share * len(words))
    return words[:-length] + program(seed + 10_000, length) if length else words


def jaccard(first: str, second: str) -> float:
    a, b = set(shingles(first).tolist()), set(shingles(second).tolist())
    return len(a & b) / len(a | b)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.9])
def test_a_sketch_estimates_the_jaccard_index_as_well_as_datasketch(share: float) -> None:
    errors = []
    for seed in range(12):
        words = program(seed)
        texts = [" ".join(words), " ".join(edited(words, share, seed))]
        exact = jaccard(*texts)
        rows = sketch(texts)
        ours = float((rows[0] == rows[1]).mean())
        reference = []
        for text in texts:
            minhash = MinHash(num_perm=PERMUTATIONS, seed=seed + 1)
            for run in shingles(text).tolist():
                minhash.update(run.to_bytes(8, "little"))
            reference.append(minhash)
        errors.append((ours - exact, reference[0].jaccard(reference[1]) - exact))
    ours_rms, reference_rms = np.sqrt(np.mean(np.square(errors), axis=0))
    assert ours_rms <= 0.06  # the theory says at most 0.045 for one
    assert abs(np.mean([ours for ours, _ in errors])) <= 0.03  # unbiased
    assert ours_rms <= reference_rms + 0.03


def test_pairs_well_above_the_threshold_are_found_and_pairs_well_below_are_not() -> None:
    texts: list[str] = []
    close: set[tuple[int, int]] = set()
    far: set[tuple[int, int]] = set()
    for seed in range(40):
        words = program(seed)
        texts += [" ".join(words), " ".join(edited(words, 0.05 if seed % 2 else 0.5, seed))]
        (close if seed % 2 else far).add((2 * seed, 2 * seed + 1))
    assert all(jaccard(texts[a], texts[b]) > 0.85 for a, b in close)
    assert all(jaccard(texts[a], texts[b]) < 0.5 for a, b in far)
    assert {(min(pair), max(pair)) for pair in near_duplicates(sketch(texts))} == close


def test_a_large_group_of_copies_is_one_cluster() -> None:
    words = program(1)
    texts = [" ".join(edited(words, 0.01, seed)) for seed in range(300)] + [" ".join(program(2))]
    found = clusters(len(texts), near_duplicates(sketch(texts)))
    assert [len(cluster) for cluster in found] == [300, 1]


def test_white_space_makes_no_difference_and_order_of_words_does() -> None:
    assert jaccard("int a = b ( c ) ;", "int a=b(c);") == 1
    assert jaccard("a b c d e f g h", "h g f e d c b a") == 0


@pytest.mark.parametrize("text", ["", "   \n", "a", "a b c d"])
def test_texts_shorter_than_a_shingle_have_a_sketch(text: str) -> None:
    assert sketch([text]).shape == (1, PERMUTATIONS)
    assert len(shingles(text)) == (1 if text.split() else 0)


def test_a_sketch_does_not_depend_on_what_is_sketched_beside_it() -> None:
    texts = [" ".join(program(seed, 50 * seed + 1)) for seed in range(8)]
    together = sketch(texts)
    assert all((sketch([text])[0] == row).all() for text, row in zip(texts, together, strict=True))


@given(
    st.integers(1, 30).flatmap(
        lambda n: st.tuples(st.just(n), st.lists(st.tuples(*[st.integers(0, n - 1)] * 2)))
    )
)
def test_clusters_are_a_partition_that_keeps_pairs_together(graph: tuple[int, list[tuple[int, int]]]) -> None:
    nodes, pairs = graph
    found = clusters(nodes, pairs)
    assert sorted(node for cluster in found for node in cluster) == list(range(nodes))
    where = {node: i for i, cluster in enumerate(found) for node in cluster}
    assert all(where[a] == where[b] for a, b in pairs)
    assert len(found) >= nodes - len(pairs)

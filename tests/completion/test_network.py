"""The serving networks compute what the trained network computes, whatever the order in which they read."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sordino_client.completion import bundle, graph, quantise
from sordino_client.completion.cache import KeyValueCache, Network, Precision, causal, decoder_shape_of
from sordino_client.completion.loading import load_generator
from sordino_client.completion.reference import ReferenceNetwork
from sordino_client.completion.runtime import RuntimeNetwork, own_network
from sordino_client.completion.selftest import MAX_DIVERGENCE, divergence, self_test
from sordino_platform.architecture import ModelConfig
from sordino_platform.model import Decoder
from sordino_platform.release import write_serving_bundle
from sordino_platform.tokenizer import Tokenizer
from sordino_privacy.errors import ConfigurationError, StorageError

CONFIG = ModelConfig(vocabulary=300, context=64, layers=2, heads=3, width=48, hidden=80)
SHAPE = decoder_shape_of(CONFIG)
Numbers = npt.NDArray[np.float32]


def trained(config: ModelConfig, seed: int = 0) -> Decoder:
    """A decoder whose every parameter, norms and bias included, differs from its starting value."""
    torch.manual_seed(seed)
    model = Decoder(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


MODEL = trained(CONFIG)
WEIGHTS: dict[str, Numbers] = {name: p.detach().numpy() for name, p in MODEL.named_parameters()}
NETWORKS: list[Network] = [ReferenceNetwork(CONFIG, WEIGHTS), own_network(CONFIG, WEIGHTS)]
both = pytest.mark.parametrize("network", NETWORKS, ids=["numpy", "onnxruntime"])


def oracle(tokens: npt.NDArray[np.int64]) -> Numbers:
    with torch.no_grad():
        result: Numbers = MODEL(torch.from_numpy(tokens)[None])[0].numpy()
    return result


@both
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(1, 63), max_size=5, unique=True))
def test_logits_equal_torch_however_the_text_is_cut_into_reads(
    network: Network, seed: int, cuts: list[int]
) -> None:
    tokens = np.random.default_rng(seed).integers(0, CONFIG.vocabulary, 64)
    cache = KeyValueCache(SHAPE, 64)
    edges = [0, *sorted(cuts), 64]
    parts = [
        network.read(cache, tokens[a:b], np.arange(a, b), causal(a, b - a), np.arange(b - a))
        for a, b in itertools.pairwise(edges)
    ]
    np.testing.assert_allclose(np.concatenate(parts), oracle(tokens), atol=2e-5, rtol=0)


@both
def test_branches_that_share_a_prompt_read_as_if_each_were_alone(network: Network) -> None:
    prompt, first, second = np.arange(10), np.array([20, 21]), np.array([30, 31])
    cache = KeyValueCache(SHAPE, 64)
    network.read(cache, prompt, np.arange(10), causal(0, 10), np.array([9]))
    seen = np.ones((2, 12), np.bool_)
    seen[0, 11] = seen[1, 10] = False
    network.read(cache, np.array([20, 30]), np.array([10, 10]), seen, np.array([0]))
    seen = np.ones((2, 14), np.bool_)
    seen[0, [11, 13]] = seen[1, [10, 12]] = False
    both_last = network.read(cache, np.array([21, 31]), np.array([11, 11]), seen, np.arange(2))
    for row, branch in enumerate((first, second)):
        np.testing.assert_allclose(
            both_last[row], oracle(np.concatenate((prompt, branch)))[-1], atol=2e-5, rtol=0
        )


@pytest.mark.parametrize("length", range(2, 10))
def test_integers_read_a_token_within_a_block_as_they_read_it_alone(length: int) -> None:
    """What drafts stand on: a block of them gives the logits, and leaves the cache, of the same tokens one by one."""
    network, tokens = own_network(CONFIG, WEIGHTS, "int8"), np.arange(50) * 7 % CONFIG.vocabulary
    blocks, singly = KeyValueCache(SHAPE, 64), KeyValueCache(SHAPE, 64)
    for cache in (blocks, singly):
        network.read(cache, tokens[:20], np.arange(20), causal(0, 20), np.array([19]))
    for start in range(20, 41, length):
        at = np.arange(start, start + length)
        found = network.read(blocks, tokens[at], at, causal(start, length), np.arange(length))
        for row, one in zip(found, at[:, None], strict=True):
            (alone,) = network.read(singly, tokens[one], one, causal(int(one[0]), 1), np.array([0]))
            np.testing.assert_allclose(row, alone, atol=1e-5, rtol=0)


@both
def test_a_truncated_cache_continues_as_if_the_rest_was_never_read(network: Network) -> None:
    tokens = np.arange(40) * 7 % CONFIG.vocabulary
    cache = KeyValueCache(SHAPE, 64)
    network.read(cache, np.full(30, 5), np.arange(30), causal(0, 30), np.array([29]))
    cache.truncate(0)
    network.read(cache, tokens[:20], np.arange(20), causal(0, 20), np.array([19]))
    network.read(cache, np.full(9, 5), np.arange(20, 29), causal(20, 9), np.array([0]))
    cache.truncate(20)
    rest = network.read(cache, tokens[20:], np.arange(20, 40), causal(20, 20), np.arange(20))
    np.testing.assert_allclose(rest, oracle(tokens)[20:], atol=2e-5, rtol=0)


class Differing:
    """A network that is a little, or not finitely, wrong."""

    def __init__(self, error: float) -> None:
        self.shape, self.precision, self.error = SHAPE, NETWORKS[0].precision, error

    def read(self, *arguments: Any) -> Numbers:
        return NETWORKS[0].read(*arguments) + np.float32(self.error)


SAMPLE = np.arange(60) * 7919 % CONFIG.vocabulary


def test_a_network_that_reads_otherwise_fails_the_self_test() -> None:
    self_test(NETWORKS[1], NETWORKS[0], SAMPLE)
    for error in (0.5, -0.5, float("nan"), float("inf")):
        with pytest.raises(StorageError, match="self-test"):
            self_test(Differing(error), NETWORKS[0], SAMPLE)
        with pytest.raises(StorageError, match="self-test"):
            self_test(NETWORKS[1], Differing(error), SAMPLE)


class TestIntegers:
    @settings(max_examples=50, deadline=None)
    @given(seed=st.integers(0, 2**32), rows=st.integers(1, 5), columns=st.integers(1, 100))
    def test_no_value_moves_by_more_than_half_a_step(self, seed: int, rows: int, columns: int) -> None:
        matrix = np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)
        matrix[0] = 0
        for levels in quantise.LEVELS.values():
            integers, scales = quantise.by_rows(matrix, levels)
            assert np.abs(integers).max() <= levels
            moved = np.abs(integers.T * scales[:, None] - matrix)
            assert (moved <= scales[:, None] * 0.5001).all()

    @pytest.mark.parametrize("precision", ["int8", "int7"])
    def test_the_predictions_stay_within_the_limit(self, precision: Precision) -> None:
        network = own_network(CONFIG, WEIGHTS, precision)
        found = divergence(network, NETWORKS[0], SAMPLE)
        assert 0 < found <= MAX_DIVERGENCE

    def test_an_exact_network_diverges_by_nothing_and_a_broken_one_without_bound(self) -> None:
        assert divergence(NETWORKS[1], NETWORKS[0], SAMPLE) < 1e-9
        assert divergence(Differing(float("nan")), NETWORKS[0], SAMPLE) == float("inf")

    @pytest.mark.parametrize(("outlier", "expected"), [(0.0, "int8"), (3000.0, "float32")])
    def test_a_model_that_does_not_bear_them_is_served_exactly(
        self, tmp_path: Path, outlier: float, expected: str
    ) -> None:
        """One huge weight in every row leaves no levels for the others, though its input is always zero."""
        weights = {name: value.copy() for name, value in WEIGHTS.items()}
        for name, value in weights.items():
            if name.endswith(("query_key_value.weight", "expand.weight")):
                value[:, 0] += outlier
            if name.endswith(("norm_attention.weight", "norm_network.weight")):
                value[0] = 0
        tokenizer = tmp_path / "tokenizer.json"
        tokenizer.write_text(Tokenizer.train(["def add(a, b):\n    return a\n"], vocabulary=300).to_json())
        config = replace(CONFIG, vocabulary=Tokenizer.load(tokenizer).size)
        weights["embed.weight"] = weights["embed.weight"][: config.vocabulary]
        weights["embed.bias"] = weights["embed.bias"][: config.vocabulary]
        write_serving_bundle(tmp_path / "serving", config, weights, tokenizer, release=1)
        current = bundle.current(tmp_path / "serving")
        assert current is not None
        network = load_generator(bundle.load(current)).network
        assert isinstance(network, RuntimeNetwork)
        assert network.precision == expected


def test_the_graph_is_the_same_bytes_in_another_process() -> None:
    program = """
import hashlib, numpy
from sordino_client.completion import graph
from sordino_platform.architecture import SIZES, shapes
config = SIZES["2.3m"]
zeros = {name: numpy.zeros(shape, numpy.float32) for name, shape in shapes(config).items()}
print(hashlib.sha256(graph.build(config, "int8", graph.initializers(config, zeros, "int8"))).hexdigest())
"""
    runs = {
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1
    constants = graph.initializers(CONFIG, WEIGHTS, "float32")
    assert len(graph.build(CONFIG, "float32", constants)) < 100_000


class TestBundle:
    def write(self, folder: Path, weights: Mapping[str, npt.NDArray[Any]] = WEIGHTS) -> Path:
        tokenizer = folder / "some-tokenizer.json"
        tokenizer.write_text("{}")
        return write_serving_bundle(folder / "serving", CONFIG, weights, tokenizer, release=7)

    def test_what_is_written_is_read_back(self, tmp_path: Path) -> None:
        written = self.write(tmp_path)
        folder = bundle.current(tmp_path / "serving")
        assert folder == written
        loaded = bundle.load(folder)
        assert (loaded.release, loaded.config, loaded.name) == (7, CONFIG, "sordino-7")
        for name, value in WEIGHTS.items():
            np.testing.assert_array_equal(loaded.weights[name], value)
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}

    def test_half_precision_is_widened(self, tmp_path: Path) -> None:
        folder = self.write(tmp_path, weights={n: w.astype(np.float16) for n, w in WEIGHTS.items()})
        loaded = bundle.load(folder)
        assert {w.dtype for w in loaded.weights.values()} == {np.dtype(np.float32)}

    def test_weights_survive_giving_their_pages_back(self, tmp_path: Path) -> None:
        loaded = bundle.load(self.write(tmp_path))
        loaded.give_back()
        np.testing.assert_array_equal(loaded.weights["embed.weight"], WEIGHTS["embed.weight"])

    def test_a_folder_without_a_release_has_no_current(self, tmp_path: Path) -> None:
        assert bundle.current(tmp_path) is None
        assert bundle.current(tmp_path / "absent") is None

    def test_a_symbolic_link_points_too(self, tmp_path: Path) -> None:
        written = self.write(tmp_path)
        (tmp_path / "serving" / "CURRENT").unlink()
        (tmp_path / "serving" / "current").symlink_to(written.name)
        assert bundle.current(tmp_path / "serving") == written

    @pytest.mark.parametrize("name", ["../elsewhere", "..", "", "a/b", "/etc"])
    def test_a_pointer_out_of_the_folder_is_refused(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "CURRENT").write_text(name)
        with pytest.raises(StorageError, match="sub-folder"):
            bundle.current(tmp_path)

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (lambda f: (f / "model.safetensors").write_bytes(b"\0" * 100), "digest"),
            (lambda f: (f / "model.safetensors").write_bytes(b"\0" * 10_000_000), "larger"),
            (lambda f: (f / "model.safetensors").unlink(), "cannot be read"),
            (lambda f: (f / "config.json").write_text("[]"), "not an object"),
            (lambda f: (f / "config.json").write_text('{"x": 1}'), "unknown"),
            (lambda f: (f / "config.json").write_text('{"layers": "many"}'), "impossible"),
            (lambda f: (f / "manifest.json").write_text('{"release": 1}'), "manifest"),
            (lambda f: (f / "manifest.json").write_text('{"release": true, "sha256": ""}'), "malformed"),
            (lambda f: (f / "manifest.json").write_text("{"), "not JSON"),
        ],
    )
    def test_damage_is_named(self, tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
        folder = self.write(tmp_path)
        damage(folder)
        with pytest.raises((StorageError, ConfigurationError), match=message):
            bundle.load(folder)

    @pytest.mark.parametrize(
        "weights",
        [
            {**WEIGHTS, "extra": np.zeros(1, np.float32)},
            {n: w for n, w in WEIGHTS.items() if n != "embed.bias"},
            {**WEIGHTS, "embed.bias": np.zeros(299, np.float32)},
            {**WEIGHTS, "embed.bias": np.zeros(300, np.float64)},
            {**WEIGHTS, "embed.bias": np.full(300, np.nan, np.float32)},
        ],
        ids=["extra", "missing", "shape", "type", "nan"],
    )
    def test_weights_of_another_layout_are_refused(self, tmp_path: Path, weights: dict[str, Numbers]) -> None:
        folder = self.write(tmp_path, weights=weights)
        with pytest.raises(StorageError):
            bundle.load(folder)

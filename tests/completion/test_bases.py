"""Bases that others made: the served decoder computes what transformers computes, in every known architecture."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tests.completion import foreign_bases
from tests.completion.foreign_bases import CONFIGS, CONTEXT, END, FIVE, VOCABULARY

from sordino_client.completion.bases import network, oracle, rotation
from sordino_client.completion.bases.form import UnknownFormError, form_of, read_config
from sordino_client.completion.bases.tensors import Tensors
from sordino_client.completion.bases.weights import Weights, paired_factors
from sordino_client.completion.cache import KeyValueCache, Network, causal
from sordino_privacy.errors import ConfigurationError

torch.set_num_threads(1)
Numbers = npt.NDArray[np.float32]
TOKENS = np.arange(40) * 7919 % VOCABULARY


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("bases")
    return {name: foreign_bases.write(place / name, name) for name in CONFIGS}


def exchanged(values: Numbers) -> Numbers:
    """Logits of transformers in the engine's numbers, where the end of a document is 0."""
    values[:, [0, END]] = values[:, [END, 0]]
    return values


def judged(folder: Path, tokens: npt.NDArray[np.int64]) -> Numbers:
    own = np.where(tokens == 0, END, np.where(tokens == END, 0, tokens))
    with torch.no_grad():
        return exchanged(foreign_bases.loaded(folder)(torch.from_numpy(own)[None]).logits[0].numpy())


def weights_of(folder: Path) -> Weights:
    return Weights(folder, form_of(read_config(folder)), end=END)


def read(net: Network, tokens: npt.NDArray[np.int64], edges: list[int]) -> Numbers:
    cache = KeyValueCache(net.shape, len(tokens))
    return np.concatenate(
        [
            net.read(cache, tokens[a:b], np.arange(a, b), causal(a, b - a), np.arange(b - a))
            for a, b in itertools.pairwise(edges)
        ]
    )


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_the_session_and_its_oracle_compute_what_transformers_computes(
    made: dict[str, Path], name: str
) -> None:
    expected = judged(made[name], TOKENS)
    np.testing.assert_allclose(oracle.logits(weights_of(made[name]), TOKENS), expected, atol=2e-4, rtol=1e-4)
    served = network.load(weights_of(made[name]), "float32")
    found = read(served, TOKENS, [0, 17, 18, 19, 30, 40])
    np.testing.assert_allclose(found, expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("name", FIVE)
def test_integers_read_a_token_within_a_block_as_they_read_it_alone(made: dict[str, Path], name: str) -> None:
    served = network.load(weights_of(made[name]), "int8")
    singly, blocks = read(served, TOKENS, list(range(41))), read(served, TOKENS, [0, 16, 20, 29, 38, 40])
    np.testing.assert_allclose(singly[16:], blocks[16:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", FIVE)
def test_branches_of_one_prompt_read_as_if_each_were_alone(made: dict[str, Path], name: str) -> None:
    served = network.load(weights_of(made[name]), "float32")
    cache = KeyValueCache(served.shape, 20)
    served.read(cache, TOKENS[:10], np.arange(10), causal(0, 10), np.array([9]))
    seen = np.ones((2, 12), np.bool_)
    seen[0, 11] = seen[1, 10] = False
    both = served.read(cache, np.array([20, 30]), np.array([10, 10]), seen, np.arange(2))
    for row, token in zip(both, (20, 30), strict=True):
        expected = judged(made[name], np.append(TOKENS[:10], token))[-1]
        np.testing.assert_allclose(row, expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("name", FIVE)
def test_even_inputs_compute_the_same(made: dict[str, Path], name: str) -> None:
    weights = weights_of(made[name])
    expected = oracle.logits(weights, TOKENS)
    weights.smoothing = oracle.smoothed(weights, TOKENS[::-1])
    assert any(np.ptp(factor) > 0.1 for layer in weights.smoothing for factor in layer.values())
    np.testing.assert_allclose(oracle.logits(weights, TOKENS), expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [16, 48, 80, 99, 576, 1536])
def test_turned_inputs_and_a_turned_matrix_have_the_same_product(size: int) -> None:
    random = np.random.default_rng(size)
    inputs, matrix = (random.standard_normal((5, size), np.float32) for _ in range(2))
    found = rotation.turned(inputs) @ rotation.turned(matrix).T
    np.testing.assert_allclose(found, inputs @ matrix.T, atol=1e-3, rtol=0)


@pytest.mark.parametrize("place", [0, 7, 1535])
def test_a_place_that_is_a_thousand_times_the_others_is_spread_over_all(place: int) -> None:
    row = np.random.default_rng(0).standard_normal(1536, np.float32)
    row[place] = 1000
    assert np.abs(row).max() / np.sqrt(np.square(row).mean()) > 30
    row = rotation.turned(row)
    assert np.abs(row).max() / np.sqrt(np.square(row).mean()) < 2


@pytest.mark.parametrize("name", FIVE)
def test_turned_layers_serve_in_integers_what_the_base_computes(made: dict[str, Path], name: str) -> None:
    found = read(network.load(weights_of(made[name]), "int8"), TOKENS, [0, 17, 18, 40])
    expected = judged(made[name], TOKENS)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.999


def test_half_precision_is_widened_without_a_change(tmp_path: Path) -> None:
    folder = foreign_bases.write(tmp_path / "base", "llama", bfloat16=True)
    expected = judged(folder, TOKENS)
    np.testing.assert_allclose(oracle.logits(weights_of(folder), TOKENS), expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("name", FIVE)
def test_an_adapter_is_added_to_its_own_matrix(made: dict[str, Path], name: str) -> None:
    folder, random = made[name], np.random.default_rng(0)
    form = form_of(read_config(folder))
    module = form.layout.layers.format(1) + form.layout.contract
    factors = {
        f"{module}.down": random.standard_normal((3, form.hidden), np.float32) * np.float32(0.3),
        f"{module}.up": random.standard_normal((form.width, 3), np.float32) * np.float32(0.3),
    }
    judge = foreign_bases.loaded(folder)
    change = torch.from_numpy(factors[f"{module}.up"] @ factors[f"{module}.down"])
    with torch.no_grad():
        target = judge.get_submodule(module).weight
        target += change.T if form.layout.transposed else change
        expected = judge(torch.from_numpy(TOKENS[2:])[None]).logits[0].numpy()
    weights = Weights(folder, form, end=0, adapters=[paired_factors(factors)])
    found = oracle.logits(weights, TOKENS[2:])
    np.testing.assert_allclose(found, expected, atol=2e-4, rtol=1e-4)
    with pytest.raises(ConfigurationError, match="no matrix of this base"):
        Weights(folder, form, end=0, adapters=[{"elsewhere": next(iter(paired_factors(factors).values()))}])


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "rwkv"},
        {"hidden_act": "relu2"},
        {"rope_parameters": {"rope_type": "yarn", "factor": 4}},
        {"hidden_size": -1},
        {"head_dim": 24},
        {"num_hidden_layers": True},
        {"rms_norm_eps": "small"},
    ],
)
def test_what_the_graph_does_not_compute_is_refused(made: dict[str, Path], change: dict[str, object]) -> None:
    with pytest.raises(UnknownFormError):
        form_of({**read_config(made["llama"]), **change})


def test_the_window_ends_with_the_base_and_with_a_sliding_one(made: dict[str, Path]) -> None:
    config = dict(read_config(made["llama"]))
    assert form_of(config).shape.context == CONTEXT
    assert form_of({**config, "model_type": "mistral", "sliding_window": 64}).shape.context == 64


@pytest.mark.parametrize(
    "damage",
    [
        lambda header: header.replace(b'"F32"', b'"F16"'),
        lambda header: header.replace(b"data_offsets", b"data_offsetz"),
        lambda header: header[:40],
        lambda header: b"[" * len(header),
    ],
)
def test_a_damaged_file_of_weights_is_refused_before_anything_is_read(
    made: dict[str, Path], tmp_path: Path, damage: object
) -> None:
    whole = (made["llama"] / "model.safetensors").read_bytes()
    length = int.from_bytes(whole[:8], "little")
    assert callable(damage)
    (tmp_path / "model.safetensors").write_bytes(
        whole[:8] + damage(whole[8 : 8 + length]) + whole[8 + length :]
    )
    with pytest.raises(ConfigurationError, match="whole safetensors"):
        Tensors(tmp_path)


def test_weights_that_are_not_finite_are_refused(made: dict[str, Path], tmp_path: Path) -> None:
    config = json.loads((made["llama"] / "config.json").read_text())
    whole = bytearray((made["llama"] / "model.safetensors").read_bytes())
    whole[-4:] = b"\x00\x00\xc0\x7f"
    (tmp_path / "model.safetensors").write_bytes(whole)
    with pytest.raises(ConfigurationError, match="not finite"):
        oracle.logits(Weights(tmp_path, form_of(config), end=END), TOKENS)

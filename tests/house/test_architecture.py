"""The shape without torch and the network in torch are one model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sordino_platform import model
from sordino_platform.architecture import (
    SIZES,
    ModelConfig,
    add_adapters,
    flatten,
    merged,
    shapes,
    trainable_shapes,
    unflatten,
    with_adapters,
)
from sordino_privacy.errors import ConfigurationError

TINY = ModelConfig(vocabulary=64, context=32, layers=2, heads=2, width=16, hidden=32)


@pytest.mark.parametrize(
    "config",
    [*SIZES.values(), with_adapters(SIZES["3.4m"], 8), with_adapters(TINY, 2, embedding_rank=3), TINY],
)
def test_the_network_has_exactly_the_declared_parameters(config: ModelConfig) -> None:
    network = model.Decoder(config)
    assert {name: tuple(p.shape) for name, p in network.named_parameters()} == shapes(config)
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    assert trained == set(trainable_shapes(config))


def test_the_sizes_are_the_prototypes() -> None:
    counts = {name: sum(int(np.prod(s)) for s in shapes(config).values()) for name, config in SIZES.items()}
    assert counts == {
        "2.3m": 2_267_008,
        "3.4m": 3_447_424,
        "10m": 10_006_912,
        "13m": 13_695_232,
        "22m": 22_032_256,
    }


def test_the_vector_round_trips_and_leaves_the_rest_alone() -> None:
    config = with_adapters(TINY, 4)
    parameters = model.parameters_of(model.Decoder(config))
    vector = flatten(config, parameters)
    moved = unflatten(config, parameters, vector + 1)
    np.testing.assert_array_equal(flatten(config, moved), vector + 1)
    np.testing.assert_array_equal(moved["embed.weight"], parameters["embed.weight"])


@pytest.mark.parametrize("embedding_rank", [0, 3])
def test_fresh_adapters_change_nothing_and_merging_them_keeps_the_function(embedding_rank: int) -> None:
    base = model.parameters_of(model.Decoder(TINY))
    config = with_adapters(TINY, 4, embedding_rank=embedding_rank)
    adapted = add_adapters(config, base)
    tokens = torch.arange(20).reshape(2, 10)
    before = model.build_decoder(TINY, base)(tokens)
    torch.testing.assert_close(model.build_decoder(config, adapted)(tokens), before)
    generator = np.random.default_rng(7)
    adapted = {
        n: v + generator.standard_normal(v.shape).astype(np.float32) * 0.1 if n.endswith(".up") else v
        for n, v in adapted.items()
    }
    changed = model.build_decoder(config, adapted)(tokens)
    assert not torch.allclose(changed, before)
    torch.testing.assert_close(
        model.build_decoder(TINY, merged(adapted))(tokens), changed, rtol=1e-4, atol=1e-4
    )


def test_adapters_begin_at_given_directions_and_at_a_seed_beyond_them() -> None:
    base = model.parameters_of(model.Decoder(TINY))
    known = {"blocks.0.expand.down": np.full((2, 16), 0.5, dtype=np.float32)}
    config = with_adapters(TINY, 3, scale=4.0)
    drawn, given = add_adapters(config, base), add_adapters(config, base, directions=known)
    np.testing.assert_array_equal(given["blocks.0.expand.down"][:2], np.full((2, 16), 2.0))
    np.testing.assert_array_equal(given["blocks.0.expand.down"][2], drawn["blocks.0.expand.down"][2])
    np.testing.assert_array_equal(given["blocks.1.expand.down"], drawn["blocks.1.expand.down"])
    rank_one = add_adapters(with_adapters(TINY, 1), base, directions=known)
    np.testing.assert_array_equal(rank_one["blocks.0.expand.down"], np.full((1, 16), 0.5))


@pytest.mark.parametrize("terms", [{"embedding_rank": 2}, {"scale": 4.0}])
def test_terms_of_adapters_without_adapters_of_the_layers_are_refused(terms: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="need an adapter_rank above 0"):
        with_adapters(TINY, 0, **terms)


def test_the_model_is_causal() -> None:
    network = model.Decoder(TINY)
    tokens = torch.arange(24).reshape(1, 24)
    other = tokens.clone()
    other[0, 12:] = 1
    torch.testing.assert_close(network(tokens)[0, :12], network(other)[0, :12])


@pytest.mark.parametrize("damage", ["short", "nan", "double"])
def test_a_vector_that_does_not_fit_is_refused(damage: str) -> None:
    parameters = model.parameters_of(model.Decoder(TINY))
    vector = flatten(TINY, parameters)
    bad = {
        "short": vector[:-1],
        "nan": np.where(np.arange(vector.size) == 3, np.nan, vector),
        "double": vector,
    }[damage]
    bad = bad.astype(np.float64) if damage == "double" else bad.astype(np.float32)
    with pytest.raises(ConfigurationError):
        unflatten(TINY, parameters, bad)


@pytest.mark.parametrize(
    "wrong",
    [{"width": 193}, {"layers": 0}, {"heads": 1 << 30}, {"adapter_rank": -1}, {"trainable": "half"}],
)
def test_impossible_configurations_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        ModelConfig(**wrong)  # type: ignore[arg-type]  # that is what is tested

"""Makes a generator of a model's folder and tests it on this processor, or gives the reason why it may not answer.

How much a member takes of a release is decided elsewhere (`taking`). Here the decision is carried out: the weights are
moved back towards the model that releases begin with, the shared memory is used or left out, and the developer's own
adapters are folded in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sordino_client.completion import bundle as bundles
from sordino_client.completion import personal
from sordino_client.completion.bases import served
from sordino_client.completion.bundle import Bundle
from sordino_client.completion.cache import Indices, Network, Precision
from sordino_client.completion.generation import Generator
from sordino_client.completion.reference import ReferenceNetwork
from sordino_client.completion.runtime import own_network
from sordino_client.completion.selftest import MAX_DIVERGENCE, divergence, sample, self_test
from sordino_client.completion.taking import record
from sordino_client.completion.taking.choice import EVERYTHING, Taking
from sordino_client.completion.vocabulary import Vocabulary
from sordino_platform import telemetry
from sordino_platform.machine import large_pages
from sordino_platform.machine.memory import return_freed
from sordino_platform.release.bundle import BEGINS
from sordino_platform.tokenizer import Tokenizer
from sordino_privacy.errors import SordinoError, StorageError

INTEGERS: tuple[Precision, ...] = ("int8", "int7")


def load_generator(bundle: Bundle, precision: Precision = "int8") -> Generator:
    """A tested generator for a bundle. Raises SordinoError when the model cannot be trusted to answer.

    `precision` is the first that is tried. If the self-test finds that this model or this processor does not bear eight
    bits, seven are tried, then float32; and if ONNX Runtime does not run, NumPy is.
    """
    tokenizer = Tokenizer.load(bundle.tokenizer)
    if tokenizer.size != bundle.config.vocabulary:
        raise StorageError(
            "the model and its tokenizer do not fit each other", hint="fetch the release again"
        )
    reference = ReferenceNetwork(bundle.config, bundle.weights)
    network = _network(bundle, reference, sample(tokenizer, context=bundle.config.context), precision)
    if network is not reference:
        bundle.give_back()
    return_freed()
    large_pages.gather()
    return Generator(network, Vocabulary(tokenizer), name=bundle.name, shared=bundle.memory)


def load_release(
    folder: Path, *, state: Path | None = None, taking: Taking | None = None, precision: Precision = "int8"
) -> Generator:
    """A tested generator for a bundle's folder, of our own model or of a base. How much is taken of a member's release
    follows from `taking`, or else from the choice in the completion folder `state`. The developer's own adapters are
    added if they fit.

    Raises SordinoError when the model cannot be trusted to answer.
    """
    if state is None:
        taking = EVERYTHING
    elif taking is None:
        taking = record.taken(state)
    own = personal.parts(state, share=taking.share) if state is not None and taking.own else []
    if served.of_base(folder):
        generator = served.load(folder, share=taking.share, personal_adapters=own, precision=precision)
        return_freed()
        large_pages.gather()
        return generator
    return load_generator(_read(folder, state, taking, own), precision)


def _read(folder: Path, state: Path | None, taking: Taking, own: Sequence[tuple[Path, float]]) -> Bundle:
    """The model with the chosen part of the release, and with the developer's own adapters if some fit."""
    bundle = bundles.load(folder)
    if state is not None and taking.share < 1:
        _draw_back(bundle, state, taking.share)
    if not taking.shared_memory:
        bundle = replace(bundle, memory=None)
    if not own:
        return bundle
    try:
        return personal.folded(bundle, own)
    except SordinoError as error:
        telemetry.log().warning("personal_adapter_left_out", error=error.message, hint=error.hint)
        return bundle


def _draw_back(bundle: Bundle, state: Path, share: float) -> None:
    """Moves a release's weights back towards the model that releases begin with, until they are this share of the way
    from it.

    Raises StorageError, because a member that chose less than everything must not silently be served everything.
    """
    folder = bundles.current(state / BEGINS)
    begins = None if folder is None else bundles.load(folder)
    if begins is None or begins.config != bundle.config:
        raise StorageError(
            "the model that releases begin with is not here", hint="the agent writes it at its next start"
        )
    for name, weight in bundle.weights.items():
        weight *= np.float32(share)
        weight += np.float32(1 - share) * begins.weights[name]


def _network(bundle: Bundle, reference: Network, tokens: Indices, precision: Precision) -> Network:
    """The fastest network that passes the self-test. Raises StorageError when float32 does not."""
    try:
        for integers in INTEGERS[INTEGERS.index(precision) :] if precision in INTEGERS else ():
            network = own_network(bundle.config, bundle.weights, integers)
            if divergence(network, reference, tokens) <= MAX_DIVERGENCE:
                return network
        network = own_network(bundle.config, bundle.weights, "float32")
    except Exception as error:  # noqa: BLE001 - ONNX Runtime raises many classes; NumPy serves instead
        telemetry.log().warning("onnx_runtime_unavailable", error=type(error).__name__)
        self_test(reference, reference, tokens)
        return reference
    self_test(network, reference, tokens)
    return network

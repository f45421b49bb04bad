"""The personal adapter: what one developer's own code taught, without noise, on this machine, for this machine only.

    STATE/personal/adapter.safetensors     factors `<layer>.down` and `<layer>.up`, float32, 0600
    STATE/personal/alone.safetensors       the same, trained on the model that releases begin with

`sordino client adapt` writes both. The completion engine folds them into the weights in memory, each as much as the
model under it counts (taking/choice.py). They are as private as the code: no noise was added and no ledger counts them,
so no code that can reach the network may open them. The agent, the trainer of rounds and the link never import this
module (a test holds them to it), and the serving bundle on disk stays the release.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as read_tensors
from safetensors.numpy import save

from sordino_client.completion.bundle import Array, Bundle
from sordino_platform.architecture import Parameters
from sordino_platform.durable import make_folder, read_secret, write_file
from sordino_privacy.errors import StorageError

MAX_BYTES = 256 << 20
_HINT = "make it anew: sordino client adapt, or drop it: sordino client adapt --remove"


def place(state: Path, *, alone: bool = False) -> Path:
    """Where the adapter of a completion folder lies; `alone`: the one on the model that releases begin with."""
    return state / "personal" / ("alone.safetensors" if alone else "adapter.safetensors")


def stamp(path: Path) -> int:
    """A number that changes when the adapter does; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def stamps(state: Path) -> tuple[int, int]:
    """The stamps of both adapters of a completion folder."""
    return stamp(place(state)), stamp(place(state, alone=True))


def parts(state: Path, *, share: float) -> list[tuple[Path, float]]:
    """The adapters for a model with this share of its federation, each with its factor; none if there are none. If
    there is only one, it stands for both."""
    on_release, on_base = place(state), place(state, alone=True)
    if not (stamp(on_release) and stamp(on_base)):
        return [(path, 1.0) for path in (on_release, on_base) if stamp(path)]
    return [(path, factor) for path, factor in ((on_release, share), (on_base, 1 - share)) if factor]


def store(path: Path, factors: Parameters) -> None:
    """Writes the adapter, whole or not at all, readable by its owner only. Raises StorageError."""
    make_folder(path.parent)
    write_file(
        path, save({name: np.ascontiguousarray(value) for name, value in factors.items()}), secret=True
    )


def folded(bundle: Bundle, adapters: Sequence[tuple[Path, float]]) -> Bundle:
    """The bundle with each adapter, times its factor, added to its weights, in memory.

    Raises StorageError, and leaves the bundle as it was, when one is damaged or belongs to another model.
    """
    found = [(_changes(bundle.weights, path), factor) for path, factor in adapters]
    for changes, factor in found:
        for name, change in changes.items():
            target = bundle.weights[name]
            target += np.float32(factor) * change
    return replace(bundle, personal=True)


def _changes(weights: Mapping[str, Array], path: Path) -> dict[str, Array]:
    try:
        factors = read_tensors(read_secret(path, limit=MAX_BYTES))
    except SafetensorError as error:
        raise StorageError("the personal adapter is damaged", hint=_HINT) from error
    layers = {name.rsplit(".", 1)[0] for name in factors}
    if not layers or set(factors) != {f"{layer}.{part}" for layer in layers for part in ("down", "up")}:
        raise StorageError("the personal adapter is damaged", hint=_HINT)
    found: dict[str, Array] = {}
    for layer in layers:
        down, up, weight = factors[f"{layer}.down"], factors[f"{layer}.up"], weights.get(f"{layer}.weight")
        fits = (
            weight is not None
            and down.dtype == up.dtype == np.float32
            and down.ndim == up.ndim == 2
            and down.shape[0] == up.shape[1]
            and weight.shape == (up.shape[0], down.shape[1])
        )
        change = up @ down if fits else np.array(np.nan)
        if not np.isfinite(change).all():
            raise StorageError("the personal adapter does not fit this model", hint=_HINT)
        found[f"{layer}.weight"] = change
    return found

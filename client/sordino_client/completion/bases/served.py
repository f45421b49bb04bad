"""A release on a base, and a base alone: the bundle that names it, and the way from there to a tested generator.

    FOLDER/<name>/manifest.json          {"release": 7, "sha256": "<of the adapters, hex>",
                                          "base": {"name", "place", "digest", "licence"}}
    FOLDER/<name>/adapters.safetensors   `<module>.down`, `<module>.up`, float32; none for a base alone

The weights stay where they are, in the base's own folder or file. All of it is compared with the digest before it
serves. The agent writes it: `sordino_platform.release.write_base_bundle`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as read_tensors

from sordino_client.completion import personal
from sordino_client.completion.bases import network, oracle
from sordino_client.completion.bases.form import UnknownFormError, form_of, read_config
from sordino_client.completion.bases.vocabulary import BaseTokenizer, BaseVocabulary
from sordino_client.completion.bases.weights import Adapters, Weights, paired_factors
from sordino_client.completion.bundle import MAX_JSON_BYTES, MAX_RELEASE, Array
from sordino_client.completion.cache import Indices, Network, Precision
from sordino_client.completion.generation import Generator
from sordino_client.completion.selftest import divergence_from, sample
from sordino_platform import bases, durable, telemetry
from sordino_platform.bases import Base, registry
from sordino_platform.bases.memory import WINDOW_BYTES, require_room
from sordino_privacy.errors import ConfigurationError, SordinoError, StorageError

MAX_ADAPTER_BYTES = 4 << 30
# Some of our own code, another part than the self-test reads.
CALIBRATED_ON, CALIBRATION = "writing.py", 256
# Nats a token, on the self-test's code; eight bits diverge by 0.013 from SmolLM2.
MAX_DIVERGENCE = 3e-2
PRECISIONS: tuple[Precision, ...] = ("int8", "int7", "float32")


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What a bundle says. `adapters` is its file, None for a base alone; `sha256` is of that file."""

    base: Base
    release: int
    adapters: Path | None
    sha256: str

    @property
    def name(self) -> str:
        """How the model is called towards editors, e.g. `smollm2-7`."""
        return f"{self.base.name}-{self.release}" if self.adapters is not None else self.base.name


def of_base(folder: Path) -> bool:
    """Whether a bundle is of a base. Faults in it are reported when it is read."""
    try:
        found = json.loads(durable.read_file(folder / "manifest.json", limit=MAX_JSON_BYTES))
    except (StorageError, ValueError):
        return False
    return isinstance(found, dict) and "base" in found


def read(folder: Path) -> Served:
    """Reads a bundle, and describes its base. Raises StorageError (damaged) or ConfigurationError (no such base)."""
    try:
        manifest = json.loads(durable.read_file(folder / "manifest.json", limit=MAX_JSON_BYTES))
        release, sha256, said = manifest["release"], manifest["sha256"], manifest["base"]
        words = {name: said[name] for name in ("name", "place", "digest", "licence")}
        whole = set(manifest) == {"release", "sha256", "base"} and set(said) == set(words)
        if not whole or not all(isinstance(one, str) for one in (sha256, *words.values())):
            raise ValueError("fields")
        if type(release) is not int or not 0 <= release < MAX_RELEASE:
            raise ValueError("release")
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError("the manifest of the model is damaged", hint=f"look at {folder}") from error
    place = Path(words["place"])
    if not place.exists():
        raise ConfigurationError(
            f"the base {words['name']} is not at {place} any more",
            hint="put it back, or name another place in member.toml (base_model)",
        )
    base = registry.describe_place(
        place, name=words["name"], licence=words["licence"], digest=words["digest"]
    )
    adapters = folder / "adapters.safetensors"
    return Served(base=base, release=release, adapters=adapters if adapters.exists() else None, sha256=sha256)


def of(base: Base) -> Served:
    """A base alone, as a bundle would name it. Raises ConfigurationError where this machine has too little memory."""
    require_room(base.serving_bytes(), purpose="serving", name=base.name)
    return Served(base=base, release=0, adapters=None, sha256="")


def factors(served: Served) -> Mapping[str, Array]:
    """The adapters of a bundle, `<module>.down` and `<module>.up`; none of a base alone. Raises StorageError."""
    return {} if served.adapters is None else _tensors(served.adapters, served.sha256)


def tokenizer(folder: Path) -> BaseTokenizer:
    """The tokenizer of a bundle's base, in the engine's numbers. Raises StorageError or ConfigurationError."""
    return tokenizer_of(read(folder).base)


def load(
    folder: Path,
    *,
    share: float = 1.0,
    personal_adapters: Sequence[tuple[Path, float]] = (),
    precision: Precision = "int8",
) -> Generator:
    """A tested generator for a bundle, with this share of its adapters and the developer's own adapters on top, each
    times its factor, if they fit this base.

    Raises SordinoError when the model cannot be trusted to answer.
    """
    served = read(folder)
    found = factors(served) if share else {}
    released = [paired_factors(_times(found, share))] if found else []
    own = [one for path, factor in personal_adapters if (one := _personal(path, factor)) is not None]
    if own:
        try:
            return generator(
                served.base, [*released, *own], name=f"{served.name}-personal", precision=precision
            )
        except SordinoError as error:
            telemetry.log().warning("personal_adapter_left_out", error=error.message, hint=error.hint)
    return generator(served.base, released, name=served.name, precision=precision)


def generator(base: Base, adapters: list[Adapters], *, name: str, precision: Precision = "int8") -> Generator:
    """A tested generator of a base with adapters.

    `precision` is the first that is tried, as for our own models. Raises ConfigurationError (too little memory on this
    machine is one cause) or StorageError.
    """
    require_room(base.serving_bytes(), purpose="serving", name=base.name)
    folder = bases.open_folder(base)
    words = tokenizer_of(base, folder)
    found = _network(base, folder, adapters, words, precision)
    vocabulary = BaseVocabulary(words, begin=base.begin, middle=base.middle)
    return Generator(found, vocabulary, name=name, slot_bytes=WINDOW_BYTES)


def _network(
    base: Base, folder: Path, adapters: list[Adapters], words: BaseTokenizer, precision: Precision
) -> Network:
    try:
        form = form_of(read_config(folder))
    except UnknownFormError as error:
        telemetry.log().info("base_read_by_transformers", reason=error.message)
        from sordino_client.completion.bases.fallback import TransformersNetwork

        return TransformersNetwork(folder, end=base.end, adapters=adapters)
    weights = Weights(folder, form, end=base.end, adapters=adapters)
    tokens = sample(words, context=form.shape.context)
    expected = oracle.logits(weights, tokens)
    text = (files("sordino_client.completion") / CALIBRATED_ON).read_text("utf-8")
    calibration: Indices = np.array(words.encode(text)[: min(CALIBRATION, form.shape.context)], np.int64)
    for tried in PRECISIONS[PRECISIONS.index(precision) :]:
        if tried == "float32":
            weights.smoothing = ()
        elif not weights.smoothing:
            weights.smoothing = oracle.smoothed(weights, calibration)
        found = network.load(weights, tried)
        if divergence_from(found, expected, tokens) <= MAX_DIVERGENCE:
            return found
        del found
    raise StorageError(
        "the model fails its self-test", hint="keep the release before it, and report this one"
    )


def tokenizer_of(base: Base, folder: Path | None = None) -> BaseTokenizer:
    """The tokenizer of a base; `folder` where it was opened already. Raises ConfigurationError."""
    assert base.place is not None, "the base that ships is no base of others"
    return BaseTokenizer.load(folder or bases.folder_at(base.place), size=base.vocabulary, end=base.end)


def _tensors(path: Path, sha256: str) -> Mapping[str, Array]:
    data = durable.read_file(path, limit=MAX_ADAPTER_BYTES)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise StorageError("the adapters do not match their digest", hint="fetch the release again")
    try:
        return read_tensors(data)
    except SafetensorError as error:
        raise StorageError("the adapters are damaged", hint="fetch the release again") from error


def _times(factors: Mapping[str, Array], factor: float) -> Mapping[str, Array]:
    """The adapters times a factor, which is applied to one of the two matrices of each."""
    return {
        name: value * np.float32(factor) if name.endswith(".up") else value for name, value in factors.items()
    }


def _personal(path: Path, factor: float) -> Adapters | None:
    try:
        found = read_tensors(durable.read_secret(path, limit=personal.MAX_BYTES))
        return paired_factors(_times(found, factor))
    except (SordinoError, SafetensorError):
        telemetry.log().warning("personal_adapter_left_out", error="it is damaged")
        return None

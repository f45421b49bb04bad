"""The bases of this user on this machine: names for folders and files, and how a name is turned into a base.

    bases/NAME.json             what was added: kind, place, digest, licence (mode 0600)
    bases/dequantised/DIGEST/   made from GGUF files (dequantised.py)

It lies in the user's data folder (`XDG_DATA_HOME/sordino`). These need not be added to be found: the base that ships, a
known package that is installed, a folder, and a .gguf file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from sordino_platform import base as shipped
from sordino_platform.architecture import ModelConfig, shapes
from sordino_platform.bases.base import SHIPPED, Base
from sordino_platform.bases.dequantised import dequantised
from sordino_platform.bases.describing import memory_shape_of, required
from sordino_platform.bases.folder import describe_folder, parameters_in
from sordino_platform.bases.gguf_base import describe_gguf, stored_numbers
from sordino_platform.bases.gguf_families import family_of
from sordino_platform.bases.gguf_file import GgufFile, digest_of
from sordino_platform.bases.gguf_tokenizer import tokenizer_json
from sordino_platform.bases.memory import MemoryShape, require_room
from sordino_platform.bases.middle import FillInTheMiddle
from sordino_platform.bases.package import PACKAGES
from sordino_platform.canonical import Digest, Document, decode, encode
from sordino_platform.durable import make_folder, read_file, sha256_of_file, write_file
from sordino_platform.huggingface import HuggingFaceTokenizer, folder_digest, require_plain
from sordino_platform.settings import default_folder
from sordino_platform.tokenizer import END, MIDDLE, PREFIX, SUFFIX
from sordino_privacy.errors import ConfigurationError, UsageError

MAX_ENTRY_BYTES = 64 << 10
GGUF_SUFFIX = ".gguf"
NAME = r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$"
BaseName = Annotated[str, Field(pattern=NAME)]


class AddedBase(Document):
    """One base that was added. `digest` was computed over every byte at that time."""

    format: Literal["sordino-base-entry/1"] = "sordino-base-entry/1"
    name: BaseName
    kind: Literal["folder", "gguf", "package"]
    place: str = Field(min_length=1, max_length=4096)
    digest: Digest
    licence: str = Field(min_length=1, max_length=200)


def bases_folder() -> Path:
    """The folder of this user's list of bases."""
    return default_folder() / "bases"


def find_base(name: str) -> Base:
    """The base of this name: the one that ships, one that was added, a package, a folder or a .gguf file.

    Weights are not loaded. For a base that was added, the digest of that time is trusted until the base is used
    (`open_folder` then reads every byte). For any other, every byte is read for its digest. Raises ConfigurationError.
    """
    if name == SHIPPED:
        return _shipped()
    entry = _entry(name)
    if entry is not None:
        return _added(entry)
    if name in PACKAGES:
        package = PACKAGES[name]
        return describe_gguf(
            package.locate(), name=name, kind="package", licence=package.licence, digest=package.digest
        )
    place = Path(name).expanduser()
    if place.exists():
        known = next((e for e in _entries() if Path(e.place) == place.resolve()), None)
        return _added(known) if known is not None else describe_place(place.resolve(), name=name_for(place))
    raise ConfigurationError(
        f"there is no base called {name!r} here",
        hint="`sordino base list` shows those that there are; `sordino base add` adds a folder or a GGUF file",
    )


def find_by_digest(digest: str) -> Base | None:
    """The base with the digest that a charter names, or None. Looks only at added bases and known packages."""
    for entry in _entries():
        if entry.digest.hex() == digest:
            return _added(entry)
    for name, package in PACKAGES.items():
        if package.digest == digest and package.find() is not None:
            return find_base(name)
    return None


def known_name(digest: str) -> str:
    """The name by which anybody can add the base with this digest (`sordino base add NAME`), or ""."""
    return next((name for name, package in PACKAGES.items() if package.digest == digest), "")


def bases() -> Iterator[tuple[str, Base | ConfigurationError]]:
    """Every base that has a name, or the error that says why it cannot be used."""
    names = [SHIPPED, *sorted({entry.name for entry in _entries()} | PACKAGES.keys())]
    for name in names:
        try:
            yield name, find_base(name)
        except ConfigurationError as error:
            yield name, error


def add(source: str, *, name: str | None = None, licence: str | None = None) -> Base:
    """Records a folder, a .gguf file or a known package under a name; a GGUF file is dequantised. Reads every byte
    once.

    Raises ConfigurationError (see the modules of the kinds), UsageError for a name that is taken or not allowed.
    """
    if source in PACKAGES:
        named = name or source
        package = PACKAGES[source]
        found = describe_gguf(
            package.locate(), name=named, kind="package", licence=package.licence, digest=package.digest
        )
    else:
        place = Path(source).expanduser()
        if not place.exists():
            raise ConfigurationError(
                f"there is no folder or file {source}",
                hint=f"packages that ship a base: {', '.join(sorted(PACKAGES))}",
            )
        named = name or name_for(place)
        found = describe_place(place.resolve(), name=named, licence=licence)
    if not re.match(NAME, named) or named == SHIPPED or (named in PACKAGES and named != source):
        raise UsageError(f"a base cannot be called {named!r}", hint="--name with a-z, 0-9, '.' and '-'")
    present = _entry(named)
    if present is not None and present.digest.hex() != found.digest:
        raise UsageError(
            f"{named} is another base already",
            hint=f"choose another --name, or `sordino base remove {named}`",
        )
    require_room(found.serving_bytes(), purpose="serving", name=named)
    if found.gguf is not None:
        open_folder(found)
    assert found.place is not None
    entry = AddedBase(
        name=named,
        kind="package" if found.kind == "package" else "gguf" if found.kind == "gguf" else "folder",
        place=str(found.place),
        digest=bytes.fromhex(found.digest),
        licence=found.licence,
    )
    make_folder(bases_folder())
    write_file(bases_folder() / f"{named}.json", encode(entry), secret=True)
    return found


def remove(name: str) -> Path | None:
    """Removes a base's name, and the folder that was made from its GGUF file. The base's own folder or file stays; its
    path is returned. Raises ConfigurationError when nothing was added under this name.
    """
    entry = _entry(name)
    if entry is None:
        raise ConfigurationError(f"no base called {name!r} was added here", hint="see `sordino base list`")
    (bases_folder() / f"{name}.json").unlink()
    if not any(other.digest == entry.digest for other in _entries()):
        from shutil import rmtree

        rmtree(_cache() / entry.digest.hex(), ignore_errors=True)
    return Path(entry.place)


def describe_place(place: Path, *, name: str, licence: str | None = None, digest: str | None = None) -> Base:
    """The base in a folder or a .gguf file, whether it was added or not. Raises ConfigurationError."""
    if place.is_dir():
        return describe_folder(place, name=name, licence=licence, digest=digest)
    return describe_gguf(place, name=name, licence=licence, digest=digest)


def digest_at(place: Path) -> str:
    """The digest that a charter names, over every byte of a folder or a .gguf file. Raises ConfigurationError,
    StorageError."""
    _require(place)
    if place.is_dir():
        return folder_digest(place).hex()
    GgufFile.open(place)  # any other file is refused as not GGUF
    return digest_of(sha256_of_file(place))


def folder_at(place: Path) -> Path:
    """A folder in Hugging Face's form (float32 or bfloat16 safetensors) for a folder or a .gguf file: the folder
    itself, or one that is made from the file once and kept. Raises ConfigurationError, StorageError."""
    if place.is_dir():
        return place
    return dequantised(GgufFile.open(place), digest_at(place), _cache())


def open_folder(base: Base) -> Path:
    """A folder in Hugging Face's form for `base`, after every byte of its source was read and compared with its digest.
    Raises ConfigurationError for the base that ships, which has no such folder, and for a base that changed since it
    was added.
    """
    if base.place is None:
        raise ConfigurationError(
            "the base that ships is no folder", hint="it is used where no other is named"
        )
    if digest_at(base.place) != base.digest:
        raise ConfigurationError(
            f"{base.place} is not the base any more that was added as {base.name}",
            hint="put the files back, or remove the name and add it again",
        )
    return folder_at(base.place)


def shape_at(place: Path) -> MemoryShape:
    """The sizes that decide the memory of the base in a folder or a .gguf file. Reads headers only. Raises
    ConfigurationError."""
    _require(place)
    if place.is_dir():
        config = require_plain(place)
        return memory_shape_of(
            config, parameters_in(place, required(config, "vocab_size", what=place)), what=place
        )
    file = GgufFile.open(place)
    return memory_shape_of(family_of(file).config(file), stored_numbers(file), what=place)


def tokenizer_at(place: Path) -> HuggingFaceTokenizer:
    """The tokenizer of the base in a folder or a .gguf file. Raises ConfigurationError."""
    if place.is_dir():
        return HuggingFaceTokenizer.load(place)
    return HuggingFaceTokenizer.parse(tokenizer_json(GgufFile.open(place)), what=f"{place} has a tokenizer")


def name_for(place: Path) -> str:
    """A name for a folder or a file that has none: its file name in lower case."""
    words = re.sub(r"[^a-z0-9.]+", "-", place.resolve().name.removesuffix(GGUF_SUFFIX).lower())
    return words.strip("-.")[:63].rstrip("-.") or "base"


def _require(place: Path) -> None:
    if not place.exists():
        raise ConfigurationError(f"there is no base in {place}", hint="see `sordino base list`")


def _cache() -> Path:
    return bases_folder() / "dequantised"


def _entry(name: str) -> AddedBase | None:
    path = bases_folder() / f"{name}.json"
    if not re.match(NAME, name) or not path.is_file():
        return None
    return decode(AddedBase, read_file(path, limit=MAX_ENTRY_BYTES), limit=MAX_ENTRY_BYTES, what=str(path))


def _entries() -> list[AddedBase]:
    names = sorted(path.stem for path in bases_folder().glob("*.json"))
    return [entry for name in names if (entry := _entry(name)) is not None]


def _added(entry: AddedBase) -> Base:
    place, digest = Path(entry.place), entry.digest.hex()
    if entry.kind == "package":
        # The environment may have moved; the package knows the present path of its file.
        package = next((p for p in PACKAGES.values() if p.digest == digest), None)
        place = package.locate() if package is not None else place
    if not place.exists():
        raise ConfigurationError(
            f"{place}, which was added as the base {entry.name}, is not there any more",
            hint=f"put it back, or `sordino base remove {entry.name}`",
        )
    found = describe_place(place, name=entry.name, licence=entry.licence, digest=digest)
    return replace(found, kind=entry.kind)


def _shipped() -> Base:
    card = shipped.card()
    config = ModelConfig(**card["config"])
    numbers = 0
    for shape in shapes(config).values():
        count = 1
        for size in shape:
            count *= size
        numbers += count
    return Base(
        name=SHIPPED,
        kind="shipped",
        architecture="sordino",
        digest=str(card["sha256"]),
        licence=str(card["licence"]).lower(),
        context=config.context,
        vocabulary=config.vocabulary,
        end=END,
        begin=None,
        middle=FillInTheMiddle(
            family="sordino",
            order="suffix-prefix",
            prefix=PREFIX,
            suffix=SUFFIX,
            middle=MIDDLE,
            stops=frozenset({END, PREFIX, SUFFIX, MIDDLE}),
        ),
        shape=MemoryShape(
            parameters=numbers,
            vocabulary=config.vocabulary,
            layers=config.layers,
            width=config.width,
            hidden=config.hidden,
            key_values=config.width,
        ),
    )

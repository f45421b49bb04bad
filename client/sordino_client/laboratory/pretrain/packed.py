"""Compresses encoded documents for another machine, in parts that are small enough to transfer.

FOLDER/shards.json                     the shards, the SHA-256 of their tokens and the number of parts of each
FOLDER/tokenizer.json                  if it is not the one that ships
FOLDER/training.000, training.001 ...  one xz stream, cut: the index, then the tokens as they lie on disk

The unpacked tokens are checked against the digest. So a part that is missing, truncated or from another packing is
refused, and nothing is written.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from sordino_privacy.errors import DataError, StorageError

FORMAT = "sordino-packed/1"
SHARDS = ("training", "validation")
PART_BYTES = 24 << 20
_FILES = ("shard.json", "index.npz", "tokens.bin")  # tokens.bin last: by far the largest
_BLOCK = 1 << 20
_MAX_UNPACKED = 16 << 30


def pack_shards(data: Path, target: Path, *, part_bytes: int = PART_BYTES, preset: int = 6) -> dict[str, int]:
    """Packs the shards of `data` into `target`; returns the number of parts of each.

    Raises DataError when they are not encoded yet.
    """
    target.mkdir(parents=True, exist_ok=True)
    about: dict[str, dict[str, object]] = {}
    for name in SHARDS:
        folder = data / name
        if not (folder / "shard.json").is_file():
            raise DataError(
                f"there are no encoded documents in {folder}", hint="run: sordino pretrain --help"
            )
        sizes = {file: (folder / file).stat().st_size for file in _FILES}
        digest = hashlib.sha256()
        parts = _write_parts(_squeezed(_blocks(folder, digest), preset), target, name, part_bytes)
        about[name] = {"sizes": sizes, "sha256": digest.hexdigest(), "parts": parts}
    if (data / "tokenizer.json").is_file():
        shutil.copyfile(data / "tokenizer.json", target / "tokenizer.json")
    text = json.dumps({"format": FORMAT, "shards": about}, indent=1) + "\n"
    (target / "shards.json").write_text(text)
    return {name: int(str(entry["parts"])) for name, entry in about.items()}


def unpack(source: Path, data: Path) -> None:
    """Writes the shards of `source` under `data`, unless they exist.

    Raises StorageError for an incomplete or foreign packing; existing files are kept.
    """
    try:
        about = json.loads((source / "shards.json").read_text())
        if about["format"] != FORMAT or set(about["shards"]) != set(SHARDS):
            raise StorageError(f"{source} was packed by another version", hint="pack the shards again")
        for name in SHARDS:
            if not (data / name / "shard.json").is_file():
                _unpack_one(source, data, name, about["shards"][name])
        if (source / "tokenizer.json").is_file():  # each shard names its tokenizer's digest
            shutil.copyfile(source / "tokenizer.json", data / "tokenizer.json")
    except (OSError, ValueError, KeyError, TypeError, lzma.LZMAError, EOFError) as error:
        raise StorageError(f"the packed shards in {source} are not whole", hint="copy them again") from error


def _unpack_one(source: Path, data: Path, name: str, entry: dict[str, object]) -> None:
    sizes = {str(file): int(size) for file, size in dict(entry["sizes"]).items()}  # type: ignore[call-overload]
    if set(sizes) != set(_FILES) or not all(0 < size <= _MAX_UNPACKED for size in sizes.values()):
        raise StorageError(f"{source} was packed by another version", hint="pack the shards again")
    temporary = data / f".{name}.part"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        digest = hashlib.sha256()
        blocks = _expanded(source, name, int(str(entry["parts"])), sum(sizes.values()))
        left = b""
        for file in _FILES:
            missing = sizes[file]
            with (temporary / file).open("wb") as out:
                while missing:
                    left = left or next(blocks, b"")
                    if not left:
                        raise EOFError
                    piece, left = left[:missing], left[missing:]
                    digest.update(piece)
                    out.write(piece)
                    missing -= len(piece)
        if left or digest.hexdigest() != entry["sha256"]:
            raise StorageError(f"the packed shards in {source} are not whole", hint="copy them again")
        temporary.rename(data / name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _blocks(folder: Path, digest: hashlib._Hash) -> Iterator[bytes]:
    for file in _FILES:
        with (folder / file).open("rb") as handle:
            while block := handle.read(_BLOCK):
                digest.update(block)
                yield block


def _squeezed(blocks: Iterable[bytes], preset: int) -> Iterator[bytes]:
    squeezer = lzma.LZMACompressor(preset=preset)
    for block in blocks:
        yield squeezer.compress(block)
    yield squeezer.flush()


def _write_parts(stream: Iterable[bytes], target: Path, name: str, part_bytes: int) -> int:
    number, room = 0, part_bytes
    out = (target / f"{name}.000").open("wb")
    try:
        for block in stream:
            while block:
                if not room:
                    out.close()
                    number, room = number + 1, part_bytes
                    out = (target / f"{name}.{number:03d}").open("wb")
                out.write(block[:room])
                block, room = block[room:], room - len(block[:room])
    finally:
        out.close()
    return number + 1


def _expanded(source: Path, name: str, parts: int, expected: int) -> Iterator[bytes]:
    """The packed bytes in blocks, at most `expected` bytes and one block."""
    expander, total = lzma.LZMADecompressor(memlimit=1 << 30), 0
    for number in range(parts):
        with (source / f"{name}.{number:03d}").open("rb") as handle:
            while raw := handle.read(_BLOCK):
                while not expander.eof and total <= expected:
                    block = expander.decompress(raw, max_length=_BLOCK)
                    raw, total = b"", total + len(block)
                    if block:
                        yield block
                    if expander.needs_input:
                        break
    if not expander.eof:
        raise EOFError

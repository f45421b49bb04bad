"""Encoded documents travel in small parts and arrive to the bit, or not at all."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import numpy as np
import pytest

from sordino_client.laboratory.pretrain.packed import SHARDS, pack_shards, unpack
from sordino_client.training.stream import SourceDocument, encode_shard, open_shard
from sordino_platform.tokenizer import Tokenizer
from sordino_privacy.errors import DataError, StorageError

PART = 2_000


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    draw = np.random.default_rng(0)
    for name in SHARDS:
        texts = [
            "".join(f"int f{draw.integers(999)} = {draw.integers(9)};\n" for _ in range(99))
            for _ in range(30)
        ]
        documents = [
            SourceDocument(project="p", path=f"{n}.java", language="java", text=text)
            for n, text in enumerate(texts)
        ]
        encode_shard(documents, Tokenizer.shipped(), folder / name)
    return folder


@pytest.fixture
def packing(tmp_path: Path, data: Path) -> Path:
    parts = pack_shards(data, tmp_path / "packed", part_bytes=PART)
    assert parts["training"] > 3
    sizes = [path.stat().st_size for path in (tmp_path / "packed").glob("training.*")]
    assert max(sizes) == PART
    assert len(sizes) == parts["training"]
    return tmp_path / "packed"


def test_what_is_unpacked_is_what_was_packed_and_smaller_on_the_way(
    tmp_path: Path, data: Path, packing: Path
) -> None:
    unpack(packing, tmp_path / "there")
    for name in SHARDS:
        for file in ("shard.json", "index.npz", "tokens.bin"):
            assert (tmp_path / "there" / name / file).read_bytes() == (data / name / file).read_bytes()
        shard = open_shard(tmp_path / "there" / name, Tokenizer.shipped())
        assert shard is not None
        assert isinstance(shard.tokens, np.memmap)  # mapped, not read
    travelled = sum(path.stat().st_size for path in packing.iterdir())
    assert travelled < 0.7 * sum((data / name / "tokens.bin").stat().st_size for name in SHARDS)


def test_what_is_there_already_is_left_alone(tmp_path: Path, packing: Path) -> None:
    unpack(packing, tmp_path / "there")
    before = (tmp_path / "there" / "training" / "tokens.bin").stat().st_mtime_ns
    unpack(packing, tmp_path / "there")
    assert (tmp_path / "there" / "training" / "tokens.bin").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "fault", ["missing", "cut", "changed", "swapped", "more", "no list", "another digest"]
)
def test_a_packing_that_is_not_whole_is_refused_and_leaves_nothing(
    tmp_path: Path, packing: Path, fault: str
) -> None:
    part, other, listed = packing / "training.001", packing / "training.002", packing / "shards.json"
    match fault:
        case "missing":
            part.unlink()
        case "cut":
            part.write_bytes(part.read_bytes()[:-5])
        case "changed":
            raw = bytearray(part.read_bytes())
            raw[PART // 2] ^= 1
            part.write_bytes(raw)
        case "swapped":
            first = part.read_bytes()
            part.write_bytes(other.read_bytes())
            other.write_bytes(first)
        case "more":
            about = json.loads(listed.read_text())
            about["shards"]["training"]["sizes"]["tokens.bin"] -= 2
            listed.write_text(json.dumps(about))
        case "no list":
            listed.unlink()
        case _:
            about = json.loads(listed.read_text())
            about["shards"]["training"]["sha256"] = "00" * 32
            listed.write_text(json.dumps(about))
    with pytest.raises(StorageError, match="not whole"):
        unpack(packing, tmp_path / "there")
    assert not list((tmp_path / "there").glob("**/tokens.bin"))


def test_a_bomb_ends_at_the_size_that_was_announced(tmp_path: Path, packing: Path) -> None:
    for part in packing.glob("training.*"):
        part.unlink()
    (packing / "training.000").write_bytes(lzma.compress(bytes(1 << 26)))
    about = json.loads((packing / "shards.json").read_text())
    about["shards"]["training"]["parts"] = 1
    (packing / "shards.json").write_text(json.dumps(about))
    with pytest.raises(StorageError, match="not whole"):
        unpack(packing, tmp_path / "there")


def test_packing_before_encoding_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no encoded documents"):
        pack_shards(tmp_path, tmp_path / "packed")

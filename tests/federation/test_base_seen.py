"""A base is read whole once for each change of its files, and a damaged one is a reason before a round."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from sordino_client.round import base_seen
from sordino_client.round.base_seen import NOTE, require_same_base
from sordino_platform.bases.registry import digest_at
from sordino_privacy.errors import ConfigurationError, StorageError


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(save({"weight": np.arange(64, dtype=np.float32)}))
    return folder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Each reading of a whole base."""
    found: list[Path] = []
    honest: Callable[[Path], str] = digest_at

    def counted(place: Path) -> str:
        found.append(place)
        return honest(place)

    monkeypatch.setattr(base_seen, "digest_at", counted)
    return found


def test_a_base_is_read_once_and_again_after_each_change(
    base: Path, tmp_path: Path, reads: list[Path]
) -> None:
    wanted = digest_at(base)
    for _ in range(3):
        require_same_base(tmp_path, base, wanted)
    assert len(reads) == 1
    assert (tmp_path / NOTE).stat().st_mode & 0o777 == 0o600
    weights = base / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # one bit, the same length
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="it was changed or damaged"):
            require_same_base(tmp_path, base, wanted)
    assert len(reads) == 2
    weights.write_bytes(whole)
    require_same_base(tmp_path, base, wanted)
    assert len(reads) == 3


def test_a_file_that_was_exchanged_under_its_old_time_is_read(
    base: Path, tmp_path: Path, reads: list[Path]
) -> None:
    import os

    wanted, weights = digest_at(base), base / "model.safetensors"
    require_same_base(tmp_path, base, wanted)
    before = weights.stat()
    other = base.parent / "other"
    other.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(weights)
    assert weights.stat().st_mtime_ns == before.st_mtime_ns
    with pytest.raises(ConfigurationError, match="changed or damaged"):
        require_same_base(tmp_path, base, wanted)


def test_a_base_that_is_gone_and_a_note_that_is_damaged(
    base: Path, tmp_path: Path, reads: list[Path]
) -> None:
    wanted = digest_at(base)
    require_same_base(tmp_path, base, wanted)
    (tmp_path / NOTE).write_text("{}")
    require_same_base(tmp_path, base, wanted)
    assert len(reads) == 2
    base.rename(tmp_path / "elsewhere")
    with pytest.raises((ConfigurationError, StorageError)):
        require_same_base(tmp_path, base, wanted)

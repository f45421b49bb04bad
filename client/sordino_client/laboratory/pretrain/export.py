"""Turns a checkpoint into the package data that ships: the weights and their card."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import save as save_arrays
from safetensors.torch import save

from sordino_client.laboratory.pretrain.directions import adapter_directions
from sordino_client.laboratory.pretrain.model_card import render
from sordino_client.laboratory.pretrain.vocabulary import data_folder
from sordino_client.training import checkpoint, curve
from sordino_client.training.stream import open_shard
from sordino_platform.architecture import SIZES
from sordino_platform.base import FORMATS, MAX_BASE_BYTES
from sordino_platform.base.rows import compact_rows
from sordino_platform.durable import write_file
from sordino_platform.model import Decoder, parameters_of
from sordino_platform.tokenizer import Tokenizer
from sordino_privacy.errors import DataError, StorageError

TOKENS_GOAL = 50_000_000
_CURVE_POINTS = 120


def export(
    run: Path, cache: Path, target: Path, *, evaluations: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Writes weights, directions, tokenizer, `card.json` and `model-card.md` into `target`; returns the card.

    `run` is the folder of a stable run or of its decay branch, `cache` holds the corpus that it was trained on.
    `evaluations` are the outputs of `sordino eval --json` for these weights, one for each role. Raises StorageError
    without a checkpoint, DataError without the corpus manifest.
    """
    progress = checkpoint.current_progress(run)
    settings = json.loads((run / "settings.json").read_text())
    tokenizer = checkpoint.tokenizer_of(run)
    config = replace(SIZES[settings["size"]], vocabulary=tokenizer.size)
    model = Decoder(config)
    checkpoint.load(run, model)
    manifest_path = cache / "public.json"
    if not manifest_path.is_file():
        raise DataError("the public corpus has no manifest", hint="run: sordino corpus fetch public")
    manifest = json.loads(manifest_path.read_text())
    before_path = run / "before.json"
    before = json.loads(before_path.read_text()) if before_path.is_file() else None
    origin_path = run / "origin.json"
    decay = json.loads(origin_path.read_text())["decay"] if origin_path.is_file() else 0
    weights, form = save({n: p.detach().to(torch.float16) for n, p in model.named_parameters()}), FORMATS[0]
    if len(weights) > MAX_BASE_BYTES:
        weights, form = save_arrays(compact_rows(parameters_of(model))), FORMATS[1]
    if len(weights) > MAX_BASE_BYTES:
        raise StorageError(f"the weights take {len(weights) >> 20} MiB, over the bound of what ships")
    own = None if tokenizer.digest == Tokenizer.shipped().digest else tokenizer.size
    shard = open_shard(data_folder(cache, own) / "training", tokenizer)
    if shard is None:
        raise DataError("the public corpus is not encoded", hint="run: sordino pretrain --help")
    directions = save(adapter_directions(model, shard))
    card: dict[str, Any] = {
        "format": form,
        "size": settings["size"],
        "config": asdict(config),
        "sha256": hashlib.sha256(weights).hexdigest(),
        "directions_sha256": hashlib.sha256(directions).hexdigest(),
        "tokenizer_sha256": tokenizer.digest.hex(),
        "licence": "Apache-2.0",
        "tokens_seen": progress.tokens,
        "tokens_decaying": decay,
        "tokens_goal": TOKENS_GOAL,
        "cpu_hours": round(progress.cpu_seconds / 3600, 2),
        "recipe": settings,
        "corpus": {
            "sha256": manifest["sha256"],
            "overlap_left": manifest["overlap_left"],
            "projects": [
                {key: project[key] for key in ("name", "version", "licence", "files", "characters")}
                for project in manifest["projects"]
            ],
        },
        "before": before,
        "curve": _thin(curve.read(run / "log.jsonl")),
        "evaluation": next((report for report in evaluations if report["role"] == "heldout"), {}),
        "other_evaluations": {r["role"]: r for r in evaluations if r["role"] != "heldout"},
    }
    target.mkdir(parents=True, exist_ok=True)
    write_file(target / "tokenizer.json", tokenizer.to_json().encode())
    write_file(target / "base.safetensors", weights)
    write_file(target / "directions.safetensors", directions)
    write_file(target / "card.json", json.dumps(card, indent=1).encode() + b"\n")
    write_file(target / "model-card.md", render(card).encode())
    return card


def _thin(entries: list[dict[str, float]]) -> list[dict[str, float]]:
    """All measurements on the validation windows, and enough of the other entries to draw the curve."""
    every = max(1, len(entries) // _CURVE_POINTS)
    kept = [e for i, e in enumerate(entries) if i % every == 0 or "validation" in e]
    return [{k: round(v, 4) for k, v in e.items() if k in ("tokens", "loss", "validation")} for e in kept]

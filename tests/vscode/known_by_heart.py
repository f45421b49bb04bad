"""A small base that knows one text by heart: random llama, trained on nothing else until it can go on from anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from tests.completion import foreign_bases

WINDOW, STEPS = 96, 150


def write_base(folder: Path, text: str) -> Path:
    """Writes it as such folders are published. Takes some seconds."""
    foreign_bases.write(folder, "llama")
    ids = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids
    whole = torch.tensor([foreign_bases.END, *ids])
    torch.manual_seed(0)
    maker: Any = transformers.AutoModelForCausalLM
    model = maker.from_config(foreign_bases.CONFIGS["llama"]())
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(STEPS):
        starts = torch.randint(0, max(1, len(whole) - WINDOW), (8,))
        rows = torch.stack([whole[start : start + WINDOW] for start in starts.tolist()])
        model(input_ids=rows, labels=rows).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    model.save_pretrained(folder, safe_serialization=True)
    return folder

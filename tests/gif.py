"""Animated GIFs that are small enough for a README."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

MOST_BYTES = 1_500_000
"""Above this a README is slow to open."""


def save_gif(
    path: Path, frames: Sequence[Image.Image], milliseconds: Sequence[int], *, palette: Image.Image
) -> None:
    """Writes `frames`, each shown for its `milliseconds`, in the colours of `palette` (a picture of mode P)."""
    assert len(frames) > 1, "nothing moved"
    few = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    few[0].save(
        path,
        save_all=True,
        append_images=few[1:],
        duration=list(milliseconds),
        loop=0,
        optimize=True,
        disposal=1,
    )
    assert path.stat().st_size < MOST_BYTES, f"{path} has {path.stat().st_size} bytes"

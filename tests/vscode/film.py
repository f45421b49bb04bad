"""Moving pictures of what a person sees: screenshots of the real editor, one after the other, as an animated GIF.

They are made by the tests that look at the same scenes, into artefacts/; `make pictures` puts them into docs/images.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageChops
from tests.vscode.editor import Editor

COLOURS = 64
MOST_BYTES = 1_500_000
"""Above this a README is slow to open."""


@dataclass(slots=True)
class Film:
    """A film of one part of the page: `left`, `top`, `width`, `height` in pixels."""

    editor: Editor
    part: tuple[int, int, int, int]
    _frames: list[Image.Image] = field(default_factory=list)
    _milliseconds: list[int] = field(default_factory=list)

    def take(self, milliseconds: int) -> None:
        """One picture, shown for so long. What looks like the one before it only stands longer."""
        taken = Image.open(io.BytesIO(self.editor.picture_of(*self.part))).convert("RGB")
        if self._frames and ImageChops.difference(self._frames[-1], taken).getbbox() is None:
            self._milliseconds[-1] += milliseconds
            return
        self._frames.append(taken)
        self._milliseconds.append(milliseconds)

    def type(self, text: str, *, milliseconds: int = 90) -> None:
        """Types key by key; a picture of each."""
        for letter in text:
            self.editor.type(letter)
            self.take(milliseconds)

    def press(self, *keys: str, milliseconds: int = 400) -> None:
        """Presses keys; a picture of each."""
        for key in keys:
            self.editor.press(key)
            self.take(milliseconds)

    def save(self, path: Path, *, longest: int | None = None) -> None:
        """Writes the GIF. No picture stands for more than `longest` milliseconds."""
        assert len(self._frames) > 1, "nothing moved"
        palette = self._frames[-1].quantize(COLOURS)
        frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in self._frames]
        shown = [min(one, longest) if longest else one for one in self._milliseconds]
        frames[0].save(
            path, save_all=True, append_images=frames[1:], duration=shown, loop=0, optimize=True, disposal=1
        )
        assert path.stat().st_size < MOST_BYTES

"""Moving pictures of what a person sees: screenshots of the real editor, one after the other, as an animated GIF.

They are made by the tests that look at the same scenes, into artefacts/; `make pictures` puts them into docs/images.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageChops
from tests.gif import save_gif
from tests.vscode.editor import Editor

COLOURS = 64


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
        shown = [min(one, longest) if longest else one for one in self._milliseconds]
        save_gif(path, self._frames, shown, palette=self._frames[-1].quantize(COLOURS))

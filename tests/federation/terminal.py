"""A program in a real terminal, recorded byte by byte, and the moving picture of it.

A shell runs on a pseudo-terminal of its own; what is typed goes in as a person's keys do. The picture is drawn from
the recorded bytes by a terminal emulator (pyte), quicker than they came, and with nothing added or left out.
"""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import itertools
import json
import math
import os
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import matplotlib as mpl
import pyte
from PIL import Image, ImageChops, ImageColor, ImageDraw, ImageFont
from tests.gif import save_gif

MARK: Final = b"\x1b]133;A\x07"
"""What terminals call the start of a prompt (OSC 133): it is waited for, whatever the prompt itself looks like."""
KEY_SECONDS: Final = 0.12
FONT_PIXELS, MARGIN, SHADES = 13, 10, 6
PAPER: Final = "#1b1f24"
COLOURS: Final = {
    "default": "#d5dae0", "black": "#6e7681", "red": "#ff7b72", "green": "#56d364", "brown": "#e3b341",
    "blue": "#79c0ff", "magenta": "#d2a8ff", "cyan": "#56d4dd", "white": "#f0f6fc",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What a terminal of `columns` by `lines` was sent: seconds since its start, and bytes. `code`: how it ended."""

    columns: int
    lines: int
    written: tuple[tuple[float, bytes], ...]
    code: int

    def text(self) -> str:
        """Everything that was written, with the terminal's commands in it."""
        return b"".join(data for _, data in self.written).decode("utf-8", "replace")

    def seconds(self) -> float:
        """How long it took."""
        return self.written[-1][0]

    def cast(self) -> str:
        """As asciinema plays it (asciicast, version 2)."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        rows: list[object] = [{"version": 2, "width": self.columns, "height": self.lines}]
        rows += [[round(at, 3), "o", decoder.decode(data)] for at, data in self.written]
        return "".join(json.dumps(row) + "\n" for row in rows)


def record(
    typed: str, *, folder: Path, columns: int, lines: int, path: Path, seconds: float, **environment: str
) -> Recording:
    """Types one line into a shell in `folder`, waits for the prompt behind it, and leaves the shell.

    `path` is searched for commands first; the whole takes at most `seconds`.
    """
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    given = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("COLUMNS", "LINES"))},
        "PATH": f"{path}:{os.environ['PATH']}",
        "PS1": r"\[\e]133;A\a\]$ ",
        "TERM": "xterm-256color",
        **environment,
    }
    shell = ["setsid", "--ctty", "--wait", "bash", "--norc", "--noprofile", "--noediting", "-i"]
    began, written = time.monotonic(), list[tuple[float, bytes]]()
    with subprocess.Popen(shell, cwd=folder, env=given, stdin=slave, stdout=slave, stderr=slave) as running:
        os.close(slave)

        def until(prompts: int) -> None:
            while b"".join(data for _, data in written).count(MARK) < prompts:
                left = began + seconds - time.monotonic()
                assert left > 0, "the prompt did not come back"
                if select.select([master], [], [], left)[0]:
                    written.append((time.monotonic() - began, os.read(master, 1 << 16)))

        try:
            until(1)
            for key in typed + "\n":
                os.write(master, key.encode())
                time.sleep(KEY_SECONDS)
            until(2)
            os.write(master, b"exit\n")  # with the status of the line before; not in the picture
            code = running.wait(30)
        finally:
            with contextlib.suppress(ProcessLookupError):
                running.kill()
            os.close(master)
    return Recording(columns=columns, lines=lines, written=tuple(written), code=code)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a recording is shown. From the first line on `times` as quick as it was; what is typed before, as it was.

    In seconds: the shortest and the longest that a picture stands, a picture of what scrolls by, which comes every so
    many lines, and the last picture.
    """

    times: float
    shortest: float = 0.2
    longest: float = 1.5
    scrolled: float = 0.45
    lines: int = 3
    last: float = 6.0


def draw(recording: Recording, path: Path, pace: Pace) -> int:
    """Writes a GIF and returns its number of pictures."""
    screen, pictures = _Screen(recording.columns, recording.lines), _Pictures()
    stream, began, quicker = pyte.ByteStream(screen), 0.0, 1.0
    scrolled = itertools.count(1)

    def scrolls() -> None:
        if next(scrolled) % pace.lines == 0:
            pictures.take(screen, pace.scrolled)

    screen.scrolls = scrolls
    ends = [at for at, _ in recording.written[1:]] + [math.inf]
    for (_, data), end in zip(recording.written, ends, strict=True):
        quicker = pace.times if b"\n" in data else quicker
        stream.feed(data)
        passed = (end - began) / quicker
        if passed >= pace.shortest:  # what follows sooner is drawn with it
            pictures.take(screen, min(passed, pace.longest))
            began = end
    pictures.milliseconds[-1] = int(1000 * pace.last)
    save_gif(path, pictures.frames, pictures.milliseconds, palette=_palette())
    return len(pictures.frames)


class _Screen(pyte.Screen):
    """Says before a line scrolls out of sight."""

    scrolls: Callable[[], None]

    def index(self) -> None:
        if self.cursor.y == self.lines - 1:
            self.scrolls()
        super().index()


class _Pictures:
    """Pictures of a screen, each drawn over the one before where it changed."""

    def __init__(self) -> None:
        folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
        self._plain, self._bold = (
            ImageFont.truetype(folder / name, FONT_PIXELS)
            for name in ("DejaVuSansMono.ttf", "DejaVuSansMono-Bold.ttf")
        )
        self._width, self._height = round(self._plain.getlength("M")), sum(self._plain.getmetrics())
        self.frames: list[Image.Image] = []
        self.milliseconds: list[int] = []

    def take(self, screen: pyte.Screen, seconds: float) -> None:
        """One picture, shown for so long. What looks like the one before it only stands longer."""
        picture = self._drawn(screen)
        if self.frames and ImageChops.difference(self.frames[-1], picture).getbbox() is None:
            self.milliseconds[-1] += int(1000 * seconds)
            return
        self.frames.append(picture)
        self.milliseconds.append(int(1000 * seconds))

    def _drawn(self, screen: pyte.Screen) -> Image.Image:
        size = (screen.columns * self._width + 2 * MARGIN, screen.lines * self._height + 2 * MARGIN)
        picture = self.frames[-1].copy() if self.frames else Image.new("RGB", size, PAPER)
        pen = ImageDraw.Draw(picture)
        for line in screen.dirty if self.frames else range(screen.lines):
            top = MARGIN + line * self._height
            pen.rectangle((0, top, size[0], top + self._height - 1), fill=PAPER)
            for column in range(screen.columns):
                cell = screen.buffer[line][column]
                if cell.data.strip():
                    pen.text(
                        (MARGIN + column * self._width, top), cell.data, fill=_colour(cell.fg),
                        font=self._bold if cell.bold else self._plain,
                    )  # fmt: skip
        screen.dirty.clear()
        return picture


def _palette() -> Image.Image:
    """The paper, and each colour in steps from it: letters have soft edges. Chosen, and not found in the pictures,
    because a colour that only one word has would be lost there."""
    paper = ImageColor.getrgb(PAPER)
    values = list(paper)
    for colour in map(ImageColor.getrgb, COLOURS.values()):
        for step in range(1, SHADES + 1):
            values += [round(a + (b - a) * step / SHADES) for a, b in zip(paper, colour, strict=True)]
    palette = Image.new("P", (1, 1))
    palette.putpalette(values)
    return palette


def _colour(name: str) -> str:
    """A terminal's colour on dark paper; bright ones are as bright as the others. Raises KeyError."""
    return COLOURS[name.removeprefix("bright")]

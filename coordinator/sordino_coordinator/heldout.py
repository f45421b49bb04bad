"""The public code that measures each release. It is the coordinator's own, from folders that its operator names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sordino_platform.evaluation.loss import Encodes, Scored
from sordino_privacy.errors import DataError

SUFFIXES = frozenset(
    {".py", ".java", ".kt", ".go", ".rs", ".c", ".h", ".cpp", ".js", ".ts", ".rb", ".scala", ".cs"}
)
MAX_FILE_BYTES = 256 << 10
# A measurement reads this much of a file at least, in tokens: a context of the model that ships.
PASSAGE_TOKENS = 512
BYTES_PER_TOKEN = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Heldout:
    """Passages that are read once, in a fixed order; `tokens` bounds what a measurement reads.

    A model that gets better for one project can get worse for another, so the passages come from as many files as the
    tokens allow, evenly spread over the sorted list, each from the middle of its file, past licence and imports.
    """

    texts: tuple[str, ...]
    tokens: int

    @classmethod
    def read(cls, folders: Sequence[Path], *, tokens: int) -> Heldout:
        """Passages of the source files of `folders`. Raises DataError when there is none."""
        found = sorted(path for folder in folders for path in folder.rglob("*") if usable(path))
        count = min(len(found), max(1, tokens // PASSAGE_TOKENS))
        chosen = [found[(2 * number + 1) * len(found) // (2 * count)] for number in range(count)]
        texts = tuple(
            passage(path.read_text(encoding="utf-8", errors="replace"), tokens // count * BYTES_PER_TOKEN)
            for path in chosen
        )
        if not texts:
            raise DataError(
                f"no source files to measure the model with in {', '.join(map(str, folders))}",
                hint="set `heldout` in coordinator.toml to folders of public code",
            )
        return cls(texts=texts, tokens=tokens)

    def loss(self, model: Scored, tokenizer: Encodes) -> float:
        """Held-out loss in nats per token."""
        from sordino_platform.evaluation import heldout_loss  # numpy's weight, for who measures only

        return float(heldout_loss(model, tokenizer, self.texts, max_tokens=self.tokens))


def passage(text: str, length: int) -> str:
    """At most `length` characters from the middle of `text`, from the start of a line where one begins there."""
    start = max(0, (len(text) - length) // 2)
    line = text.find("\n", start, start + length // 2) + 1 if start else 0
    return text[line or start : start + length]


def usable(path: Path) -> bool:
    """A regular source file of ordinary size; links are not followed."""
    return (
        path.suffix in SUFFIXES
        and not path.is_symlink()
        and path.is_file()
        and 200 <= path.stat().st_size <= MAX_FILE_BYTES
    )

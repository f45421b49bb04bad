"""The frozen description of a base, the same for every source. Other modules read it without loading the base."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sordino_platform.bases.memory import MemoryShape
from sordino_platform.bases.middle import FillInTheMiddle

Kind = Literal["shipped", "folder", "gguf", "package"]
SHIPPED = "shipped"
# The longest window that is served: a laptop can hold its cache, and a person can wait until it is read.
SERVED_CONTEXT = 1536


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """One base, described from its configuration, tokenizer and file headers; no weight was read.

    name          how people call it
    kind          where it comes from: `shipped`, a `folder` of Hugging Face's form, a `gguf` file, a `package`
    architecture  `sordino` for the base that ships, else the family that transformers knows: llama, qwen2, ...
    digest        SHA-256 that a charter names, in hexadecimal (see `folder.py` and `gguf_file.py`)
    licence       an SPDX identifier, or the words of who added it
    context       in tokens
    vocabulary    rows of the output layer
    end           the token that closes a document
    begin         the token that every text begins with, where the base was trained with one; else None
    middle        how it fills in the middle; None: it completes from the prefix alone
    shape         what its memory follows from
    place         the folder, or the GGUF file; None for the base that ships
    """

    name: str
    kind: Kind
    architecture: str
    digest: str
    licence: str
    context: int
    vocabulary: int
    end: int
    begin: int | None
    middle: FillInTheMiddle | None
    shape: MemoryShape
    place: Path | None = field(default=None)

    @property
    def gguf(self) -> Path | None:
        """The GGUF file, which a server may run unchanged; None when the base is not one."""
        return self.place if self.kind in ("gguf", "package") else None

    def training_bytes(self, *, window: int = 256) -> int:
        """Memory of a trainer of adapters that takes one window at a time and keeps only each layer's input."""
        return self.shape.training_bytes(tokens=min(window, self.context), checkpointing=True)

    def serving_bytes(self) -> int:
        """Memory of a server of this base."""
        return self.shape.serving_bytes(context=min(self.context, SERVED_CONTEXT))

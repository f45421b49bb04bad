"""Bases: any causal language model that a federation can train adapters on, with one interface for all.

base         `Base`: what is known of one without loading it
registry     names, and how a name is turned into a base and into a folder with its weights
folder       a folder in Hugging Face's form        gguf_*, dequantised   a GGUF file
package      a Python package that ships one        middle, memory        fill-in-the-middle, estimates

>>> base = find_base("smollm2")         # or "shipped", a name that was added, a folder, a .gguf file
>>> base.digest, base.context, base.middle, base.serving_bytes()
>>> folder = open_folder(base)          # float32 or bfloat16 safetensors, config.json, tokenizer.json
>>> base.gguf                           # the file itself, for a server that runs it as it is; or None
"""

from sordino_platform.bases.base import SHIPPED, Base, Kind
from sordino_platform.bases.middle import FillInTheMiddle
from sordino_platform.bases.registry import (
    add,
    bases,
    bases_folder,
    digest_at,
    find_base,
    find_by_digest,
    folder_at,
    known_name,
    open_folder,
    remove,
    shape_at,
    tokenizer_at,
)

__all__ = [
    "SHIPPED",
    "Base",
    "FillInTheMiddle",
    "Kind",
    "add",
    "bases",
    "bases_folder",
    "digest_at",
    "find_base",
    "find_by_digest",
    "folder_at",
    "known_name",
    "open_folder",
    "remove",
    "shape_at",
    "tokenizer_at",
]

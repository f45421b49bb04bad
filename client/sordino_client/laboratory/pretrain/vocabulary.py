"""A vocabulary learnt from the base's own mixture of languages, for a base that is trained from scratch.

The one that ships was learnt from Java and Python. On code of the tuning lists it reads 2.58 bytes of Go and 3.10 of
TypeScript per token; one of 4,096 learnt here reads 2.79 and 3.30, one of 8,192 3.04 and 3.64, and Java 3.86 instead of
3.58. A run that continues from weights keeps their vocabulary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from sordino_client.training.stream import MIXTURE, SourceDocument, kind_of
from sordino_platform.durable import make_folder, write_file
from sordino_platform.tokenizer import Tokenizer
from sordino_privacy.errors import DataError

SAMPLE_CHARACTERS = 28_000_000
_ONE_IN = 6


def data_folder(cache: Path, vocabulary: int | None) -> Path:
    """The folder of the encoded corpus: next to it for the shipped vocabulary (None), otherwise a separate folder."""
    return cache if vocabulary is None else cache / f"vocabulary-{vocabulary}"


def learn_once(documents: Iterable[SourceDocument], folder: Path, vocabulary: int) -> Tokenizer:
    """The tokenizer of `folder`, learnt from a sample of `documents` in the mixture's shares, unless it exists.

    The sample depends only on the documents' names. Raises DataError for a corpus that is too small.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        room = [share * SAMPLE_CHARACTERS for share in MIXTURE]
        texts = []
        for document in documents:
            place = hashlib.sha256(f"{document.path}\n{document.project}".encode()).digest()
            kind = kind_of(document.language)
            if int.from_bytes(place[:4], "big") % _ONE_IN == 0 and room[kind] > 0:
                room[kind] -= len(document.text)
                texts.append(document.text)
        learnt = Tokenizer.train(texts, vocabulary=vocabulary)
        if learnt.size < vocabulary:
            raise DataError(
                f"the corpus holds too little text for a vocabulary of {vocabulary} tokens",
                hint="fetch the whole of it: sordino corpus fetch public",
            )
        make_folder(folder)
        write_file(path, learnt.to_json().encode())
    return Tokenizer.load(path)

"""Files with one planted credential each: every kind in every language, in contexts drawn with a seed.

Half of the kinds, half of the contexts of most languages, and all of eight languages are *held out*: the rules were
improved on the others. So only the recall on the held-out ones is unbiased.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from sordino_client.laboratory.secrets_benchmark.contexts import CodeTemplate, Language
from sordino_client.laboratory.secrets_benchmark.heldout import HELDOUT
from sordino_client.laboratory.secrets_benchmark.kinds import KINDS, CredentialKind
from sordino_client.laboratory.secrets_benchmark.languages import LANGUAGES

_LABEL = b"sordino/bench/secrets/heldout/v1\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """One file: its path, its text and its credential."""

    path: str
    kind: str
    language: str
    context: str
    heldout: bool
    new_language: bool
    text: str
    secret: str


def plant(*, seed: int, contexts_per_pair: int) -> Iterator[Planted]:
    """Every kind in every language, in up to `contexts_per_pair` contexts of it. The same seed gives the same files."""
    random = Random(seed)
    for language in LANGUAGES:
        for kind in KINDS:
            fitting = [context for context in language.contexts if _fits(kind, context)]
            for number, context in enumerate(random.sample(fitting, min(contexts_per_pair, len(fitting)))):
                yield _planted(random, language, kind, context, number)


def write(files: list[Planted], folder: Path) -> None:
    """Writes the files under `folder`."""
    for file in files:
        place = folder / file.path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(file.text)


def _fits(kind: CredentialKind, context: CodeTemplate) -> bool:
    if kind.block or context.block:
        return kind.block and context.block
    return kind.shaped or context.named or context.call


def _planted(
    random: Random, language: Language, kind: CredentialKind, context: CodeTemplate, number: int
) -> Planted:
    drawn = kind.draw(random)
    line = _named(context.template, random.choice(kind.names)).replace("$V", drawn.literal)
    folder = f"{language.name.lower()}/{kind.name}/{number}"
    name = language.suffix if not language.suffix.startswith(".") else f"ledger{language.suffix}"
    # Numbered, so that no two files have the same text after their credentials are masked.
    mark = "<?php\n" if language.before.startswith("<?php") else ""
    body = language.before.removeprefix(mark).replace("total", f"total_{random.randrange(10**6)}")
    return Planted(
        path=f"{folder}/{name}",
        kind=kind.name,
        language=language.name,
        context=context.name,
        heldout=language in HELDOUT or _heldout(kind.name) or _heldout(context.name),
        new_language=language in HELDOUT,
        text=mark + body + line + language.after,
        secret=drawn.secret,
    )


def _named(template: str, name: str) -> str:
    words = name.split("_")
    pascal = "".join(map(str.capitalize, words))
    cases = {
        "snake": name,
        "UPPER": name.upper(),
        "kebab": "-".join(words),
        "Pascal": pascal,
        "camel": words[0] + pascal[len(words[0]) :],
    }
    return re.sub(r"\$(snake|UPPER|kebab|Pascal|camel)", lambda match: cases[match[1]], template)


def _heldout(name: str) -> bool:
    return hashlib.sha256(_LABEL + name.encode()).digest()[0] % 2 == 1

"""Reads from a package's copyright file which files may be used (Debian's machine-readable format, version 1.0).

Only the licences named here count as permissive. Files with another licence, or none, are not used for training. As the
format says, the last paragraph that matches a file decides. A text in another form, such as a project's own LICENSE
file, is for all files. Its licence is recognised by the sentence that grants the rights.

>>> parse("Format: x\\n\\nFiles: *\\nCopyright: A\\nLicense: Expat\\n").allows("src/a.go")
True
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sordino_privacy.errors import DataError

MAX_CHARACTERS = 1 << 20
# MIT under its names, BSD with two and three clauses, ISC, Apache-2.0, and public domain. `Go` is BSD-3-Clause.
_PERMISSIVE = re.compile(
    r"(?:expat|mit|x11)(?:-[a-z0-9.]+)*|isc|0bsd|bsd(?:-?[23](?:-clause)?)?(?:-[a-z]+)*|go|zlib|unlicense"
    r"|apache(?:-?2(?:\.0)?)?|apache-license-2\.0|asl-2\.0|cc0(?:-1\.0)?|public-domain|wtfpl(?:-2)?"
)
# The sentences that identify the licences' own texts, with any line breaks.
_GRANTS = {
    "MIT": "Permission is hereby granted, free of charge, to any person obtaining a copy",
    "ISC": "Permission to use, copy, modify, and(?:/or)? distribute this software for any purpose with or without fee",
    "BSD": "Redistribution and use in source and binary forms, with or without modification, are permitted",
    "Apache-2.0": "Apache License,? Version 2.0",
}
# Sentences that must not occur together with one of those: another licence, or a condition that none of them has.
_BESIDE = re.compile(
    r"\b[AL]?GPL\b|general public|mozilla public|eclipse public|creative commons|\bcommons clause"
    r"|all advertising materials|non-?commercial|\bSSPL\b|business source",
    re.IGNORECASE,
)
_FIELD = re.compile(r"^(?P<name>[A-Za-z-]+):[ \t]*(?P<value>[^\n]*(?:\n[ \t][^\n]*)*)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Copyright:
    """The paragraphs in order: which files, and whether their licence is permissive.

    `licence` is the licence of the whole package: of the paragraph `Files: *` or, if there is none, of the first
    paragraph.
    """

    licence: str
    paragraphs: tuple[tuple[re.Pattern[str], bool], ...]

    def allows(self, path: str) -> bool:
        """Whether the file at `path`, relative to the top of the source tree, has a permissive licence."""
        allowed = False
        for pattern, permissive in self.paragraphs:
            if pattern.fullmatch(path):
                allowed = permissive
        return allowed


def is_permissive(licence: str) -> bool:
    """Whether a licence expression such as `Expat or GPL-2+` has a permissive choice."""
    names = re.sub(
        r"[~ ]", "-", re.sub(r"\s+(or|and)\s+", r"|\1|", licence.strip().lower().replace(",", " "))
    )
    choices = [choice.split("|and|") for choice in names.split("|or|")]
    return any(all(_PERMISSIVE.fullmatch(name.strip("- ")) for name in choice) for choice in choices)


def parse_copyright(text: str) -> Copyright:
    """The rules of one copyright file, or of a licence's own text.

    Raises DataError if the licence of the whole package is unknown or not permissive.
    """
    if len(text) > MAX_CHARACTERS:
        raise DataError("the copyright file is larger than a megabyte")
    paragraphs: list[tuple[re.Pattern[str], bool]] = []
    whole = ""
    for block in re.split(r"\n[ \t]*\n", text):
        fields = {m["name"].lower(): m["value"] for m in _FIELD.finditer(block)}
        if "files" not in fields:
            continue
        licence = fields.get("license", "").split("\n", 1)[0].strip()
        patterns = fields["files"].split()
        if "*" in patterns or not paragraphs:
            whole = licence
        expression = re.compile("|".join(map(_expression, patterns)) or r"(?!)", re.DOTALL)
        paragraphs.append((expression, is_permissive(licence)))
    if not paragraphs and (whole := _known(text)):
        paragraphs = [(re.compile(".*", re.DOTALL), True)]
    if not is_permissive(whole):
        raise DataError(f"the copyright file names no permissive licence for the whole ({whole or 'none'})")
    return Copyright(licence=whole, paragraphs=tuple(paragraphs))


def _known(text: str) -> str:
    """The names of the licences whose texts are in `text`; empty if there is none, or another licence too."""
    flat = " ".join(text.replace("*", " ").split())
    names = [name for name, sentence in _GRANTS.items() if re.search(sentence, flat, re.IGNORECASE)]
    return "" if _BESIDE.search(flat) else " and ".join(names)


def _expression(pattern: str) -> str:
    """The format's wildcards: `*` is any characters, including slashes; `?` is one character."""
    return re.escape(pattern.removeprefix("./")).replace(r"\*", ".*").replace(r"\?", ".")

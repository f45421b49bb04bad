"""The muster: survivors say what they uploaded before anybody signs who is in the sum, so that many may stop answering.

The evidence of a sum needs a digest from each survivor, under a challenge that nobody knew when the coordinator
committed to the sum. If a survivor stops answering before it gives its digest, its whole upload is used instead, and
every other member has to download it. So at most `SILENT_LIMIT` survivors may be silent. A member that signed a set of
survivors signs no other set, so after signing it is too late to leave the silent ones out. A large cohort is therefore
mustered before it signs:

    claim   (down)   the set and its sum's hash, as in phase 4       MusterAnswer (up)   a nonce, drawn now
    Draw    (down)   all nonces, the same list for everyone          Sounding (up)   the sketch under their challenge

A muster binds nobody: the coordinator may muster another set, without those that did not answer. A member's answer is a
linear function of its masked upload, which the coordinator holds anyway. Under `update_check = "norm"` each answer also
holds a new sketch of its update's length, so a member answers at most `MOST_MUSTERS` in an attempt.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Self

from sordino_privacy.secagg.encoding import (
    HASH_BYTES,
    HEAD_BYTES,
    NAME_BYTES,
    MessageReader,
    Writer,
    require_increasing,
)
from sordino_privacy.secagg.sketch import MAX_SKETCH_BYTES, Sketch

NONCE_LAYOUT = struct.Struct(f"{HASH_BYTES}s")  # after the sender's name
PRESENCE_KIND = 17
DRAW_KIND = 18
SOUNDING_KIND = 19
SILENT_LIMIT = 16
"""How many survivors may be replaced by their uploads because they gave no sketch. Each costs every member a download
of an upload.
"""
MOST_MUSTERS = 4
MAX_PRESENCE_BYTES = HEAD_BYTES + NAME_BYTES + HASH_BYTES
MAX_SOUNDING_BYTES = HEAD_BYTES + MAX_SKETCH_BYTES

Nonces = tuple[tuple[str, bytes], ...]


def write_nonces(writer: Writer, nonces: Nonces) -> None:
    """A list of names, each with its nonce."""
    writer.u16(len(nonces))
    for name, nonce in nonces:
        writer.name(name).raw(nonce)


def read_nonces(reader: MessageReader) -> Nonces:
    """The list that `write_nonces` wrote. Raises MalformedError."""
    read = [reader.named(NONCE_LAYOUT) for _ in range(reader.count())]
    nonces = tuple((name, nonce) for name, (nonce,) in read)
    require_increasing(tuple(name for name, _ in nonces))
    return nonces


@dataclass(frozen=True, slots=True, kw_only=True)
class MusterAnswer:
    """A survivor's answer to a claim that it is mustered for. It is not signed, because each survivor looks for its own
    nonce in the draw.
    """

    sender: str
    nonce: bytes

    def encode(self) -> bytes:
        return Writer(PRESENCE_KIND).name(self.sender).raw(self.nonce).done()

    @classmethod
    def decode(cls, message: bytes) -> Self:
        """Raises MalformedError."""
        reader = MessageReader(message, PRESENCE_KIND)
        presence = cls(sender=reader.name(), nonce=reader.raw(HASH_BYTES))
        reader.end()
        return presence


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """All nonces of a muster. Together with the claim they make its challenge."""

    roster_hash: bytes
    nonces: Nonces

    def encode(self) -> bytes:
        writer = Writer(DRAW_KIND).raw(self.roster_hash)
        write_nonces(writer, self.nonces)
        return writer.done()

    @classmethod
    def decode(cls, message: bytes) -> Self:
        """Raises MalformedError."""
        reader = MessageReader(message, DRAW_KIND)
        draw = cls(roster_hash=reader.raw(HASH_BYTES), nonces=read_nonces(reader))
        reader.end()
        return draw


def sounding(sketch: Sketch) -> bytes:
    """A sketch as a message of its own."""
    writer = Writer(SOUNDING_KIND)
    sketch.write(writer)
    return writer.done()


def sketch_of(message: bytes) -> Sketch:
    """The sketch of a `sounding`. Raises MalformedError."""
    reader = MessageReader(message, SOUNDING_KIND)
    sketch = Sketch.read(reader)
    reader.end()
    return sketch

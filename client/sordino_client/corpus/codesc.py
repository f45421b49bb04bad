"""Reader for CoDesc (Hasan et al. 2021, "CoDesc: A Large Code-Description Parallel Dataset"): Java methods with words.

`CoDesc.json` is one JSON array of 4.2 million objects (several gigabytes), so it is streamed object by object. Its
preprocessed parts are JSON Lines, often gzipped. Both are read, and told apart by their first character.

Fields, in order of preference (the first one that is a non-empty string, or a list of strings to be joined by spaces):

* method: `original_code` (as the source had it), `original_string`, `code` (tokenised, sub-word split, lower-cased);
* description: `original_nl`, `docstring`, `nl`;
* place: `src`, `src_div` and `id`, with `partition` and the record's number when they are missing.

The text is the method under its description as a Javadoc comment, as a Java file would hold it. A record without a
method is counted as unreadable; unknown fields are ignored.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from sordino_client.corpus.policy import ExclusionReason
from sordino_privacy.errors import DataError

_METHOD = ("original_code", "original_string", "code")
_DESCRIPTION = ("original_nl", "docstring", "nl")
_CHUNK = 1 << 20  # characters
_MAXIMUM_RECORD = 1 << 24  # characters: a larger object is no method
_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"\s*")
_NOT_A_NAME = re.compile(r"[^\w.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One record, as the Java text that is trained on."""

    path: str
    text: str = field(repr=False)


def read_methods(file: Path, *, maximum_bytes: int) -> Iterator[Method | ExclusionReason]:
    """Yield each record of a CoDesc file as a Method, or the reason why it is left out.

    Raises DataError when the file cannot be read or is not JSON; memory stays bounded by the largest record.
    """
    try:
        with _open(file) as stream:
            for number, record in enumerate(_records(stream, file)):
                yield _method(record, number, maximum_bytes)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot read {file}: {_cause(error)}", hint="check that the file is whole"
        ) from error


def _cause(error: OSError | EOFError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    if isinstance(error, (EOFError, gzip.BadGzipFile)):
        return "its compression is damaged"
    return (error.strerror or "error").lower()


def _open(file: Path) -> IO[str]:
    regular = file.is_file()  # a FIFO would wait for a writer
    if regular and file.name.endswith((".json", ".jsonl", ".ndjson")):
        return file.open(encoding="utf-8-sig")
    if regular and file.name.endswith((".json.gz", ".jsonl.gz", ".ndjson.gz")):
        return gzip.open(file, "rt", encoding="utf-8-sig")
    raise DataError(
        f"{file} is neither a folder nor a CoDesc file",
        hint="give a folder of source code, or a file ending in .json, .jsonl or .jsonl.gz",
    )


def _records(stream: IO[str], file: Path) -> Iterator[object]:
    """The values of a JSON array, or of one JSON text behind the other (JSON Lines), decoded one at a time."""
    buffer = stream.read(_CHUNK)
    position = _skip_space(buffer, 0)
    if buffer.startswith("[", position):
        position += 1
    ended = not buffer
    while True:
        position = _skip_space(buffer, position)
        if buffer.startswith(",", position):
            position = _skip_space(buffer, position + 1)
        value: object = None
        end = -1
        if position < len(buffer) and buffer[position] != "]":
            try:
                value, end = _DECODER.raw_decode(buffer, position)
            except json.JSONDecodeError as error:
                if ended or len(buffer) - position > _MAXIMUM_RECORD:
                    raise DataError(
                        f"{file} is not a JSON array or JSON Lines", hint="check that the file is whole"
                    ) from error
            except RecursionError as error:
                raise DataError(f"{file} nests JSON too deeply") from error
        elif ended or position < len(buffer):
            return  # the closing bracket, or the end of the lines
        # A value at the end of the buffer may continue in the next one (numbers): more is read before it counts as
        # whole.
        if end >= 0 and (end < len(buffer) or ended):
            yield value
            position = end
        else:
            more = stream.read(_CHUNK)
            ended = not more
            buffer = buffer[position:] + more
            position = 0


def _skip_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found is not None else position


def _method(record: object, number: int, maximum_bytes: int) -> Method | ExclusionReason:
    if not isinstance(record, dict):
        return ExclusionReason.UNREADABLE
    code = _first_text(record, _METHOD)
    if not code:
        return ExclusionReason.UNREADABLE
    description = _first_text(record, _DESCRIPTION)
    text = (_javadoc(description) if description else "") + code + "\n"
    if len(text) > maximum_bytes:
        return ExclusionReason.SIZE
    if "\0" in text:
        return ExclusionReason.BINARY
    folder = "/".join(_label(record.get(key)) or "records" for key in ("src", "src_div") if key in record)
    folder = folder or _label(record.get("partition")) or "records"
    return Method(path=f"{folder}/{_label(record.get('id')) or number}.java", text=text)


def _first_text(record: dict[str, object], names: tuple[str, ...]) -> str:
    for name in names:
        value = record.get(name)
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            value = " ".join(value)
        if isinstance(value, str) and (text := value.replace("\r\n", "\n").replace("\r", "\n").strip()):
            return text
    return ""


def _label(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return ""
    return _NOT_A_NAME.sub("-", str(value)).strip("-.")[:80]


def _javadoc(description: str) -> str:
    if description.startswith(("/*", "//")):
        return description + "\n"
    lines = description.replace("*/", "* /").split("\n")
    return "/**\n" + "".join(f" * {line.strip()}".rstrip() + "\n" for line in lines) + " */\n"

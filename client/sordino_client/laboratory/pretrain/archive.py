"""Reads source files from untrusted archives: nothing is ever unpacked to disk.

Members are read one by one in memory. A link, a device, an absolute name, a name with `..`, a file over the size bound,
a file that is not UTF-8, and everything beyond the archive's own bounds are skipped and counted. So no archive can
write anywhere, and a compression bomb stops at the bound.
"""

from __future__ import annotations

import re
import stat
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from lzma import LZMAError
from pathlib import Path, PurePosixPath

from sordino_privacy.errors import DataError

LANGUAGES = {
    ".java": "java",
    ".py": "python",
    ".go": "go",
    **dict.fromkeys((".ts", ".tsx", ".mts", ".cts"), "typescript"),
    **dict.fromkeys((".js", ".jsx", ".mjs", ".cjs"), "javascript"),
}
# In Go and JavaScript: vendored code of other projects, and the output of builds and test runs.
_FOREIGN = frozenset({"node_modules", "vendor", "third_party", "dist", "baselines", "fixtures", "testdata"})
_LICENCE_FILE = re.compile(r"(?:licen[cs]e|copying)[-.\w]*", re.IGNORECASE)
MAX_FILE_BYTES = 512 * 1024
MAX_ARCHIVE_BYTES = 1 << 30
MAX_MEMBERS = 400_000


def language_of(name: str) -> str | None:
    """The language of a file by its suffix, or None for a file that is not read. Raises nothing."""
    path = PurePosixPath(name)
    # package-info and module-info hold only a licence and one sentence.
    if path.name in ("package-info.java", "module-info.java"):
        return None
    language = LANGUAGES.get(path.suffix)
    if language in ("go", "typescript", "javascript") and (
        _FOREIGN & set(path.parts) or path.name.endswith((".d.ts", ".min.js", ".min.mjs"))
    ):
        return None
    return language


def is_safe(name: str) -> bool:
    """Whether a member's name stays inside the archive's own folder."""
    return (
        bool(name) and not name.startswith("/") and ".." not in PurePosixPath(name).parts and "\0" not in name
    )


def read_archive(
    path: Path, skipped: Counter[str], languages: frozenset[str] = frozenset(LANGUAGES.values())
) -> Iterator[tuple[str, str, str]]:
    """Yields `(name, language, text)` of each file of a tar or zip archive in `languages`, in the archive's order.

    `skipped` counts what was left out, by reason. Raises DataError for an archive that cannot be read.
    """
    read = _read_zip if path.suffix in (".whl", ".zip") else _read_tar
    members = read(path, skipped, languages)
    try:
        for name, language, raw in members:
            text = decode_source(raw)
            if text is None:
                skipped["not text"] += 1
            else:
                yield name, language, text
    except (tarfile.TarError, zipfile.BadZipFile, LZMAError, zlib.error, EOFError, OSError) as error:
        raise DataError(
            f"the archive {path.name} cannot be read", hint="delete it and fetch again"
        ) from error


def licence_text(path: Path) -> str | None:
    """The licence files in the top folder of a tar archive, joined; None if no text file is there."""
    texts: list[str] = []
    try:
        with tarfile.open(path, mode="r|*") as archive:
            for count, member in enumerate(archive):
                parts = PurePosixPath(member.name).parts
                if count >= MAX_MEMBERS or not _LICENCE_FILE.fullmatch(parts[-1] if len(parts) == 2 else ""):
                    continue
                handle = archive.extractfile(member) if member.isreg() and member.size <= 1 << 17 else None
                text = None if handle is None else decode_source(handle.read())
                if text is None:
                    return None
                texts.append(text)
    except (tarfile.TarError, LZMAError, zlib.error, EOFError, OSError):
        return None
    return "\n\n".join(texts) or None


def decode_source(raw: bytes) -> str | None:
    """UTF-8 text with `\\n` line ends, or None for binary data and other encodings."""
    if b"\0" in raw:
        return None
    try:
        return raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError:
        return None


def _read_tar(
    path: Path, skipped: Counter[str], languages: frozenset[str]
) -> Iterator[tuple[str, str, bytes]]:
    total = 0
    with tarfile.open(path, mode="r|*") as archive:
        for count, member in enumerate(archive):
            if count >= MAX_MEMBERS or total > MAX_ARCHIVE_BYTES:
                skipped["archive over its bounds"] += 1
                return
            # The stream is decompressed past skipped members too, so their size counts as well.
            total += member.size
            language = language_of(member.name)
            if language is None or language not in languages:
                continue
            reason = _refuse(member.name, member.size, regular=member.isreg())
            handle = None if reason else archive.extractfile(member)
            if handle is None:
                skipped[reason or "not a regular file"] += 1
                continue
            yield member.name, language, handle.read(MAX_FILE_BYTES)


def _read_zip(
    path: Path, skipped: Counter[str], languages: frozenset[str]
) -> Iterator[tuple[str, str, bytes]]:
    total = 0
    with zipfile.ZipFile(path) as archive:
        for count, member in enumerate(archive.infolist()):
            language = language_of(member.filename)
            if language is None or language not in languages:
                continue
            kind = stat.S_IFMT(member.external_attr >> 16)
            reason = _refuse(member.filename, member.file_size, regular=kind in (0, stat.S_IFREG))
            if reason:
                skipped[reason] += 1
                continue
            total += member.file_size
            if count >= MAX_MEMBERS or total > MAX_ARCHIVE_BYTES:
                skipped["archive over its bounds"] += 1
                return
            with archive.open(member) as handle:
                raw = handle.read(MAX_FILE_BYTES + 1)
            if len(raw) > MAX_FILE_BYTES:  # a directory entry with a wrong size
                skipped["too large"] += 1
                continue
            yield member.filename, language, raw


def _refuse(name: str, size: int, *, regular: bool) -> str | None:
    if not regular:
        return "not a regular file"
    if not is_safe(name):
        return "unsafe name"
    return "too large" if size > MAX_FILE_BYTES else None

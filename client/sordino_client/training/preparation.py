"""Turns a member's repositories into the file of units that training reads: read, split, cluster, cut, store.

Prepared at each start of the agent: reading thousands of files in every round would cost more than the round. The split
into training and held-out folders is made before anything is trained, by folder, so that a file's neighbours do not
tell on it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from sordino_client.completion import unread
from sordino_client.corpus import (
    ExclusionReason,
    UnitRegistry,
    read_repositories,
    require_units,
    split_heldout,
    units,
)
from sordino_client.corpus.secrets import RULES_VERSION
from sordino_client.settings import MemberSettings
from sordino_client.training import write_units
from sordino_platform.durable import make_folder, read_file, write_file
from sordino_platform.huggingface import HuggingFaceTokenizer
from sordino_platform.tokenizer import Tokenizer
from sordino_privacy.errors import StorageError

UNITS, SUMMARY = "units-{}.npz", "prepared.json"
MAX_SUMMARY_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The result of a preparation: counts for the member's own screen, and the settings they depend on."""

    tokenizer: str
    window: int
    windows_per_unit: int
    repositories: tuple[str, ...]
    heldout_share: float
    files: int
    bytes: int
    units: int
    heldout_files: int
    excluded: Mapping[str, int]
    fingerprint: str
    reading: str
    # The version of the rules that screened the texts. Preparations from before it was noted have version 1.
    secret_rules_version: int = 1

    def path(self, folder: Path) -> Path:
        """The file of units: its name is the reading's, so that it never holds other units than the register noted."""
        return folder / UNITS.format(self.reading)


def prepare(
    folder: Path,
    settings: MemberSettings,
    tokenizer: Tokenizer | HuggingFaceTokenizer,
    *,
    window: int,
    end: int = 0,
) -> Prepared:
    """Reads the repositories and writes the units to `folder`.

    Raises DataError when a repository cannot be read, is empty, or has too few units to be private.
    """
    make_folder(folder)
    corpus = read_repositories(settings.repositories)
    training, heldout = split_heldout(corpus, settings.heldout_share)
    with UnitRegistry(folder / "units.sqlite") as registry:
        found = units(
            training,
            tokenizer,
            window=window,
            windows_per_unit=settings.windows_per_unit,
            registry=registry,
            end=end,
        )
        require_units(found, settings.minimum_units)
        reading = registry.prepare(unit.identity for unit in found)
    write_units(folder / UNITS.format(reading), [list(unit.windows) for unit in found])
    merged = len(training.files) - sum(len(unit.names) for unit in found)
    prepared = Prepared(
        tokenizer=tokenizer.digest.hex(),
        window=window,
        windows_per_unit=settings.windows_per_unit,
        repositories=names(settings),
        heldout_share=settings.heldout_share,
        files=len(corpus.files),
        bytes=corpus.bytes,
        units=len(found),
        heldout_files=len(heldout.files),
        excluded={
            **{str(reason): count for reason, count in corpus.excluded.items()},
            str(ExclusionReason.MERGED): merged,
        },
        fingerprint=corpus.fingerprint,
        secret_rules_version=RULES_VERSION,
        reading=reading,
    )
    write_file(folder / SUMMARY, json.dumps(asdict(prepared)).encode(), secret=True)
    for old in folder.glob("units*.npz"):
        if old != prepared.path(folder):
            old.unlink(missing_ok=True)
    return prepared


def last_prepared(
    folder: Path, settings: MemberSettings, tokenizer: Tokenizer | HuggingFaceTokenizer, *, window: int
) -> Prepared | None:
    """The result of an earlier `prepare` with the same settings, or None. Edits since then are not noticed. Raises
    StorageError for a damaged summary."""
    if not (folder / SUMMARY).exists():
        return None
    try:
        raw = json.loads(read_file(folder / SUMMARY, limit=MAX_SUMMARY_BYTES))
        if isinstance(raw, dict) and "reading" not in raw:
            return None  # of a version that did not note its units: read anew
        prepared = Prepared(**{**raw, "repositories": tuple(raw["repositories"])})
    except (ValueError, TypeError, KeyError) as error:
        raise StorageError(
            f"{folder / SUMMARY} is damaged", hint="delete that file; it is made anew"
        ) from error
    found = (prepared.tokenizer, prepared.window, prepared.windows_per_unit, prepared.heldout_share)
    wanted = (tokenizer.digest.hex(), window, settings.windows_per_unit, settings.heldout_share)
    screened = prepared.secret_rules_version == RULES_VERSION  # else a credential may stand in it unmasked
    fits = screened and found == wanted and prepared.repositories == names(settings)
    if not fits or prepared.units < settings.minimum_units or not prepared.path(folder).exists():
        return None
    with UnitRegistry(folder / "units.sqlite") as registry:
        return prepared if registry.is_current(prepared.reading) else None


def not_read(folder: Path) -> dict[str, int]:
    """How many entries of the repositories the last preparation could not read, by reason; empty where it read all."""
    try:
        excluded = json.loads(read_file(folder / SUMMARY, limit=MAX_SUMMARY_BYTES))["excluded"]
        return {str(reason): int(excluded[reason]) for reason in unread.PARTS if excluded.get(reason)}
    except (StorageError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def names(settings: MemberSettings) -> tuple[str, ...]:
    """The repositories as the summary names them."""
    return tuple(str(path) for path in settings.repositories)

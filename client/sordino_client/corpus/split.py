"""Hold out whole directories. A random split by file puts siblings on both sides and flatters every model."""

from __future__ import annotations

import hashlib

from sordino_client.corpus.corpus import Corpus, SourceFile
from sordino_client.corpus.similarity import clusters, near_duplicates, sketch
from sordino_privacy.errors import DataError, UsageError

_LABEL = b"sordino/corpus/heldout/v1\n"


def split_heldout(corpus: Corpus, share: float) -> tuple[Corpus, Corpus]:
    """(training, held out): about `share` of the text by size, in whole directories, the same ones every time.

    Directories are taken in the order of a hash of their names, so that adding files moves no directory from one side
    to the other as long as the sizes allow. Held-out files with a near-duplicate in the training part are dropped:
    they would measure memory. A share of 0 holds out nothing. Raises DataError when there is nothing to split (a single
    directory, or no held-out file left), UsageError for a share outside [0, 1).
    """
    if not 0 <= share < 1:
        raise UsageError(f"the held-out share must be at least 0 and below 1, not {share}")
    if share == 0:
        return corpus, corpus.of(())
    directories: dict[str, list[SourceFile]] = {}
    for file in corpus.files:
        directories.setdefault(file.directory, []).append(file)
    if len(directories) < 2:
        raise DataError(
            f"all {len(corpus.files)} source files lie in one directory: none can be held out",
            hint="name more repositories with --repo; a split inside a directory would flatter the model",
        )
    sizes = {name: sum(len(file.text) for file in files) for name, files in directories.items()}
    heldout = _choose(sizes, share)
    kept = [file for file in corpus.files if file.directory not in heldout]
    out = [file for file in corpus.files if file.directory in heldout]
    rows = clusters(len(kept) + len(out), near_duplicates(sketch([file.text for file in kept + out])))
    leaked = {i - len(kept) for row in rows if row[0] < len(kept) for i in row if i >= len(kept)}
    out = [file for i, file in enumerate(out) if i not in leaked]
    if not out:
        raise DataError(
            "every file that could be held out has a near-duplicate in the rest",
            hint="name more repositories with --repo",
        )
    return corpus.of(kept), corpus.of(out)


def _choose(sizes: dict[str, int], share: float) -> set[str]:
    """Directories whose sizes come to about `share`: never all, and at least one."""
    target = share * sum(sizes.values())
    order = sorted(
        sizes, key=lambda name: hashlib.sha256(_LABEL + name.encode("utf-8", "surrogatepass")).digest()
    )
    chosen: set[str] = set()
    total = 0
    for name in order:
        # A directory that would carry the total far past the mark is passed over for the next one.
        if total < target and total + sizes[name] <= max(1.25 * target, 1) and len(chosen) < len(sizes) - 1:
            chosen.add(name)
            total += sizes[name]
    return chosen or {min(order, key=lambda name: sizes[name])}

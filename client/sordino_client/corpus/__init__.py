"""The corpus of a member: what is read of its repositories, what is left out, and the units that training protects.

    corpus = read_repositories([Path("~/work/billing")])
    training, heldout = split_heldout(corpus, 0.1)
    with UnitRegistry(state / "units.sqlite") as registry:
        found = units(training, tokenizer, window=256, windows_per_unit=64, registry=registry)
    require_units(found, 500)

Names are loaded when they are first used: the command line mounts this package's command, and `sordino --help` should
not wait for numpy.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sordino_client.corpus.corpus import Corpus, Share, SourceFile, describe_excluded
    from sordino_client.corpus.policy import CorpusPolicy, ExclusionReason
    from sordino_client.corpus.reader import read_repositories
    from sordino_client.corpus.registry import UnitRegistry
    from sordino_client.corpus.split import split_heldout
    from sordino_client.corpus.unit import Unit, cut, require_units, units

_MODULES = {
    "corpus": ("Corpus", "Share", "SourceFile", "describe_excluded"),
    "policy": ("CorpusPolicy", "ExclusionReason"),
    "reader": ("read_repositories",),
    "registry": ("UnitRegistry",),
    "split": ("split_heldout",),
    "unit": ("Unit", "cut", "require_units", "units"),
}

__all__ = [
    "Corpus",
    "CorpusPolicy",
    "ExclusionReason",
    "Share",
    "SourceFile",
    "Unit",
    "UnitRegistry",
    "cut",
    "describe_excluded",
    "read_repositories",
    "require_units",
    "split_heldout",
    "units",
]


def __getattr__(name: str) -> object:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

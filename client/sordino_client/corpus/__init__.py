"""The corpus of a member: what is read of its repositories, what is left out, and the units that training protects.

corpus = read_repositories([Path("~/work/billing")])
training, heldout = split_heldout(corpus, 0.1)
with UnitRegistry(state / "units.sqlite") as registry:
    found = units(training, tokenizer, window=256, windows_per_unit=64, registry=registry)
require_units(found, 500)
"""

from sordino_client.corpus.corpus import Corpus, Share, SourceFile, describe_excluded
from sordino_client.corpus.policy import CorpusPolicy, Reason
from sordino_client.corpus.reader import read_repositories
from sordino_client.corpus.registry import UnitRegistry
from sordino_client.corpus.split import split_heldout
from sordino_client.corpus.units import Unit, cut, require_units, units

__all__ = [
    "Corpus",
    "CorpusPolicy",
    "Reason",
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

"""Shared counts: which phrases occur in very many file clusters, counted privately in one vector.

A unit (a file cluster) gives at most `phrases` phrases: short runs of tokens whose last token surprised the public base
model. A vector has two rows of cells, and each phrase is hashed to one cell in each row. The noised vectors of all
members are added up, and a phrase is believed if both of its cells are far above the noise. Neither counting nor
reading needs a list of phrases.

    plan.py       every number that decides what is counted, what it costs and what is believed
    cells.py      phrases as keys, keys as cells
    counting.py   one member's counts: choosing, clipping, noise
    reading.py    the memory that is made from an opened sum, and what it predicts

    >>> plan = CountPlan(phrases=100, noise_multiplier=0.75, largest_count=30, delta=1e-6, salt=7)
    >>> round(plan.deviation(), 1), round(plan.threshold(survivors=5), 1)
    (10.6, 94.9)
"""

from sordino_privacy.counts.cells import Phrases, keys, rows
from sordino_privacy.counts.plan import Choice, CountPlan
from sordino_privacy.counts.reading import Foretold, SharedMemory

__all__ = ["Choice", "CountPlan", "Foretold", "Phrases", "SharedMemory", "keys", "rows"]

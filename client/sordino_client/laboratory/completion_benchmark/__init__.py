"""`sordino bench completion`: speed and memory of the serving process, with peers in the same run.

    command.py      the command: what is measured, the order, and the names of the figures
    endpoint.py     an endpoint process, measured through HTTP as an editor sees it
    drafts.py       the local memory: the index alone, and lines generated with and without its drafts
    peers.py        the same network in eager torch; a network of the same size in llama.cpp
    precision.py    the effect of 8-bit weights on the trained model that ships
    base.py         a third-party base, compared with llama.cpp on the same weights

The two sizes have random weights: the time does not depend on their values.
"""

from sordino_client.laboratory.completion_benchmark.command import completion

__all__ = ["completion"]

"""`sordino bench completion`: speed and memory of the serving process, with peers in the same run.

    command.py      the command: what is measured, in which order, under which names
    endpoint.py     an endpoint process, measured through HTTP as an editor sees it
    drafts.py       the local memory: the index alone, and lines written with and without its drafts
    peers.py        the same network in eager torch; a network of the same size in llama.cpp
    precision.py    what eight bits change in the trained model that ships
    base.py         a base that others made, beside llama.cpp on the same weights

The two sizes carry random weights: the time does not depend on their values.
"""

from sordino_client.laboratory.completion_benchmark.command import completion

__all__ = ["completion"]

"""`sordino bench typing`: how much typing completions save, and how much wrong text they show.

    passages.py    which passages of held-out files are typed, chosen by the files' hashes
    replay.py      typing one passage key by key: what is shown, accepted and wrong (pure)
    contenders.py  what suggests: the endpoint with model, memory or both; an editor's word completion
    errors.py      whether a shown text is a syntax error that no later text can repair
    figures.py     shares with confidence intervals over files
    command.py     the command

These figures decide every change to what is shown and when.
"""

from sordino_client.laboratory.completion_benchmark.typing.command import typing

__all__ = ["typing"]

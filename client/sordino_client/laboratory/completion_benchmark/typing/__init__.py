"""`sordino bench typing`: what completions are worth to someone who types, and what they cost in wrong text.

    passages.py    which places of which held-out files are typed, drawn from the files' own hashes
    replay.py      typing one passage key by key: what is shown, accepted and wrong (pure)
    contenders.py  who suggests: the endpoint with model, memory or both; an editor's word completion
    errors.py      whether a shown text is a syntax error that nothing behind it mends
    figures.py     shares with confidence intervals over files
    command.py     the command

Every change of what is shown, and when, is judged by these figures.
"""

from sordino_client.laboratory.completion_benchmark.typing.command import typing

__all__ = ["typing"]

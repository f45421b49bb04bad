"""Whether a file's name says that it may hold secrets. No editor gets completions in such a file, and none of its text
is read.

The rules are the corpus's own (sordino_client.corpus.secret_names), so that a file that is never trained on is never
completed in either. Only names are looked at; nothing is opened.
"""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from sordino_client.corpus.secret_names import is_secret_directory, is_secret_name


def may_hold_secrets(path: str) -> bool:
    """`path` as an editor has it: of any system, or a URI."""
    scheme, colon, _ = path.partition("://")
    if colon and scheme.isalnum():
        path = unquote(urlsplit(path).path)
    *folders, name = path.replace("\\", "/").split("/")
    return is_secret_name(name) or any(map(is_secret_directory, folders))

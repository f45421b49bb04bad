"""All languages of the benchmark, in the order in which they are drawn. A new language goes to the end of its group."""

from __future__ import annotations

from sordino_client.laboratory.secrets_benchmark.configuration import CONFIGURATION
from sordino_client.laboratory.secrets_benchmark.contexts import Language
from sordino_client.laboratory.secrets_benchmark.heldout import HELDOUT
from sordino_client.laboratory.secrets_benchmark.programming import PROGRAMMING

LANGUAGES: tuple[Language, ...] = (*PROGRAMMING, *CONFIGURATION, *HELDOUT)

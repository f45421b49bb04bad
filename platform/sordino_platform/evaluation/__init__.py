"""Measures a model on code that nobody trained on, beside compression and a local memory, which need no model.

heldout_loss(model, tokenizer, texts, max_tokens=20_000)     nats per token, in seconds: rounds and the demo
evaluate(model, tokenizer, projects)                         the full report: `sordino eval`
"""

from sordino_platform.evaluation.figures import Columns
from sordino_platform.evaluation.loss import Scores, heldout_loss, score
from sordino_platform.evaluation.memory import MemoryAtPlace, RepositoryMemory
from sordino_platform.evaluation.report import Measurement, evaluate
from sordino_platform.evaluation.sample import Plan, measured_texts

__all__ = [
    "Columns",
    "Measurement",
    "MemoryAtPlace",
    "Plan",
    "RepositoryMemory",
    "Scores",
    "evaluate",
    "heldout_loss",
    "measured_texts",
    "score",
]

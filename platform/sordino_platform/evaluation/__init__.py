"""How good a model is, measured on code that it has not seen. Needs torch."""

from sordino_platform.evaluation.loss import heldout_loss

__all__ = ["heldout_loss"]

"""Training on a member's machine, in a child process of low priority that the agent survives.

job         what to train, where; the finished update (imports no torch)
worker      the parent's side: starts the child, feeds it, reports progress
child       the child's side: `python -m sordino_client.training.child`
loop        the training itself
preparation a member's repositories as the units that it reads
standalone  training without a federation and without privacy: `sordino train` (checkpoint, curve, muon, stream)
"""

from sordino_client.training.job import LocalMetrics, TrainedUpdate, TrainingError, TrainingJob, write_units
from sordino_client.training.worker import TrainingProgress, TrainingWorker, train

__all__ = [
    "LocalMetrics",
    "TrainedUpdate",
    "TrainingError",
    "TrainingJob",
    "TrainingProgress",
    "TrainingWorker",
    "train",
    "write_units",
]

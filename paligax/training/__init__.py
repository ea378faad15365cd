"""The training room: from a model, an objective and a stream of batches to checkpoints."""

from paligax.training.evaluation import Evaluation, NoEvaluator
from paligax.training.initialise import InitialSource
from paligax.training.loop import train
from paligax.training.trainer import Trainer

__all__ = ["Evaluation", "InitialSource", "NoEvaluator", "Trainer", "train"]

"""The names that gin files may use, and where they stand. Nothing behind a name is imported before gin calls it."""

import functools
import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import gin

from paligax.configuration import signatures

# name in gin files → module:attribute
CONFIGURABLES = {
    # models
    "PaLI": "paligax.models.pali:PaLI",
    "Classifier": "paligax.models.vit:Classifier",
    "ViT": "paligax.models.vit:ViT",
    "ViT.variant": "paligax.models.vit:ViT.variant",
    "MT5": "paligax.models.mt5:MT5",
    "MT5.variant": "paligax.models.mt5:MT5.variant",
    # training
    "Trainer": "paligax.training.trainer:Trainer",
    "InitialSource": "paligax.training.initialise:InitialSource",
    "NoEvaluator": "paligax.training.evaluation:NoEvaluator",
    "TextLoss": "paligax.training.objectives:TextLoss",
    "LabelLoss": "paligax.training.objectives:LabelLoss",
    "Partitioner": "paligax.training.partitioning:Partitioner",
    "Adafactor": "paligax.training.optimizers:Adafactor",
    "AdamW": "paligax.training.optimizers:AdamW",
    "Constant": "paligax.training.schedules:Constant",
    "InverseSquareRoot": "paligax.training.schedules:InverseSquareRoot",
    "Cosine": "paligax.training.schedules:Cosine",
    "CoolDown": "paligax.training.schedules:CoolDown",
    "Trained": "paligax.training.treatments:Trained",
    "Frozen": "paligax.training.treatments:Frozen",
    # inference
    "Evaluator": "paligax.inference.evaluation:Evaluator",
    "Decoding": "paligax.inference.generation:Decoding",
    # data
    "Data": "paligax.data:Data",
    "SentencePieceVocabulary": "paligax.vocabulary:SentencePieceVocabulary",
    "ByteVocabulary": "paligax.vocabulary:ByteVocabulary",
}

# What stands in annotations for any of several of them.
INTERFACES = ("Evaluation", "Objective", "Optimizer", "Schedule")

# What the commands build.
ROOTS = ("Trainer", "Evaluator")

# What the packaged gin files leave to a run. Any other macro that no binding uses is taken for a misspelling.
MACROS = (
    "BATCH_SIZE",
    "CHECKPOINT",
    "DATA_DIR",
    "INITIAL_CHECKPOINT_PATH",
    "MIXTURE_OR_TASK_NAME",
    "MODEL",
    "MODEL_DIR",
    "SEED",
    "TASK_FEATURE_LENGTHS",
    "TRAIN_STEPS",
    "VOCABULARY",
    "VOCABULARY_PATH",
)


class Unknown:
    """Stands for a value that a mistake already names."""


@functools.cache
def register() -> None:
    """Makes all names known to gin."""
    for name, target in CONFIGURABLES.items():
        gin.external_configurable(_lazy(name, target), name=name)


def configurable(selector: str) -> gin.config.Configurable | None:
    """gin's entry for a name, or None where there is none or more than one."""
    try:
        return gin.config.ConfigurableReference(selector, False).configurable
    except (ValueError, KeyError):
        return None


def parameters(selector: str) -> Mapping[str, inspect.Parameter]:
    """What gin may bind of a known configurable, by name."""
    return inspect.signature(configurable(selector).wrapped).parameters


def short(selector: str) -> str:
    """The shortest name of a configurable that gin understands."""
    return gin.config._REGISTRY.minimal_selector(selector)


def known() -> list[str]:
    """The names of all configurables, those of imported modules too."""
    return [short(selector) for selector, _ in gin.config._REGISTRY.items() if not selector.startswith("gin.")]


def macro_name(value: Any) -> str:
    """NAME of %NAME, "" for anything else."""
    if isinstance(value, gin.config.ConfigurableReference) and value.configurable.selector == "gin.macro":
        return "/".join(value.scopes)
    return ""


def is_required(value: Any) -> bool:
    """Whether the value is %gin.REQUIRED."""
    return isinstance(value, gin.config.ConfigurableReference) and value.scoped_selector == "gin.REQUIRED/gin.constant"


def resolve(target: str):
    """The object behind "module:attribute"."""
    module, qualname = target.split(":")
    return functools.reduce(getattr, qualname.split("."), importlib.import_module(module))


def _lazy(name: str, target: str):
    """A function of the target's signature that imports the target when it is called."""

    def construct(**arguments):
        return resolve(target)(**arguments)

    construct.__name__ = construct.__qualname__ = name.rpartition(".")[2]
    construct.__module__ = target.partition(":")[0]
    construct.__signature__ = signatures.signature(target)
    return construct

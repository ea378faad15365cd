"""One example through one task, as one graph.

The stream runs every record through its task alone. It does so by handing the task's preprocessors, unchanged, a
stand-in for a dataset of one example: ``map`` applies the function at once, so that the whole task becomes a single
traced function without a tf.data pipeline inside (which would cost more than a small image does). Everything else that
a dataset can do (filter, shuffle, repeat, zip with random seeds, …) makes the example at a position depend on other
examples; the stand-in refuses it, and the check names task and preprocessor.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from paligax.data.runtime import seqio, tf


def is_carried(name: str) -> bool:
    """Whether a field is kept behind a preprocessor that drops every field it isn't told of, as rekey does."""
    return name in ("skip", "id") or name.startswith("eval/")


_WHY = {
    "filter": "filters. Mark the example instead (paligax.data.records.skip_if): it keeps its place with weight 0",
    "take_while": "filters. Mark the example instead (paligax.data.records.skip_if): it keeps its place with weight 0",
    "shuffle": "shuffles. The stream orders the examples itself (Data.seed)",
    "repeat": "repeats. The stream counts the epochs itself",
    "flat_map": "makes several examples of one. Make each an index entry instead (RecordSource(items=…))",
    "unbatch": "makes several examples of one. Make each an index entry instead (RecordSource(items=…))",
    "interleave": "makes several examples of one. Make each an index entry instead (RecordSource(items=…))",
    "batch": "joins examples into one. An example is made from one index entry alone",
    "cache": "caches, which would freeze the random choices of the first epoch",
    "enumerate": "numbers the examples by position, which depends on where a run started",
    "scan": "carries a state from example to example, which depends on where a run started",
}


class Refused(ValueError):
    """A task that cannot be part of a reproducible stream; the message names task, preprocessor and remedy."""


class OneExample:
    """Stands for a ``tf.data.Dataset`` of one example while a task is traced."""

    def __init__(
        self,
        element: Mapping[str, tf.Tensor],
        carried: Mapping[str, tf.Tensor],
        autograph: Any,
        written: Mapping[str, str] | None = None,
    ):
        self.element = element
        self.written = written or {}  # field → the preprocessor that wrote it, or dropped it
        self.carried = {**carried, **{key: element[key] for key in element if is_carried(key)}}
        self._autograph = autograph

    @property
    def element_spec(self) -> dict[str, tf.TypeSpec]:
        return tf.nest.map_structure(tf.type_spec_from_value, dict(self.element))

    def map(self, map_func: Callable[..., Any], *args: Any, **options: Any) -> "OneExample":
        del args, options  # how many calls run in parallel, in which order: there is one
        # Rewriting Python's control flow, as tf.data does, is two thirds of a task's tracing; few functions need it.
        try:
            result = tf.autograph.experimental.do_not_convert(map_func)(dict(self.element))
        except Exception:  # noqa: BLE001  a tensor where Python wants a bool or a number; or an error proper, told below
            result = tf.__internal__.autograph.tf_convert(map_func, self._autograph)(dict(self.element))
        if not isinstance(result, Mapping):
            raise Refused(f"returns {type(result).__name__} for an example; an example is a dict of named fields")
        element = {key: _tensor(value) for key, value in result.items()}
        return OneExample(element, self.carried, self._autograph, self.written)

    def written_by(self, name: str, before: Mapping[str, tf.Tensor]) -> "OneExample":
        """The same, with the fields that are other than `before` noted as that preprocessor's."""
        element = self.element
        own = {key: name for key in {**before, **element} if before.get(key) is not element.get(key)}
        return OneExample(element, self.carried, self._autograph, {**self.written, **own})

    def skipped_if(self, condition: tf.Tensor, reason: str) -> "OneExample":
        """The same, marked as unusable where the condition holds and nothing has marked it before."""
        skip = self.carried["skip"]
        skip = tf.where((skip == "") & condition, reason, skip)
        element = {**self.element, "skip": skip} if "skip" in self.element else self.element
        return OneExample(element, {**self.carried, "skip": skip}, self._autograph, self.written)

    def apply(self, transformation: Callable[["OneExample"], "OneExample"]) -> "OneExample":
        return transformation(self)

    def prefetch(self, *args: Any, **options: Any) -> "OneExample":
        return self

    def with_options(self, *args: Any, **options: Any) -> "OneExample":
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise Refused(_WHY.get(name, f"calls Dataset.{name}. Only map is possible: one example in, one example out"))


def _tensor(value: Any) -> Any:
    return value if isinstance(value, tf.RaggedTensor | tf.SparseTensor) else tf.convert_to_tensor(value)


def preprocess(
    task: seqio.Task, example: OneExample, feature_lengths: Mapping[str, int], on_step: Callable[[str, bool], None]
) -> OneExample:
    """Runs one example through the task's preprocessors and trimming, inside a graph that is being traced.

    Args:
      task: an ordinary seqio task.
      example: what the task's source yields: ``record`` string, ``item`` int64, ``seed`` int32[2].
      feature_lengths: passed to preprocessors as ``sequence_length``.
      on_step: called with each preprocessor's name when it has been applied, and whether it failed.

    Raises:
      Refused: naming task and preprocessor, where one does what a stream cannot.
      ValueError: naming both, where one fails; or where an output feature is missing or of another type.

    A feature that comes out longer than the run's length for it is trimmed, as seqio does, and the example marked
    (TOO_LONG): its EOS is gone.
    """
    dataset = example
    for preprocessor in task.preprocessors:
        if isinstance(preprocessor, seqio.CacheDatasetPlaceholder):
            continue
        name = seqio.utils.function_name(preprocessor)
        where = f"Task {task.name!r}: preprocessor {name!r}"
        before = dataset.element
        bound = seqio.utils.add_kwargs_to_transform(
            preprocessor, sequence_length=dict(feature_lengths), output_features=task.output_features
        )
        try:
            dataset = bound(dataset)
        except Refused as refusal:
            raise Refused(f"{where} {refusal}.") from None
        except Exception as error:
            on_step(name, True)  # a forbidden operation is the better explanation
            if OneExample.__name__ in str(error):
                raise Refused(
                    f"{where} hands the examples to tf.data itself, as seqio.map_over_dataset(num_seeds=…) and "
                    "Dataset.zip do: what is joined there depends on the position a run started at. Random choices "
                    'take the field "seed" of the example (paligax.data.text.fold).'
                ) from error
            raise ValueError(
                f"{where} failed: {type(error).__name__}: {error}\nIt was given the fields {', '.join(sorted(before))}."
            ) from error
        if not isinstance(dataset, OneExample):
            raise Refused(f"{where} returns a {type(dataset).__name__} of its own instead of mapping what it is given.")
        on_step(name, False)
        dataset = dataset.written_by(name, before)
    _require_features(task, dataset)
    dataset = _mark_too_long(task, dataset, feature_lengths)
    return seqio.utils.trim_dataset(dataset, dict(feature_lengths), task.output_features)


def _require_features(task: seqio.Task, example: OneExample) -> None:
    spec = example.element_spec
    for name, feature in task.output_features.items():
        by = f"preprocessor {example.written[name]!r}" if name in example.written else ""
        if name not in spec:
            if feature.required:
                raise ValueError(
                    f"Task {task.name!r}: its preprocessors leave no feature {name!r}; they leave "
                    f"{', '.join(sorted(spec))}. {by + ' drops it.' if by else 'None of them makes it.'}"
                )
            continue
        got, shape = spec[name].dtype, spec[name].shape
        if got != feature.dtype or shape.rank != feature.rank:
            raise ValueError(
                f"Task {task.name!r}: feature {name!r} comes out as {got.name} of shape {shape}, expected "
                f"{feature.dtype.name} of rank {feature.rank}. It is from {by or 'the source'}."
            )


# The reason to skip an example of which a feature was trimmed; `check.require_usable` makes an error of it.
TOO_LONG = re.compile(r"(\w+) too long from (.+)")


def _mark_too_long(task: seqio.Task, example: OneExample, feature_lengths: Mapping[str, int]) -> OneExample:
    for name in task.output_features:
        if name not in example.element or not isinstance(feature_lengths.get(name), int):
            continue
        value, most, by = example.element[name], feature_lengths[name], example.written.get(name, "the source")
        if value.shape.rank > 1 and value.shape[0] is not None and value.shape[0] > most:
            raise ValueError(
                f"Task {task.name!r}: feature {name!r} comes out in shape {value.shape} from preprocessor {by!r}; "
                f"feature_lengths[{name!r}] is {most}."
            )
        example = example.skipped_if(tf.shape(value)[0] > most, f"{name} too long from {by}")
    return example

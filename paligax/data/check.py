"""The check before training: a task is traced, looked through for what a reproducible stream cannot have, and tried.

Three things are found, each told with the names of task and preprocessor: operations on the data set that are not one
example in, one example out (paligax.data.example); operations in the graph, functions included, whose result depends
on what ran before them; and tasks none of whose records can be used.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from paligax.data import example, features
from paligax.data.example import Refused
from paligax.data.runtime import seqio, tf

TRIED = 7  # records, spread over the epoch
WRITTEN = ("inputs_pretokenized", "targets_pretokenized")  # the texts behind the ids, where stock tokenize kept them

_FORBIDDEN = {
    r"(Random(?!IndexShuffle)|Stateful(?!PartitionedCall)|Rng|TruncatedNormal|ParameterizedTruncatedNormal|Multinomial|"
    r"SampleDistortedBoundingBox|Fractional(Max|Avg)Pool)\w*|\w*CandidateSampler": (
        "draws random numbers that depend on what ran before. Use tf.random.stateless_* with the example's own "
        'field "seed" (paligax.data.text.fold)'
    ),
    r"(Shuffle|Random|Sampling|Generator|Anonymous\w*Generator)\w*Dataset\w*|\w*SeedGenerator": (
        "shuffles or draws by position, which depends on where a run started (seqio.map_over_dataset(num_seeds=…) does)"
    ),
    r"EagerPyFunc|PyFunc": "runs Python code that may keep a state. Use tf.numpy_function(…, stateful=False)",
    r"VarHandleOp|ReadVariableOp|Assign\w*VariableOp|Timestamp": "reads a state that isn't part of the example",
}

Row = dict[str, tf.Tensor]


def trace(task: seqio.Task, feature_lengths: Mapping[str, int], for_evaluation: bool = False) -> Callable[..., Row]:
    """The task and its feature converter as one traced function, checked.

    Returns:
      f(record string, item int64, seed int32[2]) → the batch row's features and ``skip`` (a string scalar: why the row
      cannot be used); for evaluation also ``id``, the "eval/…" fields and the texts behind the ids.

    Raises:
      Refused: naming task and preprocessor.
      ValueError: naming both, where a preprocessor fails or features come out wrong.
    """
    convert = features.converter(feature_lengths)
    autograph = tf.__internal__.autograph.control_status_ctx()  # as tf.data does it: from outside the function
    steps: list[tuple[str, int]] = []  # (preprocessor, number of operations when it was done)

    def row(record: tf.Tensor, item: tf.Tensor, seed: tf.Tensor) -> Row:
        graph = tf.compat.v1.get_default_graph()
        given = {"record": record, "item": item, "seed": seed, "skip": tf.constant(""), "id": tf.constant("")}
        only = example.OneExample(given, {}, autograph)

        def done(name: str, failed: bool) -> None:
            steps.append((name, len(graph.get_operations())))
            if failed:
                _scan(task, graph, steps)

        one = example.preprocess(task, only, feature_lengths, done)
        _scan(task, graph, steps)
        converted = convert(one.map(lambda e: _with_image(e, feature_lengths["image"])), feature_lengths).element
        result = {
            name: _shaped(task, name, converted[name], feature_lengths, one.written.get(name))
            for name in convert.MODEL_FEATURES
        }
        if for_evaluation:
            return result | one.carried | {name: one.element[name] for name in WRITTEN if name in one.element}
        return result | {"skip": one.carried["skip"]}

    signature = tf.TensorSpec((), tf.string), tf.TensorSpec((), tf.int64), tf.TensorSpec((2,), tf.int32)
    return tf.function(row, autograph=False).get_concrete_function(*signature)


def require_usable(task: seqio.Task, reasons: list[str]) -> None:
    """Raises ValueError where every record tried gave a reason why it cannot be used ("" = usable), or one had a
    feature too long: what is over is trimmed, so that every record like it would lose its EOS.
    """
    for found in filter(None, map(example.TOO_LONG.fullmatch, reasons)):
        feature, name = found.groups()
        raise ValueError(
            f"Task {task.name!r}: preprocessor {name!r} leaves feature {feature!r} longer than "
            f"feature_lengths[{feature!r}]. Cut it there, with room for EOS (seqio.preprocessors.append_eos_after_trim "
            "does), or make the length greater."
        )
    if reasons and all(reasons):
        raise ValueError(
            f"Task {task.name!r}: none of {len(reasons)} records tried could be used "
            f"({'; '.join(sorted(set(reasons)))}). Either its preprocessors do not fit the records of {task.source}, "
            "or the records are damaged."
        )


def _with_image(fields: Row, resolution: int) -> Row:
    """Fills the visual slot of a task without images: zeros, masked."""
    if "image" in fields:
        return fields
    return {**fields, "image": tf.zeros((resolution, resolution, 3), tf.uint8), "image_mask": tf.constant(False)}


def _shaped(
    task: seqio.Task, name: str, value: tf.Tensor, feature_lengths: Mapping[str, int], written_by: str | None
) -> tf.Tensor:
    expected = getattr(features.abstract_batch(feature_lengths, 1), name).shape[1:]
    if not value.shape.is_compatible_with(expected):
        raise ValueError(
            f"Task {task.name!r}: feature {name!r} comes out in shape {value.shape}, expected {expected} "
            f"(feature_lengths {dict(feature_lengths)})."
            + (f" It is from preprocessor {written_by!r}." if written_by else "")
        )
    return tf.ensure_shape(value, expected)


# ------------------------------------------------------------------------------------------------- operations


def _scan(task: seqio.Task, graph: tf.Graph, steps: list[tuple[str, int]]) -> None:
    operations = graph.get_operations()
    definition = graph.as_graph_def()
    library = {function.signature.name: function.node_def for function in definition.library.function}
    start = 0
    for name, end in steps:
        for operation in operations[start:end]:
            for kind in _kinds(operation.node_def, library, set()):
                for pattern, why in _FORBIDDEN.items():
                    if re.fullmatch(pattern, kind):
                        raise Refused(f"Task {task.name!r}: preprocessor {name!r} {why}. The operation is {kind}.")
        start = end


def _kinds(node: Any, library: Mapping[str, Any], seen: set[str]) -> Iterator[str]:
    """Operation names of a node and of every function that it calls."""
    yield node.op
    called = [node.op] + [f.name for value in node.attr.values() for f in (value.func, *value.list.func) if f.name]
    for function in called:
        if function in library and function not in seen:
            seen.add(function)
            for inner in library[function]:
                yield from _kinds(inner, library, seen)

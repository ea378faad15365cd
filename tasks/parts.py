"""What every task is put together from: the source, the last preprocessor, output features, and choosing at random.

A task is one line of seqio preprocessors: `records.unpack` opens the record, the task's own step writes the fields
"prompt" and "target" (and "eval/…" fields for its metrics), `finish` makes image and ids of them. Each step maps one
example to one example; what cannot be used is marked in the field "skip" and never left out; whatever is drawn is
drawn by stateless operations from the example's own "seed".
"""

from collections.abc import Callable, Mapping, Sequence

import seqio

from paligax.data import Data, features, images, records, text
from paligax.data.items import items_in
from paligax.data.runtime import tf
from paligax.data.sources import RecordSource
from tasks.languages import UNKNOWN

Example = dict[str, tf.Tensor]


def add_task(
    name: str,
    data: Data,
    data_dir: str | None,
    items: str,
    steps: Sequence[Callable],
    metric_fn: Callable,
    postprocess_fn: Callable,
    has_image: bool = True,
    languages: Sequence[str] = (),
) -> seqio.Task:
    """Registers a task under `name`, replacing one of that name.

    Args:
      data: the run's vocabulary, lengths and data directory.
      data_dir: reads this directory and not `data.data_dir`.
      items: what of a record is one example (paligax.data.items.ITEMS).
      steps: preprocessors between `records.unpack` and the end.
      metric_fn: (targets, predictions) → {metric: value}, the headline metric first.
      postprocess_fn: (output, example=, is_target=) → what `metric_fn` gets.
      has_image: False for text alone.
      languages: codes as they stand in the records: only what is in one of these is an example. The manifest must count
        them, as it does "en" (paligax.data.items.items). () takes every language.
    """
    seqio.TaskRegistry.remove(name)
    first = [records.unpack]
    if languages:
        items, first = items_in(items, languages), [*first, records.keep_languages(languages)]
    return seqio.TaskRegistry.add(
        name,
        source=RecordSource(_directory(name, data, data_dir), items=items),
        preprocessors=[*first, *steps],
        output_features=features.output_features(data.feature_lengths, data.vocabulary, image=has_image),
        metric_fns=[metric_fn],
        postprocess_fn=postprocess_fn,
    )


def _directory(name: str, data: Data, data_dir: str | None) -> str:
    """Where task `name` reads its records. Raises ValueError where nobody says."""
    found = data_dir or data.data_dir
    if not found:
        raise ValueError(
            f"Task {name!r} has no data: got data_dir=None. Set Data.data_dir (macro DATA_DIR) to a directory with "
            "manifest.json, or the task's own in Data.options['sources']."
        )
    return found


def add_mixture(name: str, rates: Mapping[str, float]) -> seqio.Mixture:
    """Registers a mixture of tasks that are registered already, replacing one of that name."""
    seqio.MixtureRegistry.remove(name)
    return seqio.MixtureRegistry.add(name, list(rates.items()))


# ------------------------------------------------------------------------------------------------ steps' ends


def finish(data: Data, sentinel: bool = True, whole_prompt: bool = False, has_image: bool = True) -> Callable:
    """The last preprocessor: image bytes, "prompt" and "target" → "image", "inputs" and "targets".

    Args:
      sentinel: whether `<extra_id_0>` closes the prompt. A prompt that is too long loses its last words, never the
        sentinel; with a field "prompt_head", which is kept whole, it is the first words of the rest that go.
      whole_prompt: skips an example whose prompt is too long instead ("prompt too long"), where a piece of it would ask
        something else.
      has_image: False for tasks of text alone: "image" is left out, and nobody misses one.

    Host-side, "eval/input_length" and "eval/target_length" say how many ids there were before anything was left out,
    sentinel and EOS included; a step that leaves out pieces of its target says so in "whole_length" (without EOS).
    """
    vocabulary = text.seqio_vocabulary(data.vocabulary)
    space = between_words(data)
    end = [data.vocabulary.sentinel(0)] * sentinel + [data.vocabulary.eos_id]
    room = data.feature_lengths["inputs"] - len(end)

    @seqio.map_over_dataset
    def finish_example(example: Example) -> Example:
        ids = vocabulary.encode_tf(example["prompt"])
        length = tf.size(ids) + len(end)
        if "prompt_head" in example:
            head = vocabulary.encode_tf(example["prompt_head"])
            length += tf.size(head) + len(space) * tf.minimum(tf.size(ids), 1)
            left = tf.maximum(room - tf.size(head) - len(space), 0)
            ids = ids[tf.maximum(tf.size(ids) - left, 0) :]
            ids = tf.concat([head, tf.constant(space, tf.int32)[: tf.size(ids)], ids], axis=0)
        target = vocabulary.encode_tf(example["target"])
        if has_image:
            example = records.skip_if(example, example["image"] == "", "no image")
        if whole_prompt:
            example = records.skip_if(example, tf.size(ids) > room, "prompt too long")
        return {
            **({"image": picture(example, data.feature_lengths["image"])} if has_image else {}),
            "inputs": tf.concat([ids[:room], end], axis=0),
            "targets": tf.concat([target[: data.feature_lengths["targets"] - 1], [data.vocabulary.eos_id]], axis=0),
            **carried(example),
            "eval/input_length": length,
            "eval/target_length": tf.maximum(tf.size(target), example.get("whole_length", 0)) + 1,
        }

    return finish_example


def picture(example: Example, resolution: int) -> tf.Tensor:
    """uint8[resolution, resolution, 3]: the record's image; zeros where the example is skipped anyway."""
    return tf.cond(
        records.usable(example),
        lambda: images.decode_and_resize(example["image"], resolution, example["image_crc"]),
        lambda: tf.zeros((resolution, resolution, 3), tf.uint8),
    )


def random_part(example: Example, resolution: int) -> tf.Tensor:
    """The same of a random part of the image, drawn from the example's seed (paligax.image.inception_window)."""
    drawn = tf.stack(dice(example, "crop", 4))
    return tf.cond(
        records.usable(example),
        lambda: images.decode_and_crop(example["image"], resolution, drawn, example["image_crc"]),
        lambda: tf.zeros((resolution, resolution, 3), tf.uint8),
    )


def carried(example: Example) -> Example:
    """What the stream needs besides the features: "skip" and the host-side fields."""
    return {key: value for key, value in example.items() if key == "skip" or key.startswith("eval/")}


def stripped(strings: tf.Tensor) -> tf.Tensor:
    return tf.strings.strip(strings)


def non_empty(strings: tf.Tensor) -> tf.Tensor:
    """string[n] → string[≤ n]: those that aren't ""."""
    return tf.boolean_mask(strings, strings != "")


def or_und(lang: tf.Tensor) -> tf.Tensor:
    """A record's language as prompts name it: "und" where the record says none, else as it stands, known or not."""
    return tf.where(lang == "", UNKNOWN, lang)


# ------------------------------------------------------------------------------------------------ lengths


def between_words(data: Data) -> list[int]:
    """The ids between two words encoded apart: none for sentencepiece, whose words carry their space; one for bytes."""
    encode = data.vocabulary.encode
    return encode("a b")[len(encode("a")) : len(encode("a b")) - len(encode("b"))]


class Lengths:
    """Which strings, joined by spaces, fit into the targets as a whole."""

    def __init__(self, data: Data):
        self._room = data.feature_lengths["targets"] - 1  # EOS
        self._space = len(between_words(data))
        self._vocabulary = text.seqio_vocabulary(data.vocabulary)

    def of(self, strings: tf.Tensor) -> tf.Tensor:
        """string[n] → int32[n]: number of ids of each string and the space behind it, which the others ask for."""
        if self._space:  # ids are bytes
            return tf.strings.length(strings) + self._space
        return tf.cast(self._vocabulary.encode_tf(strings).row_lengths(), tf.int32)

    def whole(self, sizes: tf.Tensor) -> tf.Tensor:
        """int32[n] → int32 scalar: number of ids of all strings joined, whether they fit or not; without EOS."""
        return tf.maximum(tf.reduce_sum(sizes) - self._space, 0)

    def fitting(self, sizes: tf.Tensor) -> tf.Tensor:
        """int32[n] → int32 scalar: how many of the first strings fit together."""
        fits = tf.cumsum(sizes) <= self._room + self._space
        return tf.reduce_sum(tf.cast(fits, tf.int32))

    def fitting_by(self, order: tf.Tensor, sizes: tf.Tensor) -> tf.Tensor:
        """int32[n] → bool[n]: those that fit together, taken in `order` (int32[n]) until the first that does not.

        Strings that don't fit even alone are passed over.
        """
        sizes = tf.gather(sizes, order)
        alone = sizes <= self._room + self._space
        fits = alone & (tf.cumsum(tf.where(alone, sizes, 0)) <= self._room + self._space)
        return tf.scatter_nd(order[:, None], fits, tf.shape(fits))


# ------------------------------------------------------------------------------------------------ choosing at random


def draw(example: Example, name: str, low: tf.Tensor | int, high: tf.Tensor | int) -> tf.Tensor:
    """int32 scalar in [low, high), all equally likely; `low` where the range is empty. `name` is the choice's own."""
    return low + text.random_index(text.fold(example["seed"], name), high - low)


def dice(example: Example, name: str, count: int) -> list[tf.Tensor]:
    """`count` float32 scalars in [0, 1) in one go, for `between`: cheaper than as many calls of `draw`."""
    return tf.unstack(tf.random.stateless_uniform((count,), text.fold(example["seed"], name), alg="philox"))


def between(die: tf.Tensor, low: tf.Tensor | int, high: tf.Tensor | int) -> tf.Tensor:
    """int32 scalar in [low, high], all equally likely; `low` where the range is empty."""
    return low + tf.cast(die * tf.cast(tf.maximum(high - low, 0) + 1, tf.float32), tf.int32)


def random_order(example: Example, name: str, count: tf.Tensor) -> tf.Tensor:
    """int32[count]: a random permutation, for tf.gather."""
    return text.random_order(text.fold(example["seed"], name), count)


def shuffled(example: Example, name: str, values: tf.Tensor) -> tf.Tensor:
    return tf.gather(values, random_order(example, name, tf.size(values)))


# ------------------------------------------------------------------------------------------------ on the host


def text_of(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def references(output, example, is_target):
    """Postprocessing: the target becomes all right answers, `eval/references`; a prediction stays as it is."""
    return [text_of(reference) for reference in example["references"]] if is_target else output

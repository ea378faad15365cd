"""Span corruption (T5, arXiv 1910.10683, section 3.1.4): text with holes → what stood in the holes."""

from collections.abc import Callable, Sequence

import seqio

from paligax import metrics
from paligax.data import Data, text
from paligax.data.records import skip_if
from paligax.data.runtime import tf
from tasks.parts import Example, add_task, carried, draw, text_of


def span_corruption(
    name: str,
    data: Data,
    data_dir: str | None = None,
    noise_density: float = 0.15,
    mean_span_length: float = 3.0,
    languages: Sequence[str] = (),
) -> seqio.Task:
    """Text with 15% of its tokens replaced by sentinels → the spans, each after its sentinel; no image.

        inputs   Thank you <extra_id_0> me to your party <extra_id_1> week
        targets  <extra_id_0> for inviting <extra_id_1> last

    As in T5, text and holes alternate, the text first and a hole last. Of a text too long for the lengths, a random
    piece is taken.

    Args:
      noise_density: share of the tokens that is replaced. mean_span_length: tokens a hole, on average.
      languages: as for tasks.parts.add_task.

    Metrics: token_accuracy (of the generated text's tokens, by position), span_accuracy (spans filled exactly).
    """
    if not 0 < noise_density < 1 or mean_span_length < 1:
        raise ValueError(
            "Needed: 0 < noise_density < 1 and mean_span_length ≥ 1; got "
            f"noise_density={noise_density} and mean_span_length={mean_span_length}."
        )
    vocabulary = data.vocabulary
    if not vocabulary.num_sentinels:
        raise ValueError(f"Span corruption needs sentinels, but {vocabulary} has none; set its extra_ids to 100.")
    sentinels = {vocabulary.sentinel(k) for k in range(vocabulary.num_sentinels)}

    def ids_in(output, example, is_target):
        return vocabulary.encode(text_of(example["targets"]) if is_target else output)

    def span_metrics(targets, predictions):
        return {
            "token_accuracy": metrics.token_accuracy(targets, predictions),
            "span_accuracy": metrics.span_accuracy(targets, predictions, sentinels),
        }

    return add_task(
        name,
        data,
        data_dir,
        "text",
        [corrupt(data, noise_density, mean_span_length)],
        span_metrics,
        postprocess_fn=ids_in,
        has_image=False,
        languages=languages,
    )


def longest_text(input_length: int, target_length: int, noise_density: float, mean_span_length: float) -> int:
    """Number of tokens whose corrupted inputs and targets, with EOS, still fit (T5's random_spans_helper)."""
    length = 2
    while True:
        noise = round((length + 1) * noise_density)
        spans = max(round(noise / mean_span_length), 1)
        if length + 1 - noise + spans + 1 > input_length or noise + spans + 1 > target_length:
            return length
        length += 1


def corrupt(data: Data, noise_density: float, mean_span_length: float) -> Callable:
    tokenizer = text.seqio_vocabulary(data.vocabulary)
    eos = [data.vocabulary.eos_id]
    inputs, targets = data.feature_lengths["inputs"], data.feature_lengths["targets"]
    longest = longest_text(inputs, targets, noise_density, mean_span_length)

    @seqio.map_over_dataset
    def step(example: Example) -> Example:
        ids = tokenizer.encode_tf(example["text"])
        left_out = tf.maximum(tf.size(ids) - longest, 0)
        start = draw(example, "piece", 0, tf.size(ids) - longest + 1)
        ids = ids[start : start + longest]
        seed = text.fold(example["seed"], "spans")
        inputs, targets = text.corrupt_spans(ids, seed, data.vocabulary, noise_density, mean_span_length)
        example = skip_if(example, tf.size(ids) < 2, "text too short")
        return {
            "inputs": tf.concat([inputs, eos], axis=0),
            "targets": tf.concat([targets, eos], axis=0),
            **carried(example),
            # As if the whole text had been corrupted, roughly: what is left out would mostly have been input.
            "eval/input_length": tf.size(inputs) + 1 + left_out,
            "eval/target_length": tf.size(targets) + 1,
        }

    return step

"""Output features of tasks, and the converters that turn them into batch rows."""

from collections.abc import Mapping
from typing import Any

from paligax.batch import LabelBatch, TextBatch
from paligax.data import text
from paligax.data.runtime import seqio, tf

Spec = seqio.FeatureConverter.FeatureSpec


def output_features(
    feature_lengths: Mapping[str, int], vocabulary: Any = None, image: bool = True
) -> dict[str, seqio.Feature]:
    """The ``output_features`` of a task for a run with these feature lengths.

    ``image`` uint8[px, px, 3]; then ``inputs`` and ``targets`` int32 with EOS, or ``labels`` float32[C]. With
    ``image=False`` (text-only tasks) the image may be left out: the visual slot is then zeros, masked.
    """
    features = {"image": seqio.ContinuousFeature(dtype=tf.uint8, rank=3, required=image)}
    if "labels" in feature_lengths:
        return features | {"labels": seqio.ContinuousFeature(dtype=tf.float32, rank=1)}
    tokens = seqio.Feature(text.seqio_vocabulary(vocabulary), add_eos=True)
    return features | {"inputs": tokens, "targets": tokens}


class ImageTextConverter(seqio.FeatureConverter):
    """image, inputs, targets → a row of TextBatch: padded, with loss weight 1 on each target token, EOS included."""

    BATCH = TextBatch
    TASK_FEATURES = {"image": Spec(tf.uint8, rank=3), "inputs": Spec(tf.int32), "targets": Spec(tf.int32)}
    MODEL_FEATURES = {
        **TASK_FEATURES,
        "image_mask": Spec(tf.bool, rank=0),
        "weights": Spec(tf.float32),
    }
    PACKING_FEATURE_DTYPES = None

    def __init__(self):
        super().__init__(pack=False, apply_length_check=False)

    def _convert_features(self, ds, task_feature_lengths):
        def convert(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            weights = tf.ones_like(example["targets"], tf.float32)
            mask = tf.convert_to_tensor(example.get("image_mask", True))
            row = {key: example[key] for key in self.TASK_FEATURES}
            return {**row, "image_mask": mask, "weights": weights}

        lengths = self.get_model_feature_lengths(task_feature_lengths)
        return self._pack_or_pad(ds.map(convert), {key: lengths[key] for key in ("inputs", "targets", "weights")})

    def get_model_feature_lengths(self, task_feature_lengths):
        return {**task_feature_lengths, "weights": task_feature_lengths["targets"], "image_mask": 1}


class ImageLabelConverter(seqio.FeatureConverter):
    """image, labels → a row of LabelBatch."""

    BATCH = LabelBatch
    TASK_FEATURES = {"image": Spec(tf.uint8, rank=3), "labels": Spec(tf.float32)}
    MODEL_FEATURES = {**TASK_FEATURES, "weights": Spec(tf.float32, rank=0)}
    PACKING_FEATURE_DTYPES = None

    def __init__(self):
        super().__init__(pack=False, apply_length_check=False)

    def _convert_features(self, ds, task_feature_lengths):
        return ds.map(lambda e: {"image": e["image"], "labels": e["labels"], "weights": tf.constant(1.0)})

    def get_model_feature_lengths(self, task_feature_lengths):
        return {**task_feature_lengths, "weights": 1}


def converter(feature_lengths: Mapping[str, int]) -> seqio.FeatureConverter:
    """The converter whose task features are the keys of ``feature_lengths``. Raises ValueError if there is none."""
    for candidate in (ImageTextConverter, ImageLabelConverter):
        if set(feature_lengths) == set(candidate.TASK_FEATURES):
            return candidate()
    raise ValueError(
        f"feature_lengths has the keys {sorted(feature_lengths)}; expected image, inputs and targets (image + text → "
        "text), or image and labels (classification)."
    )


def abstract_batch(feature_lengths: Mapping[str, int], batch_size: int) -> TextBatch | LabelBatch:
    """The batch as ``jax.ShapeDtypeStruct``s."""
    if "labels" in feature_lengths:
        return LabelBatch.abstract(
            batch_size=batch_size, resolution=feature_lengths["image"], num_classes=feature_lengths["labels"]
        )
    return TextBatch.abstract(
        batch_size=batch_size,
        resolution=feature_lengths["image"],
        input_length=feature_lengths["inputs"],
        target_length=feature_lengths["targets"],
    )

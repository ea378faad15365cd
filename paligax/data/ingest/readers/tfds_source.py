"""Data sets that TensorFlow Datasets has prepared: its fields by name, its label numbers as names."""

import dataclasses
import io
import os
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from paligax.data.ingest.reader import PART, Problem, Reader, Record, option
from paligax.data.ingest.readers import fields
from paligax.data.runtime import tf

# What is taken where ``fields`` doesn't say: fields with names of ours, and these, which many data sets have.
_USUAL = (
    ("image/id", "id"),
    ("label", "labels"),
    ("caption", "alt_text/text"),
    ("captions", "alt_text/text"),
    ("captions/text", "alt_text/text"),
    ("question", "qa/question"),
    ("answer", "qa/answer"),
)


@dataclasses.dataclass(frozen=True)
class Tfds(Reader):
    """One record an example. Nothing is downloaded or prepared.

    Image bytes are taken as they were stored, without decoding; an image that is a plain array becomes a PNG. Labels
    (ClassLabel) are given by their names. Boxes are tfds' own: ymin, xmin, ymax, xmax between 0 and 1.

    Attributes:
      name: of the data set, "coco", "coco/2017" or "coco/2017:1.1.0"; not needed where ``data_dir`` is the very folder.
      split: as tfds writes it, "train" or "train[:10%]".
      data_dir: folder of prepared data sets, or one data set's folder, the one with features.json; "": tfds' own.
      fields: "objects/bbox=objects/bbox,image/id=id": theirs and the record's. "": those that are named as ours or
        have usual names, as label and caption.
      lang: language of texts that have none.
      unit_size: examples a unit.
      source: what the records' ``source`` says.
    """

    name: str = ""
    split: str = "train"
    data_dir: str = ""
    fields: str = option("", check=fields.parse)
    lang: str = ""
    unit_size: int = 1000
    source: str = "tfds"

    def units(self) -> Iterator[list]:
        """[split without a range, first example, one behind the last].

        Raises FileNotFoundError where the data set isn't prepared, ValueError for unknown splits or fields.
        """
        import tensorflow_datasets as tfds

        builder = self._builder()
        self._pairs(builder.info.features)
        splits = builder.info.splits
        base = re.split(r"[\[+]", self.split)[0]
        if base not in (*splits, "all"):
            raise ValueError(f"{builder.info.full_name} has no split {base!r}{fields.nearest(base, splits)}")
        for part in tfds.core.ReadInstruction.from_spec(self.split).to_absolute(splits):
            start, end = part.from_ or 0, splits[part.splitname].num_examples if part.to is None else part.to
            for first in range(start, end, self.unit_size):
                yield [part.splitname, first, min(first + self.unit_size, end)]

    def read(self, unit: list) -> Iterator[Record | Problem]:
        split, first, end = unit
        builder = self._builder()
        features = builder.info.features
        pairs = self._pairs(features)
        for number, example in enumerate(_examples(builder, pairs, split, first, end), first):
            where = f"{builder.info.full_name} {split}: example {number}"
            if isinstance(example, str):
                yield Problem(example, where)
                continue
            given: list[tuple[str, Any]] = []
            for theirs, ours in pairs:
                found = fields.find(example, theirs)
                value = _image(found, where) if ours == "image" else _plain(found)
                if isinstance(value, Problem):
                    break
                given.append((ours, _names_of(value, _feature(features, theirs))))
            else:
                record, reasons = fields.record(given, self.lang)
                yield from (Problem(reason, where, PART) for reason in reasons)
                record.setdefault("id", f"{split}:{number}")
                yield {**record, "source": record.get("source") or self.source}
                continue
            yield value

    def _builder(self) -> Any:
        import tensorflow_datasets as tfds

        directory = self.data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
        return tfds.builder_from_directory(_folder(os.path.expanduser(directory), self.name))

    def _pairs(self, features: Any) -> list[tuple[str, str]]:
        """(field of theirs, field of ours). Raises ValueError where there is none, or it cannot be used as said."""
        import tensorflow_datasets as tfds

        known = dict(_leaves(features))
        if self.fields:
            pairs = list(fields.parse(self.fields))
        else:
            pairs = [(name, name) for name in fields.OURS if name in known]
            taken = {ours for _, ours in pairs}
            pairs += [(theirs, ours) for theirs, ours in _USUAL if theirs in known and ours not in taken]
        if not pairs:
            raise ValueError(
                f"None of the fields has a usual name; say fields=THEIRS=OURS. Theirs: {', '.join(known)}."
            )
        for theirs, ours in pairs:
            feature = _feature(features, theirs)
            if feature is None:
                raise ValueError(f"fields: the data set has no {theirs!r}{fields.nearest(theirs, known)}")
            if ours == "image" and not _is_image(feature):
                raise ValueError(
                    f"fields: {theirs!r} is {feature}; expected one image: uint8, or a text that is a file's bytes."
                )
            if ours.endswith("/bbox") and isinstance(_inner(feature), tfds.features.BBoxFeature):
                layout = getattr(_inner(feature).bbox_format, "value", _inner(feature).bbox_format)
                if layout not in (None, "REL_YXYX"):
                    raise ValueError(f"fields: boxes {theirs!r} are {layout}; expected REL_YXYX.")
        return pairs


def _folder(directory: str, name: str) -> str:
    """The folder of one version of a data set: DATA_DIR/NAME[/CONFIG]/VERSION, the newest where none is said.

    Looked for here, for tfds would import the data set's code to do it. Raises FileNotFoundError.
    """
    name, _, version = name.partition(":")
    top = os.path.join(directory, name) if name else directory
    for pattern in ("", version or "*", f"*/{version or '*'}"):
        found = tf.io.gfile.glob(os.path.join(top, pattern, "features.json"))
        folders = sorted((os.path.dirname(path) for path in found), key=_version)
        if len({os.path.dirname(folder) for folder in folders}) > 1:
            configs = sorted({os.path.basename(os.path.dirname(folder)) for folder in folders})
            raise FileNotFoundError(
                f"{top!r} has several: name one, as in name={name}/{configs[0]} (or {configs[1:]})."
            )
        if folders:
            return folders[-1]
    there = tf.io.gfile.listdir(directory) if tf.io.gfile.isdir(directory) else []
    raise FileNotFoundError(
        f"No prepared data set {name!r}{version and f' of version {version}'} in {directory!r}: prepare it with tfds "
        f"first, or correct name or data_dir{fields.nearest(name, [one.rstrip('/') for one in there])}"
    )


def _version(folder: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else -1 for part in os.path.basename(folder).split("."))


def _examples(
    builder: Any, pairs: list[tuple[str, str]], split: str, first: int, end: int
) -> Iterator[dict[str, Any] | str]:
    """The wanted fields of a range's examples, numpy in nested dicts; a text says why one cannot be read."""
    import tensorflow_datasets as tfds

    decoded = _tree(builder.info.features, {theirs.replace(".", "/"): True for theirs, _ in pairs})
    images = {
        theirs.replace(".", "/"): tfds.decode.SkipDecoding()
        for theirs, ours in pairs
        if ours == "image" and isinstance(_feature(builder.info.features, theirs), tfds.features.Image)
    }
    some = tfds.decode.PartialDecoding(decoded, decoders=_tree(builder.info.features, images))
    if "array_record" in {file_format.value for file_format in builder.info.available_file_formats()}:
        source = builder.as_data_source(
            f"{split}[{first}:{end}]",
            deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES,
            file_format="array_record",
        )
        features = some.extract_features(builder.info.features)
        # tfds' own parser without TensorFlow stumbles over ragged fields that aren't wanted.
        parse = tf.function(
            lambda raw: features.deserialize_example(raw, decoders=some.decoders),
            input_signature=[tf.TensorSpec((), tf.string)],
        )
        for i in range(len(source)):
            try:
                raw = source[i]
            except (ValueError, RuntimeError, IndexError):
                yield "unreadable record"
                continue
            try:
                yield tf.nest.map_structure(_numpy, parse(raw))
            except tf.errors.InvalidArgumentError:
                yield "unreadable record"
        return
    # One file after another: else the order would depend on how many are read at once.
    config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    data = builder.as_dataset(split=f"{split}[{first}:{end}]", decoders=some, read_config=config)
    try:
        yield from tfds.as_numpy(data)
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError):
        yield "damaged or cut file"


def _tree(feature: Any, leaves: dict[str, Any], prefix: str = "") -> Any:
    """What is given for leaves, by their names with slashes, nested as the features are; {} where there is nothing."""
    import tensorflow_datasets as tfds

    inner = _inner(feature)
    if not isinstance(inner, tfds.features.FeaturesDict):
        return leaves.get(prefix, {})
    below = {name: _tree(one, leaves, f"{prefix}/{name}" if prefix else name) for name, one in inner.items()}
    return {name: one for name, one in below.items() if one != {}}


def _leaves(feature: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names with slashes and features of all that is no dictionary."""
    import tensorflow_datasets as tfds

    inner = _inner(feature)
    if isinstance(inner, tfds.features.FeaturesDict):
        for name, below in inner.items():
            yield from _leaves(below, f"{prefix}/{name}" if prefix else name)
    else:
        yield prefix, feature


def _feature(features: Any, name: str) -> Any:
    """The feature of a dotted name, or None."""
    return dict(_leaves(features)).get(name.replace(".", "/"))


def _inner(feature: Any) -> Any:
    import tensorflow_datasets as tfds

    while isinstance(feature, tfds.features.Sequence):
        feature = feature.feature
    return feature


def _numpy(value: tf.Tensor | tf.RaggedTensor) -> Any:
    return value if isinstance(value, tf.RaggedTensor) else value.numpy()


def _is_image(feature: Any) -> bool:
    import tensorflow_datasets as tfds

    if isinstance(feature, tfds.features.Sequence):
        return False
    return feature.np_dtype == np.uint8 or feature.np_dtype == np.object_ and feature.shape == ()


def _plain(value: Any) -> Any:
    """numpy's and TensorFlow's values in Python's own types."""
    if isinstance(value, tf.RaggedTensor | tf.compat.v1.ragged.RaggedTensorValue):
        return value.to_list()
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _names_of(value: Any, feature: Any) -> Any:
    """Label numbers → names; None for one that is out of range, as -1 of a test split."""
    import tensorflow_datasets as tfds

    if value is None or not isinstance(_inner(feature), tfds.features.ClassLabel):
        return value
    names = _inner(feature).names
    if isinstance(value, list):
        return [_names_of(one, feature) for one in value]
    return names[value] if 0 <= value < len(names) else None


def _image(value: Any, where: str) -> bytes | Problem:
    """Stored bytes as they are; uint8[H, W, 1 or 3 or 4] as a PNG."""
    if isinstance(value, bytes):
        return value or Problem("image empty", where)
    array = np.asarray(value)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] not in (1, 3, 4) or not array.size:
        return Problem("image of a wrong shape", where)
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).save(out, "PNG")
    return out.getvalue()

"""Puts the compiled program between TensorFlow's image and text operations, and saves that."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla

from paligax.inference import card, stablehlo
from paligax.inference.saved_model import images, texts

# TensorFlow reads no later form than that of its own build. This one is older than any TensorFlow that Python 3.11 has
# beside jax 0.10, and has all operations that the models use.
STABLEHLO_VERSION = "1.10.0"


def write(
    place: pathlib.Path,
    lowered: stablehlo.Lowered,
    params: Mapping[str, Any],
    vocabulary: Any,
    lengths: Mapping[str, int],
) -> None:
    """Writes a SavedModel into an empty directory.

    Its one signature, "serving_default", takes ``image`` string[B] (JPEG or PNG; "" where there is none) and ``prompt``
    string[B], and gives ``text`` string[B]: greedy answers, as ``paligax.load(…).generate`` of the same bytes.

    Args:
      place: the directory.
      lowered: of :func:`paligax.inference.stablehlo.lower`.
      params: name, joined by "/" → array, as they are to be stored.
      vocabulary: of paligax.vocabulary.
      lengths: as trained.

    Raises:
      OSError: where it can't be written.
    """
    program = lowered.exported["generate"]
    if program.calling_convention_version > xla.call_module_maximum_supported_version():
        raise ValueError(
            f"This jax compiles for calling convention {program.calling_convention_version}; TensorFlow "
            f"{tf.__version__} reads up to {xla.call_module_maximum_supported_version()}: use a later TensorFlow."
        )
    model = _Model(program, [(name, params[name]) for name in lowered.weights], texts.Texts(vocabulary), lengths)
    try:
        tf.saved_model.save(model, str(place), signatures={"serving_default": model.serve})
    except tf.errors.OpError as error:
        raise OSError(error.message) from error


class _Model(tf.Module):
    def __init__(self, program: Any, weights: Any, vocabulary: texts.Texts, lengths: Mapping[str, int]):
        super().__init__()
        # A list of variables, which travels in the SavedModel's own checkpoint: a graph holds no more than 2 GiB.
        self.weights = [tf.Variable(np.asarray(array), trainable=False, name=name) for name, array in weights]
        self._texts, self._lengths = vocabulary, dict(lengths)
        self._program, self._module = program, _portable(program)

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.string, "image"), tf.TensorSpec([None], tf.string, "prompt")],
        autograph=False,
    )
    def serve(self, image: Any, prompt: Any) -> dict[str, Any]:
        pixels, there = images.decode_and_resize(image, self._lengths["image"])
        ids = self._texts.encode(prompt, self._lengths["inputs"])
        return {"text": self._texts.decode(self._tokens(pixels, ids, there))}

    def _tokens(self, pixels: Any, ids: Any, there: Any) -> Any:
        arguments = [*(weight.read_value() for weight in self.weights), pixels, ids, there]
        (shape,) = (aval.shape for aval in self._program.out_avals)
        (tokens,) = xla.call_module(
            tuple(arguments[i] for i in self._program.module_kept_var_idx),
            version=self._program.calling_convention_version,
            module=self._module,
            Tout=(tf.int32,),
            Sout=((None, shape[1]),),
            platforms=tuple(name.upper() for name in self._program.platforms),
            function_list=(),
            has_token_input_output=False,
            disabled_checks=(),
            use_shardy_partitioner=False,
        )
        return tf.ensure_shape(tokens, (None, shape[1]))


def _portable(program: Any) -> bytes:
    """The program's module in an older form of StableHLO."""
    from jaxlib.mlir import ir
    from jaxlib.mlir.dialects import stablehlo as dialect

    with ir.Context() as context:
        module = dialect.deserialize_portable_artifact(context, program.mlir_module_serialized)
        return dialect.serialize_portable_artifact(module, STABLEHLO_VERSION)


def use(described: Mapping[str, Any]) -> str:
    """What the card says under "Use"."""
    needs_text = described["vocabulary"]["class"] == "SentencePieceVocabulary"
    lines = ["```python", "import tensorflow as tf"]
    lines += ["import tensorflow_text  # its operations read the vocabulary"] if needs_text else []
    return "\n".join(
        [
            *lines,
            "",
            'model = tf.saved_model.load("PATH/OF/THIS/DIRECTORY")',
            'image = open("photo.jpg", "rb").read()  # JPEG or PNG of any size; b"" where there is none',
            f"model.serve(tf.constant([image]), tf.constant([{card.example_prompt(described)!r}]))",
            '# {"text": string [1]}; TensorFlow Serving: signature serving_default, inputs image and prompt',
            "```",
        ]
    )

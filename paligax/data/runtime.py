"""TensorFlow as this room uses it: quiet, and on the CPU alone.

Every module here takes ``tf`` from this one, so that no import order lets TensorFlow reserve an accelerator's memory.
"""

import logging
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf  # noqa: E402

tf.get_logger().setLevel(logging.ERROR)
for _kind in ("GPU", "TPU"):
    try:
        tf.config.set_visible_devices([], _kind)
    except (RuntimeError, ValueError):  # someone has used TensorFlow before us: it has the devices already
        pass

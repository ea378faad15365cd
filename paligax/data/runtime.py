"""TensorFlow as this room uses it: quiet, and on the CPU alone.

Every module here takes ``tf`` and ``seqio`` (which imports it) from this one, so that no import order lets TensorFlow
reserve an accelerator's memory or write its notices.
"""

import contextlib
import ctypes
import logging
import os
import threading
from collections.abc import Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@contextlib.contextmanager
def _standard_error_set_aside() -> Iterator[None]:
    """TensorFlow's libraries write notices on missing accelerators to file descriptor 2 before any setting is read."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _keep_freed_memory(megabytes: int = 64) -> None:
    """Lets glibc keep that much freed memory a thread instead of handing each image's buffers back to the kernel.

    They would be faulted in again, page by page, for the next image: twice the time of the whole input path, measured.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(-2, megabytes << 20)  # M_TOP_PAD
    # Setting one ends glibc's own adjusting of the others: these are where it would arrive.
    mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD, the most that it takes
    mallopt(-1, 4 * megabytes << 20)  # M_TRIM_THRESHOLD


_here = threading.local()


def keep_thread_state() -> None:
    """Called from Python inside a graph: TensorFlow's thread keeps what the interpreter knows of it.

    It would be made and freed, with memory mapped and unmapped, at every call: a tenth of the input path, measured.
    """
    if not getattr(_here, "kept", False):
        ctypes.pythonapi.PyGILState_Ensure()  # never released: the thread's count cannot fall to zero
        _here.kept = True


_keep_freed_memory()
with _standard_error_set_aside():
    import seqio  # noqa: F401  re-exported
    import tensorflow as tf

    tf.config.list_physical_devices()

tf.get_logger().setLevel(logging.ERROR)
for _kind in ("GPU", "TPU"):
    try:
        tf.config.set_visible_devices([], _kind)
    except (RuntimeError, ValueError):  # someone has used TensorFlow before us: it has the devices already
        pass

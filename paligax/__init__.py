"""paligax: a training framework for PaLI vision-language models in JAX.

``paligax.load(path)`` opens an exported model; it needs neither gin nor TensorFlow nor what trained it. Importing this
package imports no other: the rooms are imported on use.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from paligax.inference.loading import Loaded

__version__ = "0.1.0"


def load(path: "str | os.PathLike") -> "Loaded":
    """Opens an export directory (``paligax export``), or a run or checkpoint directory, for use.

    Returns:
      a ``Loaded``: ``.module`` (Linen module), ``.params`` (nested dict of arrays), ``.vocabulary``, and
      ``.generate(images, prompts) -> list[str]``.

    Raises FileNotFoundError where something is missing and ValueError where something doesn't fit, saying what.
    """
    from paligax.inference import loading

    return loading.load(path)

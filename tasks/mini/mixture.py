"""The eight tasks and classification over `mini_webli`."""

import pathlib

from paligax.data import Data
from tasks import pretrain
from tasks.parts import add_mixture


def register(data: Data) -> None:
    """Registers the eight tasks under their own names and the mixture ``mini`` of them, in the paper's proportions; or
    ``classification``, where labels are asked for. Lists of classes and words are the built data set's.

    Raises:
      FileNotFoundError: where ``data.data_dir`` holds no such data set.
    """
    directory = pathlib.Path(data.data_dir or "")
    if not (directory / "manifest.json").is_file():
        raise FileNotFoundError(
            f"No data set mini_webli in {str(directory)!r} (Data.data_dir, macro DATA_DIR): expected the directory "
            "that `paligax data build mini_webli --data_dir=DIR` prints."
        )
    lists = {"classes": str(directory / "classes.txt"), "unseen_words": str(directory / "unseen_words.txt")}
    if "labels" in data.feature_lengths:
        labels = {"classes": str(directory / "labels.txt")}
        pretrain.add_classification(data, pretrain.read_options(labels | dict(data.options)))
        return
    pretrain.add_tasks(data, pretrain.read_options(lists | dict(data.options)))
    add_mixture("mini", pretrain.MILLIONS)

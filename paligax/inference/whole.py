"""A directory that appears whole or not at all."""

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator


def check_place(path: str | os.PathLike) -> pathlib.Path:
    """The path, where it is free: nothing there, or an empty directory. Raises FileExistsError otherwise."""
    path = pathlib.Path(path).expanduser()
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(f"{str(path)!r} exists and would be overwritten: choose another path, or remove it.")
    return path


@contextlib.contextmanager
def directory(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """An empty directory beside ``path`` that takes its place when the block has ended without an error.

    A directory that is there is replaced: whether it may be is for the caller to have asked.

    Raises:
      OSError: where something could not be written, saying that nothing is left of it.
    """
    path = pathlib.Path(path).expanduser()
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        yield partial
        partial.chmod(0o755)
        if path.is_dir():
            # Two renames: whoever looks in between finds nothing there, and never a half of either.
            old = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
            path.rename(old / path.name)
            partial.rename(path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            partial.rename(path)
    except OSError as error:
        if isinstance(error, FileExistsError | FileNotFoundError) and error.errno is None:
            raise  # a message of ours
        raise OSError(f"The export to {str(path)!r} could not be written: {error}. Nothing is left of it.") from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)

"""Compiled programs kept over restarts."""

import pathlib
import zlib

import jax


def enable(directory: str) -> None:
    """Makes jax keep compiled programs here; "" changes nothing, and neither does it where jax has a directory already.

    Programs for CPUs use the instructions of the CPU they were compiled on: each kind has a subdirectory, as home
    directories are often shared.
    """
    if not directory or jax.config.jax_compilation_cache_dir:
        return
    path = pathlib.Path(directory).expanduser()
    if jax.default_backend() == "cpu":
        path /= _cpu()
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _cpu() -> str:
    """A short name of this machine's kind of CPU."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "cpu"
    traits = sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
    return f"cpu-{zlib.crc32(''.join(traits).encode()):08x}"

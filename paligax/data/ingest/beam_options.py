"""Beam's own options: which runner does the work, and with how many processes."""

import contextlib
import difflib
import io
import logging
import os
from collections.abc import Sequence

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

_HERE = ("DirectRunner", "FnApiRunner")  # this machine's
_OURS = "FnApiRunner"
MODES = ("in_memory", "multi_threading", "multi_processing")
MOST_WORKERS = 4096  # processes of one machine


def options(arguments: Sequence[str] = (), most_workers: int = 1 << 16) -> PipelineOptions:
    """Without another --runner it is Beam's own on this machine, with a process for each core.

    Args:
      arguments: as Beam's own command lines take them: --runner=FlinkRunner.
      most_workers: as many processes as there is work for.

    Raises:
      ValueError: a runner or an option that Beam doesn't know, or a value that isn't one.
    """
    given = dict(word.removeprefix("--").partition("=")[::2] for word in arguments)
    given["runner"] = _runner(given.get("runner", "DirectRunner"))
    if given["runner"] == "DirectRunner":
        given["runner"] = _OURS
        given.setdefault("direct_running_mode", "multi_processing")
    workers = given.get("direct_num_workers", "1")
    if not workers.isdecimal() or not 1 <= int(workers) <= MOST_WORKERS:
        raise ValueError(f"--beam.direct_num_workers={workers}: expected a whole number from 1 to {MOST_WORKERS:,}.")
    if given.get("direct_running_mode", MODES[0]) not in MODES:
        raise ValueError(f"--beam.direct_running_mode={given['direct_running_mode']}: expected {', '.join(MODES)}.")
    if given.get("direct_running_mode") == "multi_processing":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        given.setdefault("direct_num_workers", str(min(cores, most_workers)))
        if given["direct_num_workers"] == "1":  # a process of its own would only have TensorFlow to import
            given["direct_running_mode"] = "in_memory"
    given.setdefault("default_sdk_harness_log_level", "WARNING")
    logging.getLogger("apache_beam").setLevel(logging.WARNING)
    words = [f"--{name}={value}" if value else f"--{name}" for name, value in given.items()]
    _check(given, words)
    return PipelineOptions(words)


def _runner(name: str) -> str:
    """The runner as Beam writes it, whose names know no case; a dotted name is a class of somebody's own."""
    known = {one.lower(): one for one in StandardOptions.KNOWN_RUNNER_NAMES}
    if "." in name or name == _OURS:
        return name
    lower = name.lower()
    found = known.get(lower) or known.get(f"{lower}runner")
    if not found:
        near = difflib.get_close_matches(lower, known, 1)
        raise ValueError(
            f"--beam.runner={name} is not known{f'; did you mean {known[near[0]]!r}?' if near else '.'} "
            f"Known: {', '.join(known.values())}."
        )
    return found


def _check(given: dict[str, str], words: Sequence[str]) -> None:
    """Beam passes over what it doesn't know, and prints all its options where a value is wrong."""
    known: list[str] = []
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            PipelineOptions(list(words)).get_all_options(
                add_extra_args_fn=lambda parser: known.extend(parser._option_string_actions)
            )
    except SystemExit as error:
        raise ValueError(f"Beam says: {said.getvalue().strip().splitlines()[-1].partition('error: ')[2]}.") from error
    names = [name.removeprefix("--") for name in known]
    for name in given:
        near = difflib.get_close_matches(name, names, 1)
        # Another runner may have options that only its server knows.
        if name not in names and (near or given["runner"] in _HERE):
            raise ValueError(
                f"--beam.{name} is no option of Beam's{f'; did you mean --beam.{near[0]}?' if near else '.'}"
            )

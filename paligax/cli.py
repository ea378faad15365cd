"""`paligax VERB`: reads gin, calls one function of a room."""

import argparse
import dataclasses
import inspect
import json
import os
import pathlib
import sys
import traceback
from collections.abc import Sequence

from paligax import configuration, data_verbs, inference_verbs
from paligax.configuration import ConfigurationError

EPILOG = """\
words for gin, with every verb that takes --gin_file:
  --gin.NAME=value              sets a macro:      --gin.TRAIN_STEPS=1000
  --gin.Name.parameter=value    sets a parameter:  --gin.Trainer.seed=1
A value that is no gin literal is taken as a string: --gin.DATA_DIR=/data/webli needs no quotes.
"""


def train(arguments: argparse.Namespace) -> None:
    """Train what the gin files describe, or resume it."""
    config = _parse(arguments, ["Trainer"])
    if not config.model_dir:
        raise ConfigurationError(["train needs a run directory: --model_dir=runs/NAME."])
    join_processes()
    from paligax import training

    training.train(
        config.build("Trainer"),
        config.model_dir,
        config.text,
        arguments.accept_config_change,
        arguments.stall_seconds,
        arguments.profile,
    )


def status(arguments: argparse.Namespace) -> int:
    """Say how a run is: step, speed, goodput, last checkpoint, last error.

    Exit code 0: it moves or is done; 3: it has written nothing for --silent_seconds and should; 4: it was killed,
    failed or was stopped before its last step; 1: there is no run.
    """
    from paligax.training import status as of

    found = of.read(arguments.directory, arguments.silent_seconds)
    if arguments.json:
        print(json.dumps(dataclasses.asdict(found), indent=1))
    else:
        print(of.text(arguments.directory, found))
    return found.exit_code


def evaluate(arguments: argparse.Namespace) -> None:
    """Score a model on held-out data, each task beside its blind control; writes results.json and eval.html.

    The checkpoint's own configuration comes first, then runs/eval.gin, then the gin files and words given. An export or
    foreign weights have none: name the data in a gin file, or by MIXTURE_OR_TASK_NAME and DATA_DIR.
    """
    join_processes()
    import jax

    from paligax.inference import results
    from paligax.inference.held_out import print_table
    from paligax.inference.subject import Subject
    from paligax.reports.eval_report import write_eval_report

    subject = Subject.open(arguments.checkpoint)
    arguments.gin_file = [*subject.gin_files, "runs/eval.gin", *arguments.gin_file]
    evaluator = subject.fitted(_parse(arguments, ["Evaluator"], subject.config).build("Evaluator"))
    found = evaluator.run(subject.module, subject.params(evaluator.data.feature_lengths))
    if jax.process_index() == 0:
        print_table({"score": found.results})
        directory, about = pathlib.Path(arguments.to or subject.reports), evaluator.about(subject.place)
        print(f"Results: {results.write(directory, found, about)}")
        print(f"Report: {write_eval_report(directory / 'eval.html', found, about)}")
        if arguments.json:
            _write_json(arguments.json, found.results)


def compare(arguments: argparse.Namespace) -> None:
    """Ask two models the same held-out examples: what was forgotten between them.

    The configuration is that of --after, then runs/eval.gin, then the gin files and words given. A run before
    vision-language training may be foreign mT5 weights, for tasks of text alone.
    """
    join_processes()
    import jax

    from paligax.inference import comparison
    from paligax.inference.subject import Subject

    before, after = Subject.open(arguments.before), Subject.open(arguments.after)
    arguments.gin_file = [*after.gin_files, "runs/eval.gin", *arguments.gin_file]
    evaluator = after.fitted(_parse(arguments, ["Evaluator"], after.config).build("Evaluator"))
    compared = comparison.compare(evaluator, before, after)
    if jax.process_index() == 0:
        comparison.print_table(compared)
        if arguments.json:
            found = comparison.described(compared, before.place, after.place)
            pathlib.Path(arguments.json).parent.mkdir(parents=True, exist_ok=True)
            pathlib.Path(arguments.json).write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def convert(arguments: argparse.Namespace) -> None:
    """Write a model's weights in another format: paligax's own, transformers', big_vision's or T5X's.

    What is written is read back with the same bits. Of a PaLI, hf writes both towers (transformers opens language/ as
    MT5ForConditionalGeneration, vision/ as SiglipVisionModel) and the projection between them, big_vision the image
    tower, t5x the language tower.
    """
    from paligax.inference import conversion

    written = conversion.convert(arguments.source, arguments.to, arguments.format, arguments.part, arguments.dtype)
    for path in written:
        print(f"Wrote {path}")


def check(arguments: argparse.Namespace) -> None:
    """Name every mistake of a configuration. Starts no accelerator."""
    config = _parse(arguments, None)
    print("Names, types and required values: no mistake.")
    if "Trainer" in config.bound:
        data = config.build("Trainer").data
    elif "Data" in config.bound:
        data = config.build("Data")
    else:
        return
    print(f"Tasks of {data.mixture_or_task}: {', '.join(data.tasks())}.")


def plan(arguments: argparse.Namespace) -> int:
    """Compile the step that `paligax train` runs and report memory, FLOPs, traffic and time; nothing is run.

    With --topology for TPUs that need not be there, by their compiler (pip install 'paligax[plan]'); without it for the
    devices here. Exit code 0: it fits; 3: it does not.
    """
    config = _parse(arguments, ["Trainer"])
    if arguments.topology:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from paligax.training import planning

    found = planning.plan(config.build("Trainer"), arguments.topology)
    print(planning.table(found))
    if arguments.json:
        path = pathlib.Path(arguments.json)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found.as_dict(), indent=1, allow_nan=False) + "\n")
    return 0 if found.fits else 3


def join_processes() -> None:
    """Joins the other processes of this run, where a launcher has said which one this is; before JAX is used."""
    if "PALIGAX_COORDINATOR" in os.environ:
        from paligax.training import peers

        peers.join()


def _leave_processes(code: int, text: str = "") -> None:
    """Ends a process that has joined others, and tells them why; does nothing for one alone."""
    if "paligax.training.peers" in sys.modules:
        from paligax.training import peers

        if text:
            peers.tell(text)
        peers.leave(code)


def main(words: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit code: 0, 1 for an error, 2 for a mistake in words or configuration."""
    words = list(sys.argv[1:] if words is None else words)
    gin = [word.removeprefix("--gin.") for word in words if word.startswith("--gin.")]
    parser = _parser()
    arguments, unknown = parser.parse_known_args([word for word in words if not word.startswith("--gin.")])
    if "run" not in arguments:
        parser.print_help()
        return 0
    arguments.gin, arguments.unknown, arguments.parse = gin, unknown, _parse
    if unknown and not arguments.takes_unknown:
        flag = unknown[0].partition("=")[0]
        near = configuration.nearest(flag, arguments.parser._option_string_actions)
        arguments.parser.error(f"{unknown[0]!r} is not known.{near}")
    try:
        code = arguments.run(arguments)
    except ConfigurationError as error:
        print(f"{arguments.parser.prog}: {error}", file=sys.stderr)
        return 2
    except SystemExit as ended:
        if type(ended).__name__ == "LostProcess":  # an orderly end would wait for those that are gone
            _leave_processes(ended.code)
        raise
    except Exception as error:
        if not _is_message(error):
            if "PALIGAX_COORDINATOR" in os.environ:
                traceback.print_exc()
                _leave_processes(1, f"{type(error).__name__}: {error}")
            raise
        print(f"{arguments.parser.prog}: {_without_gin(error)}", file=sys.stderr)
        _leave_processes(1, _without_gin(error))
        return 1
    return code or 0


def _parser() -> argparse.ArgumentParser:
    style = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    parser = argparse.ArgumentParser(prog="paligax", description="Trains PaLI vision-language models.", **style)
    verbs = parser.add_subparsers(metavar="VERB")

    def verb(group, name, run, takes_gin=True, **options):
        added = group.add_parser(
            name,
            help=run.__doc__.splitlines()[0],
            description=inspect.getdoc(run),
            epilog=EPILOG if takes_gin else None,
            **style,
            **options,
        )
        added.set_defaults(run=run, parser=added, gin_file=[], model_dir="", takes_unknown=False)
        if takes_gin:
            added.add_argument(
                "--gin_file", action="append", metavar="FILE", help="relative to here or to gin_configs/; repeatable"
            )
        return added

    added = verb(verbs, "train", train)
    added.add_argument(
        "--model_dir", default="", metavar="DIR", help="the run's directory; resumed if it holds a checkpoint"
    )
    added.add_argument(
        "--accept_config_change", action="store_true", help="go on with a run whose configuration was another one"
    )
    added.add_argument("--profile", default="", metavar="FIRST:LAST", help="trace these steps for TensorBoard")
    added.add_argument(
        "--stall_seconds",
        type=float,
        default=600.0,
        metavar="S",
        help="a step or a batch that takes longer ends the run with exit code 79; 0: never",
    )
    added = verb(verbs, "status", status, takes_gin=False)
    added.add_argument("directory", metavar="RUN_DIR", help="what `paligax train --model_dir` was given")
    added.add_argument("--json", action="store_true", help="print everything as JSON")
    added.add_argument(
        "--silent_seconds", type=float, default=120.0, metavar="S", help="a run that writes nothing for longer hangs"
    )
    added = verb(verbs, "eval", evaluate)
    added.add_argument(
        "--checkpoint", required=True, metavar="PATH", help="a run, one of its checkpoints, an export, foreign weights"
    )
    added.add_argument("--to", metavar="DIR", help="of results.json, predictions.jsonl and eval.html; RUN/eval/STEP")
    added.add_argument("--json", metavar="FILE", help="write the scores alone there, for `paligax export --metrics`")
    added = verb(verbs, "compare", compare)
    added.add_argument("--before", required=True, metavar="PATH", help="a run, a checkpoint, an export, or an mT5")
    added.add_argument("--after", required=True, metavar="PATH", help="likewise, with the same vocabulary")
    added.add_argument("--json", metavar="FILE", help="write the comparison there")
    inference_verbs.add(verbs, verb)
    added = verb(verbs, "convert", convert, takes_gin=False)
    added.add_argument(
        "--from",
        dest="source",
        required=True,
        metavar="PATH",
        help="a run, a checkpoint, an export, or foreign weights: a directory of transformers, a big_vision FILE.npz "
        "(FILE.npz:img), a T5X checkpoint, a flax .msgpack",
    )
    added.add_argument("--to", required=True, metavar="DIR", help="the directory to be written (or big_vision's .npz)")
    added.add_argument("--format", required=True, choices=["paligax", "hf", "big_vision", "t5x"])
    added.add_argument("--part", default="", metavar="NAME", help="one tower only: vision, language or text")
    added.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], help="of float32 weights, when stored")
    added = verb(verbs, "check", check)
    added.add_argument("--model_dir", default="", metavar="DIR", help="as `paligax train` will be given it")

    added = verb(verbs, "plan", plan)
    added.add_argument("--topology", metavar="KIND:SHAPE", help="a TPU slice to plan for: v4:8x8x16, v5e:16x16, …")
    added.add_argument("--json", metavar="FILE", help="write the figures there")

    data_verbs.add(verbs, verb, style)
    return parser


def _parse(arguments: argparse.Namespace, roots: Sequence[str] | None, text: str = "") -> configuration.Configuration:
    if not arguments.gin_file and not text:
        raise ConfigurationError(["no --gin_file is given."])
    return configuration.parse(arguments.gin_file, arguments.gin, roots, model_dir=arguments.model_dir, text=text)


def _is_message(error: Exception) -> bool:
    """Whether a `raise` of paligax or tasks made this: then its text says what to do, and a traceback would hide it."""
    if "PALIGAX_TRACEBACK" in os.environ:
        return False
    origin = traceback.extract_tb(error.__traceback__)[-1]
    house = pathlib.Path(__file__).resolve().parents[1]
    ours = any(pathlib.Path(origin.filename).is_relative_to(house / room) for room in ("paligax", "tasks"))
    return ours and (origin.line or "").startswith("raise ")


def _without_gin(error: Exception) -> str:
    return str(error).partition("\n  In call to configurable")[0]


def _write_json(path: str, results) -> None:
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    finite = {task: {k: v if v == v else None for k, v in values.items()} for task, values in results.items()}
    pathlib.Path(path).write_text(json.dumps(finite, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())

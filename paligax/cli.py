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

from paligax import configuration, data_verbs
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

    training.train(config.build("Trainer"), config.model_dir, config.text, arguments.accept_config_change)


def evaluate(arguments: argparse.Namespace) -> None:
    """Score a checkpoint on held-out data, each task beside its blind control.

    The checkpoint's own configuration comes first, then runs/eval.gin, then the gin files and words given.
    """
    join_processes()
    import jax

    from paligax import models, vocabulary
    from paligax.inference.held_out import print_table
    from paligax.training import checkpoints

    directory, described = checkpoints.describe(arguments.checkpoint)
    arguments.gin_file = ["runs/eval.gin", *arguments.gin_file]
    evaluator = _parse(arguments, ["Evaluator"], described.config).build("Evaluator")
    if described.vocabulary:  # the model's own vocabulary, whose file may have moved since
        data = dataclasses.replace(evaluator.data, vocabulary=vocabulary.from_dict(described.vocabulary))
        evaluator = dataclasses.replace(evaluator, data=data)
    params, _ = checkpoints.restore_params(directory)
    found = evaluator.run(models.build(described.architecture), params)
    if jax.process_index() == 0:
        print_table({"score": found.results})
        if arguments.json:
            _write_json(arguments.json, found.results)


def export(arguments: argparse.Namespace) -> None:
    """Write a directory that paligax.load opens, without gin, TensorFlow or what trained it."""
    import paligax
    from paligax.inference.export import export

    metrics = json.loads(pathlib.Path(arguments.metrics).read_text()) if arguments.metrics else {}
    loaded = paligax.load(arguments.checkpoint)
    path = export(
        arguments.to,
        loaded.module,
        loaded.params,
        loaded.vocabulary,
        feature_lengths=loaded.feature_lengths,
        metrics=metrics,
        class_names=_lines(arguments.class_names),
        licence="\n".join(_lines(arguments.licence)),
        name=arguments.name,
    )
    print(f"Exported to {path}")


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


def join_processes() -> None:
    """Joins the other processes of this run, where a launcher has said which one this is; before JAX is used."""
    if "PALIGAX_COORDINATOR" not in os.environ:
        return
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        os.environ["PALIGAX_COORDINATOR"],
        num_processes=int(os.environ["PALIGAX_NUM_PROCESSES"]),
        process_id=int(os.environ["PALIGAX_PROCESS_ID"]),
    )


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
        arguments.run(arguments)
    except ConfigurationError as error:
        print(f"{arguments.parser.prog}: {error}", file=sys.stderr)
        return 2
    except Exception as error:
        if not _is_message(error):
            raise
        print(f"{arguments.parser.prog}: {_without_gin(error)}", file=sys.stderr)
        return 1
    return 0


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
    added = verb(verbs, "eval", evaluate)
    added.add_argument("--checkpoint", required=True, metavar="DIR", help="a run's directory or one of its checkpoints")
    added.add_argument("--json", metavar="FILE", help="write the results there")
    added = verb(verbs, "export", export, takes_gin=False)
    added.add_argument("--checkpoint", required=True, metavar="DIR", help="a run's directory or one of its checkpoints")
    added.add_argument("--to", required=True, metavar="DIR", help="the directory to be written")
    added.add_argument("--format", default="paligax", choices=["paligax"])
    added.add_argument("--metrics", metavar="FILE", help="what `paligax eval --json` wrote, for the export's card")
    added.add_argument("--class_names", metavar="FILE", help="names of a classifier's outputs, one a line")
    added.add_argument("--licence", metavar="FILE", help="on the card: what the training data's licence asks")
    added.add_argument("--name", default="", metavar="NAME", help="the model's name on the card; the directory's")
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


def _lines(path: str | None) -> list[str]:
    return pathlib.Path(path).read_text("utf-8").splitlines() if path else []


def _write_json(path: str, results) -> None:
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    finite = {task: {k: v if v == v else None for k, v in values.items()} for task, values in results.items()}
    pathlib.Path(path).write_text(json.dumps(finite, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())

"""`paligax infer | export | soup`: the verbs of those who use trained models."""

import argparse
import pathlib
from collections.abc import Callable
from typing import Any

FORMATS = ("paligax", "stablehlo", "saved_model", "hf")
PLATFORMS = ("cpu", "cuda", "tpu")
_SUBMISSIONS = (
    "vqav2",
    "okvqa",
    "textvqa",
    "stvqa",
    "gqa",
    "vizwiz_vqa",
    "coco_captions",
    "vizwiz_captions",
    "nocaps",
)


def infer(arguments: argparse.Namespace) -> None:
    """Answer prompts about many images; writes JSON lines, and challenge submissions.

    What is asked: every image below --images with the same --prompt; or the entries of --questions (VQAv2, OK-VQA,
    TextVQA, VizWiz, GQA, COCO captions, Karpathy's splits, or your own JSON lines), about images below --images; or the
    records of --shards. --prompt may hold fields of an entry: --prompt='Answer in EN: {question} <extra_id_0>'.

    A job that was stopped goes on with the same command, and ends with the same bytes. Images that can't be used are
    lines with an "error", and counted. Several processes each write a part; they are joined at the end.
    """
    from paligax import cli

    cli.join_processes()
    import jax

    from paligax.inference import batch_inference, submissions
    from paligax.inference.answerer import Answerer
    from paligax.inference.generation import Decoding
    from paligax.training.partitioning import Partitioner

    lines, submission = _places(arguments)
    options = Decoding.of({name: getattr(arguments, name) for name in _DECODING})
    asked = _questions(arguments)
    ids = [entry.id for entry in asked.entries] if arguments.submission else []
    if arguments.submission:
        submissions.check_ids(ids, arguments.submission)
    # What the devices can't halve stays whole: nothing else is to be done about it here.
    partitioner = Partitioner(fsdp=arguments.fsdp, tensor=arguments.tensor, replicate_indivisible=True)
    size = arguments.batch_size or _batch_size(partitioner)
    model = Answerer.open(arguments.checkpoint, size, partitioner)

    def finishing(answers: Any) -> dict[str, Any]:
        if not submission:
            return {}
        problems = submissions.write(answers, ids, arguments.submission, submission)
        return {"submission": str(submission), "without answer": dict(problems)}

    first = jax.process_index() == 0
    say: Callable[[str], None] = print if first else lambda line: None
    found = batch_inference.run(model, asked, lines, options, score=arguments.score, finishing=finishing, say=say)
    say(f"{found.answered} answers in {lines} ({len(asked) - found.resumed} asked now, {found.seconds:.1f} s)")
    for reason, number in found.errors.items():
        say(f"{number} without an answer: {reason}")
    if submission:
        say(f"Submission to {arguments.submission}: {submission}")


_DECODING = (
    "max_length",
    "num_beams",
    "length_penalty",
    "early_stopping",
    "temperature",
    "top_k",
    "top_p",
    "num_samples",
    "seed",
)


def _places(arguments: argparse.Namespace) -> tuple[pathlib.Path, pathlib.Path | None]:
    """Where the lines go and where the submission: one is --to, the other has its name with the other ending."""
    to = pathlib.Path(arguments.to).expanduser()
    if not arguments.submission:
        return to, None
    if not arguments.questions:
        arguments.parser.error("--submission answers a published question file: give --questions=FILE.")
    return (to.with_suffix(".jsonl"), to) if to.suffix == ".json" else (to, to.with_suffix(".json"))


def _questions(arguments: argparse.Namespace) -> Any:
    from paligax.inference import questions

    if arguments.shards:
        if arguments.questions or arguments.images:
            arguments.parser.error("--shards has its own images and questions: leave --images and --questions out.")
        if not arguments.prompt:
            arguments.parser.error("--shards needs --prompt, e.g. 'Answer in EN: {question} <extra_id_0>'.")
        from paligax.inference.shard_questions import FromShards

        return FromShards(arguments.shards, arguments.split or "validation", arguments.prompt)
    if arguments.questions:
        return questions.of_file(arguments.questions, arguments.images, arguments.prompt, arguments.split)
    if not arguments.images:
        arguments.parser.error("nothing is asked: give --images=FOLDER, --questions=FILE or --shards=DIR.")
    if not arguments.prompt:
        arguments.parser.error("--images needs --prompt, e.g. 'Generate the alt_text in EN at 0: <extra_id_0>'.")
    return questions.of_folder(arguments.images, arguments.prompt)


def _batch_size(partitioner: Any) -> int:
    """32, or the next number that the devices can share."""
    mesh = partitioner.mesh()
    parts = mesh.shape["data"] * mesh.shape["fsdp"]
    return -(-32 // parts) * parts


def export(arguments: argparse.Namespace) -> None:
    """Write a model in a form that others open: paligax.load, jax alone, TensorFlow, or transformers.

    paligax      safetensors, architecture, vocabulary and a card; paligax.load opens it without gin or TensorFlow
    stablehlo    the same, and compiled programs that jax runs without paligax, on any platform and batch size
    saved_model  TensorFlow's: image bytes and prompts in, texts out
    hf           transformers' directories, of a PaLI one for each tower
    """
    from paligax.inference import card, exporting

    told = exporting.Told(
        metrics=card.read_metrics(arguments.metrics) if arguments.metrics else {},
        data=_rates(arguments),
        class_names=_lines(arguments.class_names),
        licence="\n".join(_lines(arguments.licence)),
        name=arguments.name,
    )
    written = exporting.write(
        arguments.checkpoint,
        arguments.to,
        arguments.format,
        dtype=arguments.dtype,
        told=told,
        max_length=arguments.max_length,
        platforms=tuple(arguments.platforms.split(",")),
    )
    for path in written:
        print(f"Exported to {path}")


def _rates(arguments: argparse.Namespace) -> dict[str, str]:
    """The parts of the mixture's tasks in the training, where the run's task modules can still be imported."""
    from paligax import configuration
    from paligax.inference import card
    from paligax.training import checkpoints

    if arguments.no_rates:
        return {}
    try:
        _, described = checkpoints.describe(arguments.checkpoint)
    except FileNotFoundError:  # an export, or foreign weights: what they say of themselves is kept
        return {}
    try:
        from paligax.data import registry

        data = configuration.parse([], [], ["Trainer"], text=described.config).build("Trainer").data
        stated = card.trained_on("", rates=registry.rates(data))
    except Exception as error:  # noqa: BLE001  whatever task modules raise: the weights are exported all the same
        print(f"The card doesn't say the tasks' rates: {type(error).__name__}: {error}")
        return {}
    return stated


def _lines(path: str | None) -> list[str]:
    return pathlib.Path(path).read_text("utf-8").splitlines() if path else []


def soup(arguments: argparse.Namespace) -> None:
    """Average the weights of several models of one architecture; writes an export, which a run can start from.

    With --greedy they are evaluated first, and from the best one on each is kept that doesn't make the mean worse. The
    evaluation is that of `paligax eval`: the first model's configuration, then runs/eval.gin, then what is given here.
    """
    from paligax.inference import soup as soups
    from paligax.inference import whole

    paths = arguments.checkpoints
    sources = soups.open_all(paths)
    if not arguments.greedy:
        if arguments.gin_file or arguments.gin or arguments.metric:
            arguments.parser.error("gin files and --metric say how models are compared: give --greedy as well.")
        print(f"Wrote {soups.write(arguments.to, paths, sources, arguments.weights)}")
        return
    if arguments.weights:
        arguments.parser.error("--greedy gives all that it keeps the same weight: leave --weights out.")
    whole.check_place(arguments.to)
    scorer = _Scorer(arguments, paths[0])
    chosen = soups.greedy(sources, scorer)
    kept = [paths[i] for i in chosen.kept]
    written = soups.write(arguments.to, kept, [sources[i] for i in chosen.kept], metrics=scorer.results[chosen.call])
    print(f"{scorer.metric} {chosen.score:.4g}: the mean of {', '.join(kept)}")
    print(f"Wrote {written}")


class _Scorer:
    """Parameters → --metric of an evaluation, larger for better; keeps all results."""

    def __init__(self, arguments: argparse.Namespace, path: str):
        from paligax.inference.subject import Subject

        subject = Subject.open(path)
        arguments.gin_file = [*subject.gin_files, "runs/eval.gin", *arguments.gin_file]
        self._evaluator = subject.fitted(arguments.parse(arguments, ["Evaluator"], subject.config).build("Evaluator"))
        self._module, self.metric = subject.module, arguments.metric
        self.results: list[Any] = []

    def __call__(self, params: Any) -> float:
        from paligax import configuration
        from paligax.metrics import LOWER_IS_BETTER

        results = self._evaluator.run(self._module, params).results
        self.results.append(results)
        known = {f"{task}/{name}": value for task, values in results.items() for name, value in values.items()}
        if not self.metric and len(results) == 1:
            self.metric = next(iter(known))  # the headline
        if self.metric not in known:
            near = configuration.nearest(self.metric, known)
            raise ValueError(
                f"--metric={self.metric!r} is none of what was evaluated.{near} Known: {', '.join(known)}."
            )
        return -known[self.metric] if self.metric.partition("/")[2] in LOWER_IS_BETTER else known[self.metric]


def add(verbs: Any, verb: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the verbs to the command line's."""
    _add_infer(verb(verbs, "infer", infer, takes_gin=False))
    _add_export(verb(verbs, "export", export, takes_gin=False))
    _add_soup(verb(verbs, "soup", soup))


def _add_infer(added: argparse.ArgumentParser) -> None:
    added.add_argument("--checkpoint", required=True, metavar="DIR", help="a run, one of its checkpoints, or an export")
    added.add_argument("--to", required=True, metavar="FILE.jsonl", help="the lines to be written")
    added.add_argument("--images", default="", metavar="FOLDER", help="images: all are asked, or those of --questions")
    added.add_argument("--questions", default="", metavar="FILE", help="a published question file, or your own .jsonl")
    added.add_argument("--shards", default="", metavar="DIR", help="a data directory as `paligax data build` makes it")
    added.add_argument("--split", default="", help="of --shards (validation), or of Karpathy's file")
    added.add_argument("--prompt", default="", metavar="TEXT", help="may hold {question} or other fields")
    added.add_argument("--submission", choices=_SUBMISSIONS, help="writes FILE.json for the challenge's server as well")
    added.add_argument("--score", action="store_true", help="write the log probability of each answer")
    added.add_argument("--batch_size", type=_positive, metavar="N", help="32")
    added.add_argument("--fsdp", type=_positive, default=1, metavar="N", help="devices that share the weights")
    added.add_argument("--tensor", type=_positive, default=1, metavar="N", help="devices that share one row's work")
    group = added.add_argument_group("how answers are found (greedily where nothing is said)")
    defaults = _decoding_defaults()
    group.add_argument("--max_length", type=_positive, metavar="N", help="most tokens of an answer; as trained")
    group.add_argument("--num_beams", type=_positive, default=defaults["num_beams"], metavar="N", help="beam search")
    group.add_argument("--length_penalty", type=float, default=defaults["length_penalty"], metavar="X", help="of beams")
    group.add_argument(
        "--early_stopping",
        type=_early_stopping,
        default=defaults["early_stopping"],
        metavar="never|true|false",
        help="of beams: when a row is done",
    )
    group.add_argument("--temperature", type=float, default=defaults["temperature"], metavar="X", help="above 0: draw")
    group.add_argument("--top_k", type=int, default=defaults["top_k"], metavar="N", help="draw from so many tokens")
    group.add_argument("--top_p", type=float, default=defaults["top_p"], metavar="X", help="draw from this probability")
    group.add_argument(
        "--num_samples", type=_positive, default=defaults["num_samples"], metavar="N", help="answers a question"
    )
    group.add_argument("--seed", type=int, default=defaults["seed"], metavar="N", help="of the draws")


def _add_export(added: argparse.ArgumentParser) -> None:
    added.add_argument(
        "--checkpoint", required=True, metavar="DIR", help="a run, one of its checkpoints, an export, foreign weights"
    )
    added.add_argument("--to", required=True, metavar="DIR", help="the directory to be written; nothing may be there")
    added.add_argument("--format", default="paligax", choices=FORMATS)
    added.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], help="of float32 weights, when stored")
    added.add_argument("--max_length", type=_positive, metavar="N", help="of compiled programs: most tokens of answers")
    added.add_argument(
        "--platforms", default=",".join(PLATFORMS), metavar="NAMES", help="of compiled programs: cpu,cuda,rocm,tpu"
    )
    added.add_argument("--metrics", metavar="FILE", help="results.json of `paligax eval`, for the card; else the run's")
    added.add_argument("--no_rates", action="store_true", help="don't import the task modules for the card's rates")
    added.add_argument("--class_names", metavar="FILE", help="names of a classifier's outputs, one a line")
    added.add_argument("--licence", metavar="FILE", help="on the card: what the training data's licence asks")
    added.add_argument("--name", default="", metavar="NAME", help="the model's name on the card; the directory's")


def _add_soup(added: argparse.ArgumentParser) -> None:
    added.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT", help="runs, checkpoints or exports of one model")
    added.add_argument("--to", required=True, metavar="DIR", help="the export to be written")
    added.add_argument(
        "--weights", type=_weights, default=None, metavar="W,W,…", help="one a model; all alike where nothing is said"
    )
    added.add_argument("--greedy", action="store_true", help="keep only what doesn't make the mean worse")
    added.add_argument("--metric", default="", metavar="TASK/NAME", help="of --greedy; that of the only task")


def _weights(words: str) -> list[float]:
    try:
        return [float(word) for word in words.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers with commas between them, got {words!r}") from None


def _decoding_defaults() -> dict[str, Any]:
    """Written here once more because importing them imports JAX; tests/test_inference_verbs.py compares them."""
    return dict(
        num_beams=1,
        length_penalty=0.6,
        early_stopping="never",
        temperature=0.0,
        top_k=0,
        top_p=1.0,
        num_samples=1,
        seed=0,
    )


def _positive(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1 on, got {word!r}")
    return int(word)


def _early_stopping(word: str) -> bool | str:
    known = {"true": True, "false": False, "never": "never"}
    if word.lower() not in known:
        raise argparse.ArgumentTypeError(f"expected never, true or false, got {word!r}")
    return known[word.lower()]

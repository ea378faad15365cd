"""`paligax infer`: a model's answers to many questions, as JSON lines, by as many processes as there are.

    {"id": …, "prompt": …, "prediction": …}      "predictions": […] with num_samples; "score" or "scores" if asked
    {"id": …, "prompt": …, "error": "broken image"}

Batch b holds questions b·B … (b + 1)·B − 1, whoever asks them and whenever: so a job that was killed goes on with the
first batch that isn't whole, and ends with the bytes that it would have ended with.
"""

import collections
import concurrent.futures
import dataclasses
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from paligax import image as image_lib
from paligax.inference import answer_lines, generation, likelihood, rows
from paligax.inference.answerer import Answerer
from paligax.inference.generation import Decoding
from paligax.inference.questions import Asked, Questions
from paligax.training import processes

_THREADS = min(16, os.cpu_count() or 1)
_AHEAD = 2  # batches whose images are decoded while the devices work


@dataclasses.dataclass(frozen=True)
class Summary:
    """What came out.

    Attributes:
      answered: number of questions with an answer.
      errors: reason → number of those without.
      resumed: lines that were there already.
      seconds: that this start took, without opening the model.
    """

    answered: int
    errors: Mapping[str, int]
    resumed: int
    seconds: float


def run(
    model: Answerer,
    questions: Questions,
    to: str | os.PathLike,
    options: Decoding | None = None,
    *,
    score: bool = False,
    finishing: Callable[[Any], Mapping[str, Any]] | None = None,
    say: Callable[[str], None] = print,
) -> Summary:
    """Answers every question and writes the lines; goes on where an earlier start was. All processes call it.

    Args:
      model: answers.
      questions: in order.
      to: the .jsonl file.
      options: how answers are found; greedily by default.
      score: whether the log probability of each answer is written, by one more pass of the decoder.
      finishing: given all lines when they are there, before the file appears; what it returns is written into the
        summary beside the file. It raises where something is wrong with them.
      say: prints a line for the user.

    Raises:
      ValueError, FileExistsError, OSError: see :class:`paligax.inference.answer_lines.Lines`.
    """
    import jax

    options = options or Decoding()
    begun, batch_size = time.monotonic(), model.placed.batch_size
    first = jax.process_index() == 0
    job = {
        "model": model.identity,
        "asked": questions.digest(),
        "decoding": dataclasses.asdict(options),
        "batch_size": batch_size,
        "score": score,
    }
    lines = answer_lines.Lines(to, job, len(questions))
    done = processes.agree(lines.begin(batch_size) if first else 0)
    if done:
        say(f"{done} of {len(questions)} answers are there; going on behind them.")
    if done < len(questions):
        lines.open(jax.process_index())
        _answer(model, questions, options, score, lines, done, say)
        lines.close()
    processes.agree(0)  # all have closed their parts
    counts = collections.Counter()
    if first:
        counts.update(_finish(lines, finishing))
    counts = processes.add_up(counts)
    answered = counts.pop("", 0)
    return Summary(answered, dict(sorted(counts.items())), done, time.monotonic() - begun)


def _finish(lines: answer_lines.Lines, finishing: Callable | None) -> collections.Counter[str]:
    """Counts the lines by error ("": none), and lets the file appear."""
    if lines.path.exists():  # of an earlier start, whose --submission may have been another
        if finishing:
            finishing(lines.joined())
        return collections.Counter(line.get("error", "") for line in lines.joined())
    counts = collections.Counter(line.get("error", "") for line in lines.unjoined())
    further = finishing(lines.unjoined()) if finishing else {}
    lines.finish({"errors": {reason: n for reason, n in sorted(counts.items()) if reason}, **further})
    return counts


def _answer(
    model: Answerer,
    questions: Questions,
    options: Decoding,
    score: bool,
    lines: answer_lines.Lines,
    done: int,
    say: Callable[[str], None],
) -> None:
    """Asks batch after batch: images of the next ones are decoded, and the last one's answers written, meanwhile."""
    placed, total = model.placed, len(questions)
    batches = range(done, total, placed.batch_size)
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        waiting = collections.deque(_prepare(pool, model, questions, start) for start in batches[:_AHEAD])
        ahead = iter(batches[_AHEAD:])
        under_way, told = None, time.monotonic()
        for start in batches:
            prepared = [future.result() for future in waiting.popleft()]
            if (following := next(ahead, None)) is not None:
                waiting.append(_prepare(pool, model, questions, following))
            asked, ready = [one for one, _ in prepared], [row for _, row in prepared]
            answers = _ask(model, ready, options, score)
            if under_way is not None:
                _write(model, lines, *under_way)
            under_way = (start, total, asked, answers)
            if time.monotonic() - told > 30:
                say(f"{start} of {total} answered")
                told = time.monotonic()
        _write(model, lines, *under_way)


_Prepared = tuple[Asked | None, rows.Row | None]


def _prepare(
    pool: concurrent.futures.Executor, model: Answerer, questions: Questions, start: int
) -> list["concurrent.futures.Future[_Prepared]"]:
    """This process's rows of the batch that begins with a question."""
    begin = start + model.placed.shard_index * model.placed.width
    return [pool.submit(_one, model, questions, number) for number in range(begin, begin + model.placed.width)]


def _one(model: Answerer, questions: Questions, number: int) -> _Prepared:
    """One question and its row; no row where it can't be asked, neither where the batch goes beyond the last."""
    if number >= len(questions):
        return None, None
    (asked,) = questions.read([number])
    if asked.error:
        return asked, None
    lengths, pixels = model.feature_lengths, None
    if asked.image is not None:
        if reason := image_lib.problem(asked.image, decode_it=False):
            return dataclasses.replace(asked, error=reason), None
        try:
            pixels = rows.picture(asked.image, lengths["image"])
        except Exception:  # noqa: BLE001  whatever a decoder says of foreign bytes costs this one question
            return dataclasses.replace(asked, error="broken image"), None
    asked = dataclasses.replace(asked, image=None)  # its bytes aren't needed any more
    return asked, (pixels, rows.prompt_ids(model.vocabulary, asked.prompt, lengths["inputs"]))


def _ask(model: Answerer, ready: Sequence[rows.Row | None], options: Decoding, score: bool) -> tuple[Any, Any]:
    """Starts the computation of a batch: (tokens [B, n, T], their log probabilities n × [B] or None)."""
    example, active = rows.stack(ready, model.placed.width, model.feature_lengths)
    *example, active = model.placed.put((*example, active))
    example, params = tuple(example), model.placed.params
    length = model.feature_lengths["targets"]
    tokens = generation.generate(model.module, params, example, options, max_length=length, active=active)
    if not score:
        return tokens, None
    return tokens, [
        likelihood.of_targets(model.module, params, example, tokens[:, sample]).total
        for sample in range(tokens.shape[1])
    ]


def _write(
    model: Answerer,
    lines: answer_lines.Lines,
    start: int,
    total: int,
    asked: Sequence[Asked | None],
    answers: tuple[Any, Any],
) -> None:
    """Fetches a batch's answers and writes this process's lines."""
    tokens = model.placed.rows(answers[0])
    scores = None if answers[1] is None else np.stack([model.placed.rows(one) for one in answers[1]], axis=1)
    begin = start + model.placed.shard_index * model.placed.width
    found = {}
    for i, one in enumerate(asked):
        if one is None:
            continue
        line: dict[str, Any] = {"id": one.id, "prompt": one.prompt}
        if one.error:
            found[begin + i] = line | {"error": one.error}
            continue
        texts = [model.vocabulary.decode(sample) for sample in tokens[i]]
        several = len(texts) > 1
        line |= {"predictions": texts} if several else {"prediction": texts[0]}
        if scores is not None:
            numbers = [_number(value) for value in scores[i]]
            line |= {"scores": numbers} if several else {"score": numbers[0]}
        found[begin + i] = line
    lines.write(found)


def _number(value: Any) -> float | None:
    """The shortest decimal of a float32; None where it is not finite, which JSON has no word for."""
    return float(str(np.float32(value))) if math.isfinite(value) else None

import types

import numpy as np
import pytest

from paligax.training.recorder import Recorder, Stopwatch
from paligax.training.run_log import NonFiniteLoss


class Log:
    def __init__(self):
        self.rows, self.noted = [], []

    def note_non_finite(self, step, values):
        self.noted.append((step, values))

    def write(self, step, values):
        self.rows.append((step, dict(values)))


class Display:
    def __init__(self):
        self.updates, self.said = [], []

    def update(self, step, loss, rate):
        self.updates.append((step, loss))

    def say(self, text):
        self.said.append(text)


def metrics(loss=2.0):
    one = np.ones(1, np.float32)
    return {
        "loss": np.float32(loss),
        "gradient_norm": np.float32(1),
        "learning_rate": np.float32(1),
        "task_loss": one * loss,
        "task_weight": one,
        "task_correct": one,
    }


def item(**skipped):
    return types.SimpleNamespace(ids=["vqa:1:0"], skipped=skipped)


@pytest.fixture
def recorder():
    made = Recorder(
        task_names=("vqa",),
        batch_size=4,
        train_steps=5,
        log_every=2,
        log=Log(),
        display=Display(),
        watch=Stopwatch(),
        flops_and_peak=(100.0, 1e12),
    )
    return made


def test_metrics_are_taken_in_one_step_late(recorder):
    recorder.step(1, item(), metrics())
    assert recorder._display.updates == []
    recorder.step(2, item(), metrics())
    assert recorder._display.updates == [(1, 2.0)]
    recorder.settle()
    recorder.settle()
    assert recorder._display.updates == [(1, 2.0), (2, 2.0)]


def test_lines_are_written_every_so_many_steps_and_at_the_end(recorder):
    for step in range(1, 6):
        recorder.step(step, item(**{"vqa/empty text": 1}), metrics(step))
    recorder.settle()
    rows = recorder._log.rows
    assert [step for step, _ in rows] == [2, 4, 5]
    assert [row["loss"] for _, row in rows] == [1.5, 3.5, 5.0]
    assert rows[0][1]["skipped/vqa/empty text"] == 2 and rows[0][1]["mfu"] > 0
    seconds, rate = (rows[0][1][name] for name in ("seconds_per_step", "examples_per_second"))
    assert rate == pytest.approx(4 / seconds)
    assert recorder._display.said == ["step 2: examples of vqa can't be used: empty text (2 so far)"]
    recorder.finish(5)
    assert recorder._display.said[1] == "5 examples of vqa could not be used: empty text"
    assert "went into steps" in recorder._display.said[2]


def test_a_loss_that_is_not_finite_stops(recorder):
    recorder.step(1, item(), metrics(np.nan))
    with pytest.raises(NonFiniteLoss, match="Step 1.*vqa:1:0"):
        recorder.step(2, item(), metrics())
    assert recorder._log.noted == [(1, {"loss": "nan", "gradient_norm": "1.0", "examples": ["vqa:1:0"]})]


def test_updates_that_were_left_out_are_counted_and_not_added_up(recorder):
    recorder._skips_non_finite = True
    for step, loss in ((1, 3.0), (2, np.nan), (3, 5.0), (4, 7.0)):
        recorder.step(step, item(), metrics(loss))
    recorder.settle()
    (_, first), (_, second) = recorder._log.rows
    assert (first["loss"], second["loss"]) == (3.0, 6.0)
    assert first["updates_left_out"] == second["updates_left_out"] == 1
    assert [step for step, _ in recorder._log.noted] == [2]
    assert "update 1 that is left out" in recorder._display.said[0]


def test_tokens_and_what_was_waited_for(recorder, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    recorder._began, recorder._counts_tokens = 0.0, True
    for step in (1, 2, 3, 4):
        with recorder._watch.measure("wait_for_input"):
            now[0] += 0.5 if step < 3 else 0.0
        now[0] += 1.5
        recorder.step(step, item(), metrics())
    recorder.settle()
    (_, first), (_, second) = recorder._log.rows
    assert first["input_bound"] == pytest.approx(1.0 / 5.5), "a line is written when the step behind it has begun"
    assert first["target_tokens_per_second"] == pytest.approx(2 / 5.5)
    assert second["input_bound"] == 0


def test_pauses_settle_first_and_do_not_count_as_steps(recorder, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    recorder._began = 0.0
    now[0] = 1.0
    recorder.step(1, item(), metrics())
    with recorder.pause("evaluate"):
        assert recorder._display.updates == [(1, 2.0)]
        now[0] = 51.0
    now[0] = 52.0
    recorder.step(2, item(), metrics())
    recorder.settle()
    assert recorder._log.rows[0][1]["seconds_per_step"] == pytest.approx(1.0)
    recorder.finish(2)
    step, row = recorder._log.rows[-1]
    assert step == 2 and row["seconds/evaluate"] == 50.0
    recorder._watch.began = 0.0
    recorder.finish(2)
    row = recorder._log.rows[-1][1]
    assert row["goodput"] == pytest.approx(2 / 52) and row["seconds/step"] == pytest.approx(2.0)


def test_a_run_that_is_stopped_between_two_lines_writes_what_it_has(recorder):
    for step in range(1, 4):
        recorder.step(step, item(), metrics(step))
    recorder.finish(3)
    assert [(step, row["loss"]) for step, row in recorder._log.rows if "loss" in row] == [(2, 1.5), (3, 3.0)]


def test_scores_are_written_by_task_and_metric(recorder):
    recorder.evaluation(4, {"vqa": {"accuracy": 0.5, "blind": np.float32(0.25)}})
    recorder.evaluation(4, {})
    assert recorder._log.rows == [(4, {"eval/vqa/accuracy": 0.5, "eval/vqa/blind": 0.25})]


def test_the_stopwatch_says_what_is_being_done():
    watch = Stopwatch()
    assert watch.now[0] == ""
    with watch.measure("save"):
        with watch.measure("restore"):
            name, since = watch.now
            assert name == "restore"
        assert watch.now[0] == "save" and watch.now[1] >= since
    assert watch.now[0] == "" and set(watch.seconds) == {"save", "restore"}

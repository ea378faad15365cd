import json

import numpy as np
import pytest

from paligax.training import run_log
from paligax.training.run_log import NoLog, NonFiniteLoss, RunLog, Window, check_finite


def metrics(loss=(2.0, 6.0), weight=(1.0, 3.0), norm=1.0):
    return {
        "loss": np.float32(sum(loss) / sum(weight)),
        "gradient_norm": np.float32(norm),
        "learning_rate": np.float32(0.5),
        "task_loss": np.float32(loss),
        "task_weight": np.float32(weight),
        "task_correct": np.float32([1, 0]),
    }


def test_lines_are_json_with_their_step(tmp_path):
    log = RunLog(tmp_path, 0)
    log.write(3, {"loss": 1.5, "odd": float("nan")})
    log.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 3, "loss": 1.5, "odd": None}
    assert any((tmp_path / "tensorboard").iterdir())


def test_a_resumed_run_goes_on_where_its_checkpoint_is(tmp_path):
    log = RunLog(tmp_path, 0)
    for step in (1, 2, 3, 4):
        log.write(step, {"loss": step})
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')  # killed while writing
    log = RunLog(tmp_path, 2)
    log.write(3, {"loss": 30.0})
    log.close()
    assert [row["loss"] for row in run_log.read(tmp_path)] == [1, 2, 30]


def test_no_file_has_no_lines(tmp_path):
    assert run_log.read(tmp_path) == []
    NoLog().write(1, {"loss": 1.0})
    NoLog().close()


def test_a_window_divides_sums_once():
    window = Window(("caption", "vqa"))
    window.add(metrics())
    window.add(metrics(loss=(2.0, 0.0), weight=(3.0, 0.0)))
    window.skip({"vqa/no question": 2})
    window.skip({"vqa/no question": 1, "caption/empty text": 1})
    values = window.values()
    assert values["loss"] == pytest.approx(10 / 7) and values["loss/caption"] == 1.0 and values["loss/vqa"] == 2.0
    assert values["accuracy/caption"] == 0.5 and values["weight/vqa"] == 3.0
    assert values["learning_rate"] == 0.5
    assert window.skipped == {"vqa/no question": 3, "caption/empty text": 1} and window.steps == 2
    window.clear()
    assert window.steps == 0 and window.skipped == {}


def test_a_task_without_examples_has_no_loss():
    window = Window(("caption", "vqa"))
    window.add(metrics(loss=(2.0, 0.0), weight=(1.0, 0.0)))
    assert "loss/vqa" not in window.values() and window.values()["weight/vqa"] == 0


def test_a_loss_that_is_not_finite_names_step_task_and_examples():
    ids = ["caption:4:0", "vqa:17:2", "vqa:9:0"]
    check_finite(8, metrics(), ids, ("caption", "vqa"))
    with pytest.raises(NonFiniteLoss) as caught:
        check_finite(8, metrics(loss=(1.0, np.nan)), ids, ("caption", "vqa"))
    text = str(caught.value)
    assert text.startswith("Step 8: loss nan") and "vqa:17:2, vqa:9:0" in text and "caption:4:0" not in text


def test_a_gradient_that_is_not_finite_names_the_whole_batch():
    with pytest.raises(NonFiniteLoss, match="caption:4:0, vqa:17:2"):
        check_finite(8, metrics(norm=np.inf), ["caption:4:0", "vqa:17:2"], ("caption", "vqa"))


def test_a_log_that_cannot_be_written_stops_the_run_with_a_message(tmp_path):
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    log = run_log.RunLog(tmp_path, 0)
    with pytest.raises(run_log.RunLogError, match="can't be written at step 3: No space left on device. Make room"):
        log.write(3, {"loss": 1.0})
    log.close()

import json

import pytest

import paligax
from tasks.mini import quickstart

WORDS = (
    "Evaluator.num_examples=32",
    "look/Evaluator.every_steps=1000",
    "Trainer.log_every=2",
    "BATCH_SIZE=16",
    "TRAIN_STEPS=4",
    "InverseSquareRoot.warmup_steps=1",
    "CoolDown.cooldown_steps=1",
    "ViT.depth=1",
)


@pytest.mark.slow
def test_the_whole_recipe_and_a_second_call(tmp_path, capsys):
    run_dir = tmp_path / "run"
    summary = quickstart.run(run_dir, str(tmp_path / "data"), WORDS, size=64)
    assert json.loads((run_dir / "results.json").read_text()) == json.loads(json.dumps(summary))
    assert set(summary["stages"]) == {"base", "high_res"}
    for results in summary["stages"].values():
        assert len(results) == 8
        assert all(("blind" in values) == (task != "span_corruption") for task, values in results.items())
    assert {"build", "compile", "classify", "base", "high_res", "evaluation"} <= set(summary["seconds"])
    assert "OpenMoji" in (run_dir / "report.html").read_text(encoding="utf-8")
    model = paligax.load(str(run_dir / "export"))
    assert len(model.generate([None], ["Answer in EN: what is at the top left? <extra_id_0>"])) == 1

    before = dict(summary["seconds"])
    again = quickstart.run(run_dir, str(tmp_path / "data"), WORDS, size=64)
    assert again["stages"] == summary["stages"] and again["seconds"]["base"] == before["base"]

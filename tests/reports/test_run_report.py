import base64
import html.parser
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from paligax.inference.held_out import HeldOut
from paligax.inference.shown import Box, Shown
from paligax.reports import page, run_report

EVIL = '<script>alert("x")</script> & "quotes"'
IMAGE = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)


class Strict(html.parser.HTMLParser):
    """Counts tags, and checks that they are closed in order."""

    VOID = {"meta", "img", "line", "rect", "polygon", "polyline", "br"}

    def __init__(self, text):
        super().__init__()
        self.open, self.counts, self.sources, self.text = [], {}, [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        values = dict(attributes)
        self.sources += [values[name] for name in ("src", "href") if name in values]
        if tag not in self.VOID or tag == "polyline":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.counts[tag] = self.counts.get(tag, 0) + 1

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def stages():
    steps = list(range(10, 1000, 10))
    losses = {"vqa": (steps, [4 / (1 + s / 100) for s in steps]), "detection": (steps, [3.0] * len(steps))}
    seen = Shown("r1", "Answer in EN: what? <extra_id_0>", "cat", "cat", "dog", 1.0, image=IMAGE)
    wrong = Shown("r2", EVIL, EVIL, "", EVIL, 0.0, image=IMAGE, worst=True)
    boxed = Shown(
        "r3", "detect cat", "0 0 9 9 cat", "1 1 8 8 cat", None, 0.5, False, IMAGE,
        (Box("cat", 0.0, 0.0, 1.0, 0.5),), (Box(EVIL, 0.1, 0.1, 0.9, 0.6),),
    )  # fmt: skip
    text = Shown("t1", "a <extra_id_0> c", "<extra_id_0> b", "<extra_id_0> x", None, 0.5)
    return [
        run_report.Stage("vit", "ViT", {"labels": (steps, [1.0] * 99)}, {"labels": {"mean_average_precision": 0.9}}),
        run_report.Stage(
            "base",
            f"Base {EVIL}",
            losses,
            {"vqa": {"exact_match": 0.8125, "blind": 0.25}, "ocr": {"character_error_rate": 1.5, "blind": 2.0}},
            {"vqa": [seen, wrong], "detection": [boxed], "span_corruption": [text]},
        ),
        run_report.Stage(
            "high", "High", {"vqa": losses["vqa"]}, {"vqa": {"exact_match": 0.9, "blind": 0.2}}, {"vqa": [seen]}
        ),
    ]


@pytest.fixture
def report(stages, tmp_path):
    path = run_report.write_run_report(
        tmp_path / "run" / "report.html",
        title=f"Run {EVIL}",
        stages=stages,
        seconds={"build": 30.0, "train_base": 90.0},
        parameters=1_123_456,
        attribution="Pictograms: OpenMoji, CC BY-SA 4.0",
    )
    return path.read_text(encoding="utf-8")


def test_self_contained_well_formed_and_escaped(report):
    parsed = Strict(report)
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in parsed.sources)
    assert "script" not in parsed.counts and "url(" not in report and "@import" not in report
    assert "".join(parsed.text).count(EVIL) >= 7
    assert 'name="viewport"' in report


def test_numbers_and_controls_are_there(report):
    assert "<b>0.812</b><small>blind 0.250</small>" in report and "<b>0.900</b><small>blind 0.200</small>" in report
    assert "width:81.2%" in report and "left:calc(25.0% - 1px)" in report
    assert "character error rate ↓" in report and "<b>1.500</b>" in report
    assert "1.12M" in report and "2 min 00 s" in report and "75%" in report
    assert "OpenMoji" in report


def test_curves_pictures_and_boxes_are_drawn(report):
    parsed = Strict(report)
    assert parsed.counts["polyline"] == 4  # vqa twice, detection, labels
    assert parsed.counts["img"] == 4
    data = re.search(r"data:image/png;base64,([^\"]+)", report).group(1)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))), IMAGE)
    assert '<rect class="true" x="0.0" y="0.0" width="500.0" height="1000.0"/>' in report
    assert '<rect class="predicted" x="100.0" y="100.0" width="500.0" height="800.0"/>' in report
    assert '<span class="sentinel">&lt;extra_id_0&gt;</span>' in report
    assert '<span class="muted">(empty)</span>' in report  # the empty prediction


def test_the_latest_examples_stand_open_and_the_earlier_ones_fold_away(report):
    folded = report[report.index("the same tasks</summary>") :]
    assert 'id="base-vqa"' in folded and 'id="high-vqa"' not in folded and 'id="base-detection"' not in folded


def test_stages_without_common_tasks_have_tables_of_their_own(stages):
    families = run_report._families(stages)
    assert [[stage.name for stage in family] for family in families] == [["vit"], ["base", "high"]]


def test_a_run_without_anything_still_gives_a_page(tmp_path):
    path = run_report.write_run_report(
        tmp_path / "r.html", title="Empty", stages=[run_report.Stage("a", "A")], seconds={}, parameters=0
    )
    text = path.read_text()
    Strict(text)
    assert "Nothing was evaluated." in text and "No losses were logged." in text
    with pytest.raises(ValueError, match="at least one stage"):
        run_report.write_run_report(tmp_path / "r.html", title="", stages=[], seconds={}, parameters=0)


def test_losses_are_read_from_a_log_that_was_resumed_and_cut_short(tmp_path):
    lines = [
        {"step": 10, "loss": 3.0, "loss/vqa": 2.0, "loss/ocr": 4.0, "weight/vqa": 5},
        {"step": 20, "loss": 2.5, "loss/vqa": 1.5, "loss/ocr": None},
        {"step": 20, "loss": 2.4, "loss/vqa": 1.25},
        {"step": 20, "eval/vqa/exact_match": 0.5},
    ]
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 30, "lo')
    assert run_report.read_losses(file) == {"vqa": ([10, 20], [2.0, 1.25]), "ocr": ([10], [4.0])}


def test_a_stage_is_read_from_its_run_directory(stages, tmp_path):
    assert run_report.read_stage("base", "Base", tmp_path) == run_report.Stage("base", "Base")
    (tmp_path / "metrics.jsonl").write_text('{"step": 10, "loss/vqa": 2.0}\n')
    base = stages[1]
    HeldOut(base.results, base.examples, {"vqa": 2, "ocr": 1}, {"vqa": 1.5, "ocr": 0.5}).save(tmp_path / "held_out")
    stage = run_report.read_stage("base", "Base", tmp_path)
    assert stage.losses == {"vqa": ([10], [2.0])} and stage.results == base.results
    assert [e.prediction for e in stage.examples["vqa"]] == ["cat", ""]
    assert stage.examples["detection"][0].predicted_boxes == base.examples["detection"][0].predicted_boxes


@pytest.mark.parametrize(
    "seconds, text", [(1.25, "1.2 s"), (42, "42 s"), (75, "1 min 15 s"), (59.7, "1 min 00 s"), (4030, "1 h 07 min")]
)
def test_durations(seconds, text):
    assert page.duration(seconds) == text

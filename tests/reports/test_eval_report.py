import base64
import html.parser
import io
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from paligax.inference.held_out import HeldOut
from paligax.inference.intervals import Interval
from paligax.inference.shown import Box, Shown
from paligax.reports import eval_report

EVIL = '<script>alert("x")</script> & "quotes" \'single\' </style>'
IMAGE = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
ABOUT = {"checkpoint": f"runs/{EVIL}", "split": "test", "num_examples": None, "decoding": {"num_beams": 4}}


class Page(html.parser.HTMLParser):
    """Checks that tags are closed in order, and collects cards, sources and texts."""

    VOID = ("meta", "img", "rect", "input")

    def __init__(self, text):
        super().__init__()
        self.open, self.cards, self.sources, self.scripts = [], [], [], 0
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.scripts += tag == "script"
        assert not any(name.startswith("on") for name in values)
        self.sources += [values[name] for name in ("src", "href") if name in values]
        if tag == "figure":
            self.cards.append({**values, "text": ""})
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        if "figure" in self.open:
            self.cards[-1]["text"] += data + "|"


def shown(name, score, image=IMAGE, **other):
    return Shown(
        name, "Answer in EN: what? <extra_id_0>", "cat", f"said {name}", "blindly", score, image=image, **other
    )


def held_out(examples, **other):
    tasks = list(examples)
    fields = dict(
        results={task: {"exact_match": 0.8125, "token_f1": float("nan"), "blind": 0.25} for task in tasks},
        examples=examples,
        counts=dict.fromkeys(tasks, 1234),
        seconds=dict.fromkeys(tasks, 2.0),
        problems={
            task: {"skipped": {"broken image": 2}, "answers_cut_off": 7, "unreadable_pieces": {"cut_off": 5}}
            for task in tasks
        },
        intervals={task: {"exact_match": Interval(0.79, 0.83, 1000, "percentile", "mean")} for task in tasks},
    )
    return HeldOut(**(fields | other))


@pytest.fixture
def report(tmp_path):
    boxed = shown(
        "boxes", 0.5, true_boxes=(Box(EVIL, 0.1, 0.1, 0.5, 0.6),), predicted_boxes=(Box("dog", 0.2, 0.1, 0.5, 0.6),)
    )
    examples = {
        "vqa": [shown("good", 1.0), shown("middle", 0.5), shown("bad", 0.0, worst=True), shown(EVIL, 0.25, worst=True)],
        "detection": [boxed],
        f"text {EVIL}": [shown("t", None, None)],
    }
    return eval_report.write_eval_report(tmp_path / "eval.html", held_out(examples), ABOUT)


def test_the_worst_come_first_and_cards_say_what_they_are(report):
    page = Page(report.read_text())
    of_vqa = [card for card in page.cards if card["data-task"] == "vqa"]
    assert [re.search(r"said (\w+)", card["text"]).group(1) for card in of_vqa if "alert" not in card["text"]] == [
        "bad",
        "middle",
        "good",
    ]
    assert [card["data-kind"] for card in of_vqa] == ["lowest", "lowest", "chance", "chance"]
    assert [card["data-rank"] for card in of_vqa] == ["0", "1", "2", "3"]
    for piece in ("Prompt", "Answer in EN: what?", "Target", "cat", "Prediction", "said bad", "blindly", "0.00", "bad"):
        assert piece in of_vqa[0]["text"]


def test_scores_stand_with_intervals_and_controls(report):
    text = report.read_text()
    assert "<b>0.812</b>" in text and "[0.790, 0.830]" in text and "0.250" in text
    assert "no number for these 1,234 examples" in text and "1,000 resamples, percentile" in text
    assert "left out: broken image" in text and "answers cut off" in text and "pieces that are no box: cut off" in text
    assert "6 examples of 3,702" in text and "predictions.jsonl" in text and "decoding: num beams 4" in text


def test_nothing_is_loaded_and_all_text_is_escaped(report):
    text = report.read_text()
    page = Page(text)
    assert page.scripts == 1 and "<script>alert" not in text
    assert all(source.startswith(("data:image/", "#")) for source in page.sources)
    assert not re.search(r"(https?:)?//[a-z]", re.sub(r'src="[^"]*"', "", text))
    assert text.count("&lt;script&gt;alert") >= 5


def test_boxes_are_drawn(report):
    text = report.read_text()
    assert '<rect class="true" x="100.0" y="100.0" width="500.0" height="400.0"/>' in text
    assert '<rect class="predicted" x="100.0" y="200.0" width="500.0" height="300.0"/>' in text


def test_the_page_is_bounded_and_says_so(tmp_path):
    rng = np.random.default_rng(0)
    large = [rng.integers(0, 256, (588, 588, 3), np.uint8) for _ in range(4)]
    examples = {
        task: [shown(f"{task}{i}", 0.1, large[i % 4], worst=i % 2 == 0) for i in range(20)] for task in ("a", "b")
    }
    path = eval_report.write_eval_report(tmp_path / "eval.html", held_out(examples), ABOUT, max_bytes=2**20)
    text = path.read_text()
    cards = Page(text).cards
    assert path.stat().st_size < 1.1 * 2**20 and 6 <= len(cards) < 40
    assert f"{len(cards)} examples (of 40 that were kept" in text
    kinds = {(card["data-task"], card["data-kind"]) for card in cards}
    assert kinds == {(task, kind) for task in "ab" for kind in ("lowest", "chance")}
    source = re.search(r'src="data:image/jpeg;base64,([^"]+)" width="384" height="384"', text).group(1)
    assert Image.open(io.BytesIO(base64.b64decode(source))).size == (384, 384)


def test_long_texts_are_cut_on_the_page(tmp_path):
    long = Shown("x", "", "cat", "x" * 100_000, None, 0.0)
    path = eval_report.write_eval_report(tmp_path / "eval.html", held_out({"a": [long]}), ABOUT)
    assert path.stat().st_size < 40_000


def test_an_evaluation_without_examples_to_show(tmp_path):
    path = eval_report.write_eval_report(tmp_path / "eval.html", held_out({"a": []}), ABOUT)
    assert Page(path.read_text()).cards == []


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs a browser")
def test_a_browser_filters_searches_and_sorts(report, tmp_path):
    """The page's own script, driven by another one at its end."""
    steps = """<script>
    const say = [];
    const visible = () => cards.filter(c => !c.hidden && !c.closest('section').hidden).length;
    say.push(visible());
    task.value = 'vqa'; task.dispatchEvent(new Event('change')); say.push(visible());
    kind.value = 'lowest'; kind.dispatchEvent(new Event('change')); say.push(visible());
    find.value = 'SAID  bad'; find.dispatchEvent(new Event('input')); say.push(visible(), count.textContent);
    order.value = 'best'; order.dispatchEvent(new Event('change'));
    say.push(document.querySelector('.card.example .said').textContent);
    document.body.innerHTML = '<p id="said">' + say.join(';') + '</p>';
    </script>"""
    driven = tmp_path / "driven.html"
    driven.write_text(report.read_text().replace("</body>", steps + "</body>"))
    words = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    done = subprocess.run([*words, "--dump-dom", driven.as_uri()], capture_output=True, text=True, timeout=120)
    assert re.search(r'<p id="said">([^<]*)</p>', done.stdout).group(1) == "6;4;2;1;1 of 6 examples;said good"

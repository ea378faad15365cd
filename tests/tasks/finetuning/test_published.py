"""From published files to what a model is asked and how its answers are scored, for every data set."""

import json

import pytest

from paligax import data_verbs
from paligax.data import Data, registry
from paligax.vocabulary import ByteVocabulary
from tasks import finetuning
from tasks.finetuning import published
from tests.tasks.finetuning.published_files import PUT

LENGTHS = {"image": 16, "inputs": 160, "targets": 80}
ASK = "Generate the alt_text in en at 0:"
# data set → (splits, prompts of its validation in order, all right answers of the first, metrics of a perfect answer)
COCO = {"cider": 10.0, "bleu_4": 1.0, "rouge_l": 1.0}
WANTED = {
    "coco_captions": (
        {"train": 2, "validation": 1, "test": 1}, [ASK], ["A man on a horse.", "A horse with a man."], COCO,
    ),
    "textcaps": (
        {"train": 1, "validation": 1}, [f"{ASK} OCR: Kleem table"], ["A bottle of Kleem.", "Kleem on a table."], COCO,
    ),
    "nocaps": ({"validation": 1}, [ASK], [f"A dog number {i}." for i in range(10)], COCO),
    "vizwiz_captions": ({"train": 1, "validation": 1}, [ASK], ["A can of soup."], COCO),
    "coco_35l": (
        {"train": 1, "validation": 1}, [f"Generate the alt_text in {lang} at 0:" for lang in ("en", "de", "th")],
        ("en", ["a man on a horse"]), {"mean_cider": 10.0, "cider_th": 10.0},
    ),
    "xm3600": (
        {"validation": 1}, [f"Generate the alt_text in {lang} at 0:" for lang in ("en", "quz", "zh")],
        ("en", ["A castle.", "An old castle."]), {"cider_quz": 10.0},
    ),
    "vqav2": (
        {"train": 1, "validation": 1}, ["Answer in EN: What is it?"], ["net"] * 6 + ["netting"] * 2 + ["mesh", "net"],
        {"vqa_accuracy": 1.0},
    ),
    "okvqa": (
        {"train": 1, "validation": 1}, ["Answer in EN: What is it?"], ["net"] * 6 + ["netting"] * 2 + ["mesh", "net"],
        {"vqa_accuracy": 1.0},
    ),
    "textvqa": (
        {"train": 1, "validation": 1}, ["Answer in EN: what is it? OCR: one two"],
        ["net"] * 6 + ["netting"] * 2 + ["mesh", "net"], {"vqa_accuracy": 1.0},
    ),
    "st_vqa": (None, None, ["Net", "the net"], {"anls": 1.0}),
    "vizwiz_vqa": (
        {"train": 1, "validation": 1}, ["Answer in EN: What is it?"], ["net"] * 6 + ["netting"] * 2 + ["mesh", "net"],
        {"vizwiz_accuracy": 1.0},
    ),
    "gqa": ({"train": 1, "validation": 1}, ["Answer in EN: What is there?"], ("en", ["cat"]), {"exact_match_en": 1.0}),
    "xgqa": (
        {"train": 1, "validation": 1},
        ["Answer in EN: Was ist da?", "Answer in EN: What is there?", "Answer in EN: 那里有什么?"], ("de", ["cat"]),
        {"mean_exact_match": 1.0, "exact_match_de": 1.0, "exact_match_en": 1.0, "exact_match_zh": 1.0},
    ),
    "xnli": (
        {"train": 1, "validation": 2, "test": 2},
        ["xnli: premise: He called. hypothesis: He slept.", "xnli: premise: Er rief an. hypothesis: Er schlief."],
        ("en", ["neutral"]), {"mean_exact_match": 1.0, "exact_match_de": 1.0, "exact_match_en": 1.0},
    ),
    "xquad": (
        {"train": 1, "validation": 2},
        ["question: Wie viele? context: It has 308 points.", "question: How many? context: It has 308 points."],
        ("de", ["308", "308 points"]), {"mean_squad_exact_match": 1.0, "mean_squad_f1": 1.0, "squad_f1_de": 1.0},
    ),
    "tydiqa": (
        {"train": 1, "validation": 2},
        ["question: Montako? context: It has 308 points.", "question: How many? context: It has 308 points."],
        ("fi", ["308"]), {"mean_squad_f1": 1.0, "squad_f1_fi": 1.0, "squad_f1_en": 1.0},
    ),
    "boolq": (
        {"train": 1, "validation": 1}, ["boolq passage: It is so. question: is it so"], ["True"], {"exact_match": 1.0},
    ),
    "cb": ({"train": 1, "validation": 1}, ["cb hypothesis: it is premise: It was."], ["neutral"], {"exact_match": 1.0}),
    "copa": (
        {"train": 1, "validation": 1}, ["copa choice1: Ice. choice2: Joy. premise: He fell. question: cause"],
        ["choice1"], {"exact_match": 1.0},
    ),
    "rte": (
        {"train": 1, "validation": 1}, ["rte hypothesis: It is wet. premise: It rains."], ["not_entailment"],
        {"exact_match": 1.0},
    ),
    "wic": (
        {"train": 1, "validation": 1}, ["wic sentence1: A place. sentence2: To place. word: place"], ["False"],
        {"exact_match": 1.0},
    ),
    "imagenet": ({"validation": 2}, [ASK, ASK], ["goldfish"], {"exact_match": 1.0}),
}  # fmt: skip


def data_of(name, directory, **other):
    options = {}
    if name == "imagenet":
        options = {key: str(directory / f"{key}.txt") for key in ("classes", "class_names")}
    fields = dict(mixture_or_task=name, feature_lengths=LENGTHS, batch_size=2, vocabulary=ByteVocabulary())
    modules = ("tasks.finetuning",)
    return Data(**fields, data_dir=str(directory), task_modules=modules, options=options, split="validation", **other)


# The others are of a kind with one that is always tried.
OF_A_KIND = "nocaps vizwiz_captions coco_35l okvqa vizwiz_vqa gqa xnli tydiqa cb rte wic".split()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in OF_A_KIND else []) for name in WANTED]
)
def test_from_published_files_to_the_metric(name, tmp_path):
    splits, prompts, right, metrics = WANTED[name]
    PUT[name](tmp_path / "unpacked")
    summaries = published.build(name, str(tmp_path / "unpacked"), str(tmp_path / "data"))
    if splits:
        assert {split: summary["records"] for split, summary in summaries.items()} == splits
    else:
        assert sum(summary["records"] for summary in summaries.values()) == 30 and len(summaries) == 2

    data = data_of(name, tmp_path / "data")
    batches = list(data.evaluation(name))
    examples = [example for batch in batches for example in batch.examples if example is not None]
    assert [example["skip"] for example in examples] == [""] * len(examples)
    asked = [example["prompt"].removesuffix(" <extra_id_0>") for example in examples]
    if prompts:
        assert asked == prompts
    else:
        assert set(asked) == {"Answer in EN: What does it say?"}
    has_image = name not in finetuning.TEXT
    assert batches[0].batch.image_mask[0] == has_image and bool(batches[0].batch.image.any()) == has_image
    assert all(example["prompt"].endswith(" <extra_id_0>") == has_image for example in examples)
    assert all(example["targets"] in example["references"] for example in examples)

    task = registry.task(data, name)
    targets = [task.postprocess_fn(e["targets"], example=e, is_target=True) for e in examples]
    assert targets[0] == right
    said = [task.postprocess_fn(e["references"][0], example=e, is_target=False) for e in examples]
    (metric_fn,) = task.metric_fns
    if len(examples) > 1 or "cider" not in metrics:  # of one image alone all words are as common
        scores = metric_fn(targets, said)
        assert {key: pytest.approx(value) for key, value in metrics.items() if "cider" not in key} | scores == scores
        assert metrics.keys() <= scores.keys()
    if splits is None or "train" in splits:
        stream = Data(**{**data.__dict__, "split": "train"}).stream()
        assert next(stream.batches()).batch.weights.any(axis=1).all()


def test_people_are_drawn_as_often_as_they_answered(tmp_path):
    PUT["vqav2"](tmp_path / "unpacked")
    published.build("vqav2", str(tmp_path / "unpacked"), str(tmp_path / "data"))
    data = data_of("vqav2", tmp_path / "data", shuffle=False)
    batches = Data(**{**data.__dict__, "split": "train", "batch_size": 100}).stream().batches()
    drawn = [data.vocabulary.decode(row) for _ in range(4) for row in next(batches).batch.targets]
    shares = {answer: drawn.count(answer) / len(drawn) for answer in ("net", "netting", "mesh")}
    assert shares == {
        "net": pytest.approx(0.7, abs=0.07),
        "netting": pytest.approx(0.2, abs=0.06),
        "mesh": pytest.approx(0.1, abs=0.05),
    }
    data = Data(**{**data.__dict__, "options": {"answers": "most_frequent"}})
    assert next(data.evaluation("vqav2")).examples[0]["targets"] == "net"


def test_splits_that_are_not_there(tmp_path, capsys):
    PUT["textcaps"](tmp_path / "unpacked")
    (tmp_path / "unpacked/TextCaps_0.1_train.json").unlink()
    (tmp_path / "unpacked/TextVQA_Rosetta_OCR_v0.2_val.json").unlink()
    assert list(published.build("textcaps", str(tmp_path / "unpacked"), str(tmp_path / "data"))) == ["validation"]
    said = capsys.readouterr().out
    assert "train: left out, there is no annotations/TextCaps_0.1_train.json or TextCaps_0.1_train.json" in said
    assert "without OCR strings: there is no TextVQA_Rosetta_OCR_v0.2_val.json" in said
    with pytest.raises(
        FileNotFoundError, match="holds no split of vqav2. Looked for:\n  train: Questions/v2_OpenEnded"
    ):
        published.build("vqav2", str(tmp_path / "unpacked"), str(tmp_path / "data"))
    with pytest.raises(ValueError, match="did you mean 'textvqa'"):
        published.build("text_vqa", "x", "y")


def test_the_verb(tmp_path, capsys):
    from paligax import cli

    PUT["boolq"](tmp_path / "unpacked")
    words = ["data", "build", "boolq", f"--data_dir={tmp_path / 'data'}"]
    with pytest.raises(SystemExit):
        cli.main(words)
    assert "boolq needs --published=FOLDER, which holds SuperGLUE's BoolQ/" in capsys.readouterr().err
    assert cli.main([*words, f"--published={tmp_path / 'unpacked'}"]) == 0
    assert json.loads((tmp_path / "data/manifest.json").read_text())["splits"].keys() == {"train", "validation"}
    assert data_verbs.PUBLISHED.keys() == published.DATA_SETS.keys() == PUT.keys()


def test_the_mistakes_of_options():
    with pytest.raises(ValueError, match="did you mean 'answers'"):
        finetuning.read_options({"answer": "drawn"})
    with pytest.raises(ValueError, match="names task 'vqa2'.*did you mean 'vqav2'"):
        finetuning.read_options({"sources": {"vqa2": "x"}})
    data = Data("imagenet", LENGTHS, 1, ByteVocabulary(), data_dir="x", task_modules=("tasks.finetuning",))
    with pytest.raises(ValueError, match="has no classes: give Data.options the key 'classes'"):
        data.tasks()

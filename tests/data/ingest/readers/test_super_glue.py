import pytest

from paligax.data.ingest.readers.super_glue import SuperGlue
from tests.data.ingest.readers.annotated import put_lines
from tests.data.ingest.readers.reading import read, reasons

LINES = {
    "boolq": {"question": "is it so", "passage": "It is so.", "idx": 0, "label": True},
    "cb": {"premise": "It was.", "hypothesis": "it is", "label": "neutral", "idx": 5},
    "copa": {"premise": "He fell.", "choice1": "Ice.", "choice2": "Joy.", "question": "cause", "label": 0, "idx": 0},
    "rte": {"premise": "It rains.", "hypothesis": "It is wet.", "label": "not_entailment", "idx": 1},
    "wic": {
        "word": "place", "sentence1": "A place at table.", "sentence2": "What place is it?", "idx": 0, "label": False,
        "start1": 2, "start2": 5, "end1": 7, "end2": 10, "version": 1.1,
    },
}  # fmt: skip
WANTED = {
    "boolq": ("It is so.", "is it so", [], "True"),
    "cb": ("It was.", "it is", [], "neutral"),
    "copa": ("He fell.", "cause", ["Ice.", "Joy."], "choice1"),
    "rte": ("It rains.", "It is wet.", [], "not_entailment"),
    "wic": ("A place at table.", "place", ["What place is it?"], "False"),
}


@pytest.mark.parametrize("task", LINES)
def test_each_task(tmp_path, task):
    unlabelled = {key: value for key, value in LINES[task].items() if key != "label"}
    path = put_lines(tmp_path / "val.jsonl", LINES[task], unlabelled, {**LINES[task], "label": "?"}, "{", [1])
    records, problems = read(SuperGlue(path, task))
    found = [(r["text"], r["qa"][0]["question"], r["labels"], r["qa"][0]["answer"]) for r in records]
    assert found == [WANTED[task], (*WANTED[task][:3], "")]
    assert records[0]["id"] == f"{task}:val.jsonl:{LINES[task]['idx']}" and records[0]["text_lang"] == "en"
    assert records[0]["source"] == f"super_glue_{task}"
    assert sorted(reasons(problems)) == ["label is not known", "line is not JSON", "line without its texts"]


def test_other_tasks_are_refused(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'boolq'"):
        SuperGlue("x", "boolQ")

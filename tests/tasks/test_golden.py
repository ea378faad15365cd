"""Every task's prompts and targets, word for word, in files that people can read: golden/<task>.json.

A case is a record and what its task makes of it, once for each seed. They are written anew, on purpose, by

    PALIGAX_RENEW_GOLDEN=1 python -m pytest tests/tasks/test_golden.py

and the difference is then read before it is committed: it is what trained models will be asked from now on.
"""

import dataclasses
import json
import os
import pathlib

import pytest

from tasks.captioning import captioning, split_cap
from tasks.detection import detection
from tasks.object_aware import object_aware
from tasks.ocr import ocr
from tasks.pretrain import MILLIONS
from tasks.span_corruption import span_corruption
from tasks.vqa import vqa, vqg

FACTORIES = {
    factory.__name__: factory
    for factory in (captioning, detection, object_aware, ocr, span_corruption, split_cap, vqa, vqg)
}
FILES = sorted((pathlib.Path(__file__).parent / "golden").glob("*.json"))


def test_every_task_has_its_file():
    assert {json.loads(file.read_text("utf-8"))["task"] for file in FILES} == set(FACTORIES) == set(MILLIONS)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_prompts_and_targets_are_the_golden_ones(file, data, run, make):
    golden = json.loads(file.read_text("utf-8"))
    short = dataclasses.replace(data, feature_lengths={"image": 16, **golden["lengths"]})
    task = make(FACTORIES[golden["task"]], short, **golden["arguments"])
    found = [
        {**case, "examples": _examples(run(task, short, _record(case["record"]), case["item"], len(case["examples"])))}
        for case in golden["cases"]
    ]
    if os.environ.get("PALIGAX_RENEW_GOLDEN"):
        file.write_text(json.dumps({**golden, "cases": found}, ensure_ascii=False, indent=1) + "\n", "utf-8")
        return
    for made, case in zip(found, golden["cases"], strict=True):
        where = f"{file.name}, {case['case']!r}. Where this is meant: PALIGAX_RENEW_GOLDEN=1 (see above)."
        assert made["examples"] == case["examples"], where


def _record(record):
    """JSON has no bytes: an image is there unless the case says "image": ""."""
    return {key: value.encode() if key == "image" else value for key, value in record.items()}


def _examples(made):
    return [
        {"skip": skip} if skip else {"prompt": prompt, "target": target}
        for (prompt, target), skip in zip(made.pairs, made.skips, strict=True)
    ]

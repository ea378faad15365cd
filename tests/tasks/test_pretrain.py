"""The mixtures: proportions, options, and all eight tasks through the real stream."""

import dataclasses

import numpy as np
import pytest
import seqio

from paligax.data import records, registry, shards
from tasks import pretrain
from tasks.languages import CC3M_35L

CLASSES = ("cat", "dog", "bird", "tree", "sofa", "car")
LENGTHS = {"image": 16, "inputs": 128, "targets": 64}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory, image):
    directory = str(tmp_path_factory.mktemp("records"))
    pictures = [
        {
            "id": f"r{i}",
            "image": image,
            "alt_text": [{"lang": "en", "text": f"a cat and {i} dogs"}, {"lang": "de", "text": f"Katze und {i} Hunde"}],
            "ocr": [{"lang": "en", "text": "stop", "bbox": [0.1, 0.1, 0.2, 0.3]}],
            "objects": [{"label": label, "bbox": [0, 0, 0.5, 0.5], "confidence": 1.0} for label in ("cat", "dog")],
            "qa": [{"lang": "en", "question": "how many dogs?", "answer": str(i)}],
        }
        for i in range(12)
    ]
    texts = [
        {"id": f"t{i}", "text": f"once upon a time there were {i} dogs and a cat", "text_lang": "en"} for i in range(6)
    ]
    for split in ("train", "validation"):
        shards.write_shards(directory, split, [records.encode(r) for r in [*pictures, *texts]])
    shards.write_manifest(directory, languages=CC3M_35L)
    return directory


@pytest.fixture
def run_data(data, data_dir):
    return dataclasses.replace(
        data,
        mixture_or_task="pali_pretrain",
        feature_lengths=LENGTHS,
        batch_size=27,
        data_dir=data_dir,
        options={"classes": CLASSES},
    )


def test_proportions_are_the_papers(data):
    pretrain.register(data)
    assert sum(pretrain.MILLIONS.values()) == 1566
    mixture = seqio.MixtureRegistry.get("pali_pretrain")
    assert {task.name: mixture.get_rate(task) for task in mixture.tasks} == {
        "span_corruption": 100,
        "split_cap": 1000,
        "captioning": 100,
        "ocr": 100,
        "vqa": 100,
        "vqg": 100,
        "object_aware": 50,
        "detection": 16,
    }
    high_res = seqio.MixtureRegistry.get("pali_high_res")
    assert {task.name: high_res.get_rate(task) for task in high_res.tasks} == {
        "captioning": 100,
        "ocr": 100,
        "vqa": 100,
    }


def test_ablations_leave_tasks_out_and_keep_the_proportions(data):
    pretrain.register(data)
    rates = registry.rates(dataclasses.replace(data, mixture_or_task="pali_pretrain_without_split_cap"))
    assert rates == {name: rate for name, rate in pretrain.MILLIONS.items() if name != "split_cap"}
    assert sum(rates.values()) == 566
    rates = registry.rates(dataclasses.replace(data, mixture_or_task="pali_pretrain_without_object_aware"))
    assert set(pretrain.MILLIONS) - set(rates) == {"object_aware", "detection"} and sum(rates.values()) == 1500


def test_every_task_is_known_by_its_own_name(data):
    for name in pretrain.MILLIONS:
        assert registry.rates(dataclasses.replace(data, mixture_or_task=name)) == {name: 1.0}


def test_the_english_mixture(data):
    rates = registry.rates(dataclasses.replace(data, mixture_or_task="pali_pretrain_english"))
    assert rates == {
        "span_corruption_en": 100, "split_cap_en": 1000, "captioning_en": 100, "ocr_en": 100, "vqa_en": 100,
        "vqg_en": 100, "object_aware": 50, "detection": 16,
    }  # fmt: skip
    items = {name: seqio.TaskRegistry.get(name).source.items for name in rates}
    assert items == {
        "span_corruption_en": "text:en", "split_cap_en": "alt_text:en", "captioning_en": "alt_text:en",
        "ocr_en": "ocr_lang:en", "vqa_en": "qa:en", "vqg_en": "qa:en", "object_aware": "objects",
        "detection": "detection",
    }  # fmt: skip


def test_english_alone_through_the_stream(run_data):
    def captions(name):
        data = dataclasses.replace(run_data, mixture_or_task=name, shuffle=False, batch_size=24)
        stream = data.stream()
        batch = next(stream.batches())
        assert not batch.skipped
        return len(stream.tasks[0].entries), [data.vocabulary.decode(row) for row in batch.batch.targets]

    entries, texts = captions("captioning")
    assert entries == 24 and sum("Katze" in text for text in texts) == 12
    entries, texts = captions("captioning_en")
    assert entries == 12 and texts == [f"a cat and {i} dogs" for i in range(12)] * 2


def test_captioning_in_the_35_languages(run_data):
    data = dataclasses.replace(
        run_data, mixture_or_task="captioning", options={"languages": {"captioning": "cc3m_35l", "vqa": ["en"]}}
    )
    stream = data.stream()
    assert stream.tasks[0].task.source.items == "alt_text:" + "+".join(CC3M_35L)
    assert len(stream.tasks[0].entries) == 24 and not next(stream.batches()).skipped
    assert seqio.TaskRegistry.get("vqa").source.items == "qa:en"
    assert seqio.TaskRegistry.get("vqg").source.items == "qa"


def test_languages_that_the_manifest_does_not_count_are_told(run_data):
    options = {"languages": {"vqa": ["en", "sw", "zu"]}}
    data = dataclasses.replace(run_data, mixture_or_task="vqa", options=options)
    with pytest.raises(ValueError, match="'qa:zu'.*languages=.'zu'"):
        data.stream()


def test_registering_again_replaces(data):
    pretrain.register(data)
    pretrain.register(dataclasses.replace(data, options={"sources": {"ocr": "/elsewhere"}}))
    assert seqio.TaskRegistry.get("ocr").source.directory == "/elsewhere"
    assert seqio.TaskRegistry.get("vqa").source.directory == "/nowhere"


def test_all_eight_tasks_through_the_stream(run_data):
    equal = dataclasses.replace(run_data, rates={name: 1 for name in pretrain.MILLIONS}, batch_size=32)
    batches = equal.stream().batches()
    counts = np.zeros(8)
    for _ in range(2):
        batch = next(batches)
        assert not batch.skipped
        counts += np.bincount(batch.batch.task, minlength=8)
        names = np.array(sorted(pretrain.MILLIONS))[batch.batch.task]
        np.testing.assert_array_equal(batch.batch.image_mask, names != "span_corruption")
        for inputs, name in zip(batch.batch.inputs, names, strict=True):
            sentinel = run_data.vocabulary.sentinel(0) in inputs
            assert sentinel == (name != "detection")
    np.testing.assert_array_equal(counts, 8)


@pytest.mark.slow
def test_every_task_scores_its_own_targets(run_data):
    """The way evaluation goes: host fields → postprocessing → metrics."""
    pretrain.register(run_data)
    best = {"ocr": 0.0}
    for name in pretrain.MILLIONS:
        data = dataclasses.replace(run_data, mixture_or_task=name, split="validation", batch_size=6)
        examples = [e for batch in data.evaluation(name, num_examples=6) for e in batch.examples]
        assert len(examples) == 6 and not any(e["skip"] for e in examples)
        task = seqio.TaskRegistry.get(name)
        targets = [task.postprocess_fn(e["targets"], example=e, is_target=True) for e in examples]
        right, wrong = (
            [task.postprocess_fn(text, example=e, is_target=False) for text, e in zip(texts, examples, strict=True)]
            for texts in ([e["targets"] for e in examples], ["" for _ in examples])
        )
        (metric,) = task.metric_fns
        headline = next(iter(metric(targets, right)))
        assert metric(targets, right)[headline] == pytest.approx(best.get(name, 1.0)), name
        assert metric(targets, wrong)[headline] == pytest.approx(1 - best.get(name, 1.0)), name


def test_classification_is_registered_where_labels_are_asked_for(run_data):
    data = dataclasses.replace(
        run_data, mixture_or_task="classification", feature_lengths={"image": 16, "labels": 6}, batch_size=4
    )
    batch = next(data.stream().batches()).batch
    np.testing.assert_array_equal(batch.labels, np.tile(np.float32([1, 1, 0, 0, 0, 0]), (4, 1)))


def test_names_from_a_file(data, tmp_path):
    file = tmp_path / "classes.txt"
    file.write_text("cat\n\n traffic light \n")
    assert pretrain.lines(str(file)) == ("cat", "traffic light")
    assert pretrain.lines(["cat"]) == ("cat",)
    with pytest.raises(FileNotFoundError, match="one name a line"):
        pretrain.lines(str(tmp_path / "none.txt"))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"clases": ()}, "'clases', which is not known; did you mean 'classes'?"),
        ({"sources": {"ocrs": "/x"}}, "'ocrs', which is not known; did you mean 'ocr'?"),
        ({"box_order": "random"}, "'random' is not known"),
        ({"languages": {"object_aware": ["en"]}}, "'object_aware', which is not known"),
        ({"languages": {"vqa": ["germann"]}}, "No language 'germann'"),
    ],
)
def test_mistakes_are_told(data, options, message):
    with pytest.raises(ValueError) as caught:
        pretrain.register(dataclasses.replace(data, options=options))
    assert message in str(caught.value)


def test_missing_data_directory_is_told(data):
    with pytest.raises(ValueError, match="Set Data.data_dir"):
        pretrain.register(dataclasses.replace(data, data_dir=None))

import collections
import io
import itertools

import numpy as np
import pytest
from PIL import Image

from tasks.mini import scenes
from tasks.mini.world import world

COUNT = 1500


@pytest.fixture(scope="module")
def drawn():
    return {split: [scenes.draw(world(), 0, split, i) for i in range(COUNT)] for split in scenes.SPLITS}


def test_held_out_arrangements_never_occur_in_training(drawn):
    seen = {scenes.arrangement(scene.objects) for scene in drawn["train"]}
    for split in ("validation", "test"):
        assert not seen & {scenes.arrangement(scene.objects) for scene in drawn[split]}


def _pairs(some):
    return {frozenset(pair) for scene in some for pair in itertools.combinations([o.label for o in scene.objects], 2)}


def test_some_pairs_of_objects_occur_in_held_out_scenes_only(drawn):
    held_out = world().held_out_pairs
    assert len(held_out) == 5
    assert not _pairs(drawn["train"]) & held_out
    assert held_out <= _pairs(drawn["validation"]) and held_out <= _pairs(drawn["test"])


def test_some_words_are_rendered_in_held_out_scenes_only(drawn):
    unseen = world().unseen_words
    assert not {s.word.text for s in drawn["train"] if s.word} & unseen
    words = [s.word.text for s in drawn["test"] if s.word]
    assert 0.4 < np.mean([word in unseen for word in words]) < 0.6


def test_objects_lie_in_their_cells_and_never_on_the_word(drawn):
    for scene in drawn["train"] + drawn["test"]:
        for o in scene.objects:
            assert 0 <= o.left // 4 == (o.left + o.size - 0.25) // 4 == o.cell % 2
            if scene.word:
                ymin, _, ymax, _ = scene.word.box
                assert o.box[2] <= ymin or o.box[0] >= ymax
        cells = [o.cell for o in scene.objects]
        assert cells == sorted(set(cells)) and len({o.label for o in scene.objects}) == len(cells)


def test_answers_are_balanced(drawn):
    answers = collections.defaultdict(collections.Counter)
    for i, scene in enumerate(drawn["train"]):
        kinds = ["what", "where"] * len(scene.objects) + ["how many", "colour"]
        qa = scenes.questions(scene, world(), scenes.random.Random(i))
        for kind, triplet in zip(kinds, qa, strict=True):
            answers[kind][triplet["answer"]] += 1
    most = {kind: max(counts.values()) / sum(counts.values()) for kind, counts in answers.items()}
    assert most["what"] < 0.13 and most["where"] < 0.29 and most["how many"] < 0.35 and most["colour"] < 0.2


def test_a_record_is_a_function_of_seed_split_and_index():
    first = scenes.record(world(), 0, "train", 5, 96)
    again = scenes.record(world(), 0, "train", 5, 96)
    assert repr(first) == repr(again)
    assert scenes.record(world(), 1, "train", 5, 96)["image"] != first["image"]
    assert Image.open(io.BytesIO(first["image"])).size == (96, 96)
    with pytest.raises(ValueError, match="image_size=100: expected a multiple of 32"):
        scenes.record(world(), 0, "train", 5, 100)


def test_every_label_of_a_scene_is_a_class(drawn):
    classes = set(scenes.class_names(world()))
    assert len(classes) == 16 + 64 * len(scenes.region_labels(world()))
    for scene in drawn["test"][:200]:
        assert set(scenes.labels_of(scene)) <= classes


def test_pictograms_are_where_their_boxes_say():
    of = world()
    scene = next(s for s in (scenes.draw(of, 0, "train", i) for i in range(100)) if len(s.objects) == 1 and not s.word)
    picture = np.asarray(scenes.render(scene, of, 96), np.float32)
    empty = np.asarray(scenes.render(scenes.dataclasses.replace(scene, objects=()), of, 96), np.float32)
    rows, columns = np.nonzero(np.abs(picture - empty).max(axis=-1) > 1)
    ymin, xmin, ymax, xmax = (round(side * 96) for side in scene.objects[0].box)
    assert ymin <= rows.min() <= ymin + 1 and ymax - 2 <= rows.max() < ymax
    assert xmin <= columns.min() <= xmin + 1 and xmax - 2 <= columns.max() < xmax


def test_text_records_have_no_image():
    record = scenes.text_record(world(), 0, "train", 3)
    assert record["image"] == b"" and record["text"] and record["text_lang"] in ("en", "de", "ru")

import dataclasses
import json

import pytest

from paligax.data import records, shards, statistics
from paligax.data.runtime import tf
from paligax.data.statistics import summary
from tests.data.toy import jpeg, record

CLASSES = ("cat", "dog", "bird", "tree", "sofa", "car")
LONG = {"alt_text": [{"lang": "en", "text": "x" * 60}]}
LENGTHS = {"image": 28, "inputs": 64, "targets": 24}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Captions: four of 15 ids (with EOS), four in German of 13, two of 61, and three that can't be used."""
    written = [record(i, id=f"r{i}") for i in range(4)]
    written += [record(i, image=jpeg(i, 48, 64), **LONG) for i in range(2)]
    written += [{**record(0), "image": jpeg(0)[:200]}]
    written += [{**record(0), "alt_text": [{"lang": "", "text": " "}]}]
    written += [{"id": "t", "text": "once upon a time " * 20, "text_lang": "en"}]
    path = str(tmp_path_factory.mktemp("statistics"))
    shards.write_shards(path, "train", [records.encode(r) for r in written])
    records.write_manifest(path)
    return path


def test_stock_tasks_in_numbers(data, directory):
    own = dataclasses.replace(data, data_dir=directory, feature_lengths=LENGTHS)
    found = statistics.statistics(own, None, known_languages=("en",))
    assert found["mixture"] == "toy" and found["split"] == "train" and found["feature_lengths"] == LENGTHS
    assert list(found["tasks"]) == ["toy_caption", "toy_question", "toy_text"]
    captions = found["tasks"]["toy_caption"]
    assert (captions["entries"], captions["examples"], captions["usable"]) == (13, 13, 10 / 13)
    assert captions["skipped"] == {"broken image": 2, "empty targets": 1}
    assert captions["languages"] == {"en": 6, "de": 4} and captions["languages_outside"] == 4
    # "a cat number 0", "eine Katze 0" four times each, and sixty letters twice; each with EOS
    expected = summary([15, 13] * 4 + [61] * 2)
    assert {key: captions["targets"][key] for key in expected} == expected
    assert captions["targets"]["limit"] == 24 and captions["targets"]["truncated"] == 0.2
    assert captions["targets"]["fed"] == (15 * 4 + 13 * 4 + 24 * 2) / 10
    assert captions["inputs"]["truncated"] == 0.0
    assert captions["images"]["height"]["max"] == 48 and captions["images"]["width"]["p50"] == 32
    assert captions["images"]["smaller"] == 0.8  # 24 × 32 is below 28 px
    texts = found["tasks"]["toy_text"]
    assert texts["images"] == {} and texts["targets"]["truncated"] == 1.0 and texts["languages"] == {"en": 1}
    shares = {name: task["share"] for name, task in found["tasks"].items()}
    assert shares == {"toy_caption": 100 / 180, "toy_question": 50 / 180, "toy_text": 30 / 180}
    assert sum(task["share_of_target_tokens"] for task in found["tasks"].values()) == pytest.approx(1)


def test_the_tasks_of_paligax_tell_what_was_left_out(data, directory):
    own = dataclasses.replace(
        data, mixture_or_task="captioning", data_dir=directory, feature_lengths=LENGTHS,
        task_modules=("tasks.pretrain",), options={"classes": CLASSES},
    )  # fmt: skip
    captions = statistics.statistics(own)["tasks"]["captioning"]
    assert captions["targets"]["max"] == 61 and captions["targets"]["truncated"] == 0.2
    assert captions["inputs"]["mean"] == len("Generate the alt_text in en at 0:") + 2
    english = dataclasses.replace(own, mixture_or_task="captioning_en")
    assert statistics.statistics(english)["tasks"]["captioning_en"]["languages"] == {"en": 6}
    labels = dataclasses.replace(own, mixture_or_task="classification", feature_lengths={"image": 28, "labels": 6})
    found = statistics.statistics(labels)["tasks"]["classification"]
    assert found["labels"]["mean"] == 1 and found["inputs"] == {} and found["share_of_target_tokens"] == 0


def test_a_part_is_spread_over_the_index(data, directory):
    own = dataclasses.replace(data, mixture_or_task="toy_caption", data_dir=directory, feature_lengths=LENGTHS)
    (part,) = statistics.statistics(own, num_examples=3)["tasks"].values()  # entries 0, 6 and 12
    assert part["examples"] == 3 and part["entries"] == 13
    assert part["skipped"] == {"empty targets": 1} and part["languages"] == {"en": 2}


def test_what_cannot_be_used_is_counted_by_reason_and_nowhere_else(data, tmp_path):
    """Fields that are missing, groups that don't fit together, images that changed, a record that is none."""
    changed = tf.train.Example.FromString(records.encode({**record(0), **LONG}))
    changed.features.feature["image_crc"].int64_list.value[0] ^= 1
    uneven = tf.train.Example.FromString(records.encode({**record(1), **LONG}))
    del uneven.features.feature["alt_text/lang"]
    bare = tf.train.Example()
    bare.features.feature["image"].bytes_list.value.append(jpeg(3, 48, 64))
    bare.features.feature["alt_text/lang"].bytes_list.value.append(b"en")
    bare.features.feature["alt_text/text"].bytes_list.value.append(b"a cat")
    written = [
        records.encode(record(0)),
        bare.SerializeToString(),  # no other field at all
        changed.SerializeToString(),
        uneven.SerializeToString(),
        records.encode({**record(2, image=jpeg(2)[:150]), **LONG}),
        records.encode(record(3, alt_text=[{"lang": "fr", "text": ""}])),
    ]
    shards.write_shards(str(tmp_path), "train", written)
    records.write_manifest(str(tmp_path))
    shards.write_shards(str(tmp_path), "train", [*written[:-1], b"\xff no example"])  # since it was counted
    own = dataclasses.replace(
        data, mixture_or_task="captioning", data_dir=str(tmp_path), feature_lengths={**LENGTHS, "targets": 64},
        task_modules=("tasks.pretrain",), options={"classes": CLASSES},
    )  # fmt: skip
    captions = statistics.statistics(own, None)["tasks"]["captioning"]
    assert captions["entries"] == captions["examples"] == 7
    assert captions["skipped"] == {
        "checksum differs": 1, "uneven groups": 1, "broken image": 1, "broken record": 1,
    }  # fmt: skip
    # Two captions of the first record and the one of the bare one; of others nothing is measured.
    assert captions["usable"] == 3 / 7 and captions["languages"] == {"en": 2, "de": 1}
    assert captions["targets"]["max"] == 15 and captions["images"]["height"]["max"] == 48
    assert captions["targets"]["truncated"] == 0.0
    assert captions["share_of_target_tokens"] == 1.0


def test_it_is_printed_and_written(data, directory, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    own = dataclasses.replace(data, data_dir=directory, feature_lengths=LENGTHS)
    found = statistics.statistics(own, None, known_languages=("en",))
    statistics.print_table(found)
    printed = capsys.readouterr().out
    row = next(line for line in printed.splitlines() if "toy_caption" in line)
    assert all(cell in row for cell in ("55.6%", "13", "76.9%", "23.4 (61, 61)", "20.0%", "32×24"))
    assert "toy_caption, skipped: broken image 2, empty targets 1 of 13" in printed
    assert "toy_caption: 4 examples in languages outside the table" in printed
    statistics.write(found, str(tmp_path / "below" / "statistics.json"))
    assert json.loads((tmp_path / "below" / "statistics.json").read_text("utf-8")) == found


def test_summary():
    assert summary([]) == {}
    assert summary([1, 3]) == {"mean": 2.0, "p50": 2.0, "p90": 2.8, "p99": pytest.approx(2.98), "max": 3.0}

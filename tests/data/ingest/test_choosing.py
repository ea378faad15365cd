import math

import pytest

pytest.importorskip("apache_beam")

from paligax.data import records, shards
from paligax.data.ingest import make_reader
from paligax.data.ingest.choosing import Choice
from paligax.data.ingest.duplicates import RemoveNearDuplicates
from paligax.data.ingest.keep import KeepAbove
from paligax.data.ingest.languages import IdentifyLanguages
from paligax.data.ingest.ocr import ReadText
from paligax.data.ingest.similarity import ScorePairs

HERE = ["--runner=FnApiRunner"]


def test_nothing_asked_is_no_stage():
    assert Choice().stages(None, "nowhere") == []


def test_stages_stand_in_their_order():
    asked = Choice(
        identify_languages=True, read_text=True, score_with="siglip/", near_duplicates_of="h.npy", radius=3
    ).stages(None, "nowhere")
    assert [type(stage) for stage in asked] == [IdentifyLanguages, ReadText, ScorePairs, RemoveNearDuplicates]
    assert asked[2].checkpoint == "siglip/" and (asked[3].hashes, asked[3].radius) == ("h.npy", 3)
    (alone,) = Choice(near_duplicates_of="h.npy").stages(None, "nowhere")
    assert alone.radius == RemoveNearDuplicates("h.npy").radius


def test_the_best_part_is_found_for_each_language(tmp_path):
    made = [
        {"id": f"r{i}", "text": "x", "text_lang": ["en", "de"][i % 2], "score": float(i if i % 2 else 100 + i)}
        for i in range(20)
    ]
    shards.write_shards(str(tmp_path / "a"), "train", [records.encode(r) for r in made])
    records.write_manifest(str(tmp_path / "a"))
    reader = make_reader("records", path=str(tmp_path / "a"))
    (stage,) = Choice(keep_top=0.2, per_language=True).stages(reader, str(tmp_path / "b"), HERE)
    assert isinstance(stage, KeepAbove) and stage.key == "language"
    assert {key: score for key, (score, _) in stage.thresholds.items()} == {"en": 116.0, "de": 17.0}
    assert list((tmp_path / "b").iterdir()) == []


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"keep_top": 0.0}, "--keep_top=0.0: expected a share above 0"),
        ({"keep_top": 1.5}, "--keep_top=1.5"),
        ({"keep_top": -1}, "--keep_top=-1"),
        ({"keep_top": math.nan}, "--keep_top=nan"),
        ({"keep_top": 0.1, "identify_languages": True}, "must know all scores, languages and removals"),
        ({"per_language": True}, "--keep_top is a share; it is not given"),
        ({"radius": 3}, "--near_duplicates_of are; it is not given"),
        ({"radius": -1, "near_duplicates_of": "h"}, "--radius=-1: expected 0 to 20"),
        ({"radius": 21, "near_duplicates_of": "h"}, "--radius=21"),
        ({"score_with": ""}, "--score_with= is empty"),
    ],
)
def test_what_makes_no_sense_is_told_at_once(asked, message):
    with pytest.raises(ValueError, match=message):
        Choice(**asked)

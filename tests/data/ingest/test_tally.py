import base64
import io

from PIL import Image

from paligax.data import records
from paligax.data.ingest import tally
from paligax.data.ingest.reader import PART, RECORD, UNKNOWN, Problem
from paligax.data.ingest.tally import Tally
from tests.data.toy import jpeg


def test_only_lost_records_count_as_read():
    found = Tally()
    for lost, number in ((RECORD, 3), (PART, 5), (UNKNOWN, 1)):
        found.problem(Problem("damaged", "file", lost, number))
    assert found.read == 3 and found.dropped == {"damaged": 3} and found.reasons == {"damaged": 9}


def test_parts_add_up():
    found = Tally()
    found.admitted({"objects": 5, "boxes": 4}, {"objects": 4, "boxes": 1})
    found.admitted({"objects": 2, "boxes": 2}, None)
    assert found.parts["objects read"] == 7 == 4 + found.parts["objects left out"] + found.parts["objects dropped"]
    assert (found.parts["boxes left out"], found.parts["boxes dropped"]) == (3, 2)


def test_samples_are_few_and_the_same_in_any_order():
    names = [f"n{i}" for i in range(100)] + ["half \ud800"]
    one, other = Tally(), Tally()
    for name in names:
        one.sample("bad", name)
    for name in reversed(names):
        other.sample("bad", name)
    assert one.samples == other.samples and len(one.samples["bad"]) == tally.SAMPLES


def test_what_is_shown_of_a_record():
    flat = records.flatten({"id": b"a", "image": jpeg(1), "qa": [{"question": "what?"}], "score": 0.25})
    shown = tally.shown(flat)
    picture = Image.open(io.BytesIO(base64.b64decode(shown["picture"])))
    assert shown["text"] == "what?" and shown["score"] == "0.2500" and max(picture.size) <= tally.THUMBNAIL
    assert tally.name_of(flat) == "a"
    assert tally.shown(records.flatten({"image": b"\xff\xd8\xff broken"})) == {"text": ""}


def test_languages_of_hostile_codes_stay_few(monkeypatch):
    monkeypatch.setattr(tally, "MAX_LANGUAGES", 10)
    found = Tally()
    for i in range(1000):
        found.write(records.flatten({"text": "a", "text_lang": f"x-{i}"}))
    assert len(found.languages) == 11 and found.languages["text others"] == 990 and found.written == 1000

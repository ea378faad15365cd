import ast
import math

import numpy as np
import pytest

beam = pytest.importorskip("apache_beam")

from apache_beam.options.pipeline_options import PipelineOptions  # noqa: E402

from paligax.data import records  # noqa: E402
from paligax.data.ingest import keep  # noqa: E402
from paligax.data.ingest.keep import ALL, KeepAbove, TopFraction  # noqa: E402


def by_sorting(rows, fraction, per_key):
    """The ids that are kept, by numpy's sort of (score, hash) of each key."""
    kept = set()
    for key in {row[0] for row in rows} if per_key else {ALL}:
        mine = [(s, keep.tie_hash(i), i) for k, s, i in rows if not math.isnan(s) and (not per_key or k == key)]
        order = np.lexsort(
            (np.array([t for _, t, _ in mine], np.uint64), np.array([s for s, _, _ in mine], np.float32))
        )
        kept |= {mine[n][2] for n in order[len(mine) - keep.kept_of(fraction, len(mine)) :]}
    return kept


def in_beam(rows, fraction, folder):
    """(thresholds of all, of each key, how many were not scored), as Beam finds them."""
    pipeline = beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"]))
    given = pipeline | beam.Create(rows)
    for name, per_key in (("all", False), ("each", True)):
        found = given | name >> TopFraction(fraction, per_key) | f"{name} as text" >> beam.Map(repr)
        _ = found | f"{name} written" >> beam.io.WriteToText(str(folder / name))
    result = pipeline.run()
    result.wait_until_finish()
    counters = result.metrics().query()["counters"]
    not_scored = sum(c.committed for c in counters if c.key.metric.name == "not scored")
    lines = [[line for file in folder.glob(f"{n}*") for line in file.read_text().splitlines()] for n in ("all", "each")]
    return *(dict(map(ast.literal_eval, of)) for of in lines), not_scored // 2


def kept_by(thresholds, rows, per_key):
    stage = KeepAbove(thresholds, key="source" if per_key else "")
    stage.setup()
    flat = [{"id": i, "source": k, "score": s} for k, s, i in rows]
    return {row[2] for row, reason in zip(rows, stage.apply(flat), strict=True) if not reason}


def random_rows(number, seed):
    """Many ties (a hundred different scores), negative scores, both zeros, infinities, a few that are not scored."""
    rng = np.random.default_rng(seed)
    scores = np.float32(rng.integers(-50, 50, number) / 64)
    scores[rng.integers(0, number, 5)] = [np.inf, -np.inf, -0.0, 0.0, np.nan]
    scores[rng.random(number) < 0.01] = np.nan
    keys = rng.choice(["en", "de", "th"], number, p=[0.9, 0.099, 0.001])
    return [(str(k), float(s), f"image-{n}") for n, (k, s) in enumerate(zip(keys, scores, strict=True))]


@pytest.mark.parametrize(
    "number, fraction, per_key",
    [(100_000, 0.1, False), (100_000, 0.1, True), (5_000, 0.333, True), (5_000, 1.0, False), (5_000, 1e-6, True)],
)
def test_of_a_hundred_thousand_with_ties_the_same_are_kept_as_by_sorting(number, fraction, per_key):
    rows = random_rows(number, seed=1)
    keys, scores, ids = zip(*rows, strict=True)
    found = keep.thresholds_of(np.array(scores), ids, fraction, keys if per_key else None)
    assert kept_by(found, rows, per_key) == by_sorting(rows, fraction, per_key)


def test_beam_finds_the_same(tmp_path):
    rows = random_rows(2_000, seed=2)
    keys, scores, ids = zip(*rows, strict=True)
    of_all, of_each, not_scored = in_beam(rows, 0.1, tmp_path)
    assert of_all == keep.thresholds_of(np.array(scores), ids, 0.1)
    assert of_each == keep.thresholds_of(np.array(scores), ids, 0.1, keys) and len(of_each) > 1
    assert not_scored == sum(map(math.isnan, scores)) > 10
    assert len(kept_by(of_all, rows, False)) == math.ceil((len(rows) - not_scored) / 10)


def test_exactly_as_many_are_kept_where_all_scores_are_equal():
    rows = [("", 0.25, f"r{n}") for n in range(1001)]
    found = keep.thresholds_of(np.full(1001, 0.25), [i for _, _, i in rows], 0.1)
    assert found[ALL][0] == 0.25
    assert len(kept_by(found, rows, False)) == 101


def test_a_share_is_of_the_decimal_number_that_was_written():
    assert keep.kept_of(0.07, 100) == 7  # 0.07 * 100 is 7.000000000000001
    assert keep.kept_of(0.1, 30) == 3
    assert keep.kept_of(0.1, 31) == 4
    assert keep.kept_of(1.0, 31) == 31
    assert keep.kept_of(1e-9, 1) == 1


@pytest.mark.parametrize("fraction", [0, -0.1, 1.1, math.nan])
def test_a_share_is_above_zero_and_up_to_one(fraction):
    with pytest.raises(ValueError, match="expected a share above 0"):
        TopFraction(fraction)


def test_places_order_as_scores_do_and_come_back():
    assert keep.place(1e300, "x") == keep.place(np.inf, "x")
    assert keep.place(-1e300, "x") == keep.place(-np.inf, "x")
    scores = np.float32([-np.inf, -3e38, -1.5, -1e-45, 0, 1e-45, 0.1, 1.5, 3e38, np.inf])
    places = [keep.place(score, "x") for score in scores]
    assert places == sorted(places) and len(set(places)) == len(places)
    assert keep.place(-0.0, "x") == keep.place(0.0, "x")
    assert [keep._threshold(place) for place in places] == [(float(score), keep.tie_hash("x")) for score in scores]


def test_ties_are_decided_alike_on_every_machine():
    assert [keep.tie_hash(i) for i in ("", "image-1", "日本")] == TIES


TIES = [16476032584258269876, 6513936176253176036, 16731776207566445370]


def test_reasons():
    stage = KeepAbove({"en": (0.5, 0)}, key="language")
    stage.setup()
    made = [("en", 0.5), ("en", 0.49), ("en", math.nan), ("de", 0.9), ("", 0.9)]
    flat = [records.flatten({"id": "a", "alt_text": [{"lang": lang, "text": "x"}], "score": s}) for lang, s in made]
    below, none = "score below the top fraction", "no threshold for its key"
    assert stage.apply(flat) == ["", below, "not scored", none, none]


def test_a_records_language_is_its_first_captions_or_its_texts():
    record = records.flatten({"alt_text": [{"lang": "de"}, {"lang": "en"}], "text_lang": "fr", "source": "cc3m"})
    assert keep.scored(record | {"score": 1.0, "id": "i"}, "language") == ("de", 1.0, "i")
    assert keep.scored(records.flatten({"text_lang": "fr"}), "language")[0] == "fr"
    assert keep.scored(record, "source")[0] == "cc3m"
    assert keep.scored(record)[0] == ALL
    with pytest.raises(ValueError, match="key = 'lang'; known: '', 'language', 'source'"):
        KeepAbove({}, key="lang")


def test_thresholds_are_kept_in_a_file(tmp_path):
    path = str(tmp_path / "thresholds.json")
    thresholds = {"en": (float(np.float32(0.1)), 2**64 - 1), "de": (-math.inf, 0)}
    keep.save_thresholds(thresholds, path)
    assert keep.load_thresholds(path) == thresholds
    stage = KeepAbove(path, key="source")
    stage.setup()
    assert stage.apply([records.flatten({"id": "a", "source": "de", "score": -1.0})]) == [""]
    for text in ("[]", '{"en": 1}', '{"en": [1, "x"]}', "{"):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ValueError, match="bad.json"):
            keep.load_thresholds(str(tmp_path / "bad.json"))

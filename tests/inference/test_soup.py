import json

import numpy as np
import pytest

import paligax
from paligax import cli
from paligax.inference import export, soup
from paligax.interop import native
from paligax.vocabulary import ByteVocabulary


@pytest.fixture(scope="module")
def several(module, params, vocabulary, lengths, tmp_path_factory):
    """Three exports of one model with other weights."""
    rng, paths = np.random.default_rng(0), []
    for number in range(3):
        leaves = {name: leaf + rng.normal(0, 0.1, leaf.shape).astype(np.float32) for name, leaf in _flat(params)}
        path = tmp_path_factory.mktemp("soup") / f"model{number}"
        paths.append(
            str(
                export.export(path, module, native.unflatten(leaves), vocabulary, feature_lengths=lengths, config="A=1")
            )
        )
    return paths


def _flat(params):
    return [(name, np.asarray(leaf)) for name, leaf in native.flatten(params)]


def test_a_mean_is_rounded_once(several):
    sources = soup.open_all(several)
    weights = [0.5, 0.25, 3.0]
    for given in (None, weights):
        mean = dict(_flat(soup.average(sources, given)))
        parts = [dict(_flat(paligax.load(path).params)) for path in several]
        for name, leaf in mean.items():
            stacked = np.stack([part[name].astype(np.float64) for part in parts])
            exact = np.average(stacked, axis=0, weights=given)
            np.testing.assert_array_equal(leaf, exact.astype(np.float32))
            assert leaf.dtype == np.float32


def test_a_mean_of_two_is_exact_and_one_weight_is_that_model(several):
    sources = soup.open_all(several[:2])
    first, second = (dict(_flat(paligax.load(path).params)) for path in several[:2])
    for name, leaf in _flat(soup.average(sources)):
        expected = ((first[name].astype(np.float64) + second[name]) / 2).astype(np.float32)
        np.testing.assert_array_equal(leaf, expected)
    for name, leaf in _flat(soup.average(sources, [0, 7])):
        np.testing.assert_array_equal(leaf, second[name])


def test_the_command_writes_an_export_that_loads(several, tmp_path, capsys):
    to = tmp_path / "both"
    assert cli.main(["soup", *several[:2], f"--to={to}", "--weights=1,3"]) == 0
    loaded = paligax.load(to)
    expected = dict(_flat(soup.average(soup.open_all(several[:2]), [1, 3])))
    for name, leaf in _flat(loaded.params):
        np.testing.assert_array_equal(leaf, expected[name])
    described = json.loads((to / "paligax.json").read_text())
    assert "model0 × 0.25" in described["data"]["mean of"] and "model1 × 0.75" in described["data"]["mean of"]
    assert (to / "config.gin").read_text() == "A=1"
    assert "Wrote" in capsys.readouterr().out


def test_greedy_keeps_what_does_not_make_it_worse(several):
    sources = soup.open_all(several)
    leaf = lambda params: float(params["projection"]["kernel"][0, 0])  # noqa: E731
    values = [leaf(soup.read(source.params())) for source in sources]
    target = (values[0] + values[2]) / 2  # the mean of two of them is best, and the third only disturbs
    said = []
    found = soup.greedy(sources, lambda params: -abs(leaf(params) - target), said.append)
    nearest = min(abs(value - target) for value in values)
    assert -found.score <= nearest and len(said) == 5
    if abs(values[1] - target) > nearest:
        assert set(found.kept) == {0, 2} and found.score == pytest.approx(0, abs=1e-6)
    worse = soup.greedy(sources, lambda params: leaf(params), said.append)  # every mean is below the best
    assert worse.kept == (int(np.argmax(values)),) and worse.call == worse.kept[0]


def test_what_has_no_mean_is_refused(several, module, params, lengths, tmp_path):
    with pytest.raises(ValueError, match="two models at least"):
        soup.open_all(several[:1])
    sources = soup.open_all(several)
    for weights, message in (([1, 2], "2 weights for 3"), ([1, 2, -1], "from 0 on"), ([0, 0, 0], "not all of them 0")):
        with pytest.raises(ValueError, match=message):
            soup.average(sources, weights)
    other = export.export(tmp_path / "other", module, params, ByteVocabulary(extra_ids=7), feature_lengths=lengths)
    with pytest.raises(ValueError, match="different vocabularies"):
        soup.open_all([several[0], other])
    small = export.export(
        tmp_path / "small", module, params, ByteVocabulary(extra_ids=8), feature_lengths=lengths, dtype="bfloat16"
    )
    with pytest.raises(ValueError, match="shape or dtype"):
        soup.open_all([several[0], small])
    tower = export.export(
        tmp_path / "tower", module.vision, params["vision"], None, feature_lengths={"image": lengths["image"]}
    )
    with pytest.raises(ValueError, match="different models"):
        soup.open_all([several[0], tower])


def test_means_of_bfloat16_are_rounded_from_wider_numbers(module, params, vocabulary, lengths, tmp_path):
    paths = []
    for number, factor in enumerate((1.0, 1.5)):
        scaled = native.unflatten({name: leaf * np.float32(factor) for name, leaf in _flat(params)})
        paths.append(
            export.export(tmp_path / f"{number}", module, scaled, vocabulary, feature_lengths=lengths, dtype="bfloat16")
        )
    parts = [dict(_flat(paligax.load(path).params)) for path in paths]
    for name, leaf in _flat(soup.average(soup.open_all(paths))):
        mean = (parts[0][name].astype(np.float64) + parts[1][name].astype(np.float64)) / 2
        assert leaf.dtype == parts[0][name].dtype
        np.testing.assert_array_equal(leaf, mean.astype(leaf.dtype))


def test_weights_that_are_not_finite_are_told(module, params, vocabulary, lengths, tmp_path, several):
    broken = dict(_flat(params))
    broken["projection/bias"] = np.full_like(broken["projection/bias"], np.inf)
    path = export.export(tmp_path / "x", module, native.unflatten(broken), vocabulary, feature_lengths=lengths)
    mean = dict(native.flatten(soup.average(soup.open_all([several[0], path]))))
    with pytest.raises(ValueError, match="'projection/bias' has numbers that aren't finite"):
        np.asarray(mean["projection/bias"])

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from paligax.reports import plots


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.5, 1]),
        (0, 4.2, [0, 2, 4]),
        (0.3, 0.36, [0.3, 0.32, 0.34, 0.36]),
        (0, 3000, [0, 1000, 2000, 3000]),
        (5, 5, [5]),
    ],
)
def test_ticks_are_round_and_inside(low, high, expected):
    np.testing.assert_allclose(plots.ticks(low, high), expected)


def test_thin_keeps_means_and_extremes():
    y = np.array([1.0, 3.0, np.nan, 5.0, 7.0])
    x, mean, low, high = plots.thin(range(5), y, 2)
    np.testing.assert_allclose(x, [0.5, 3.5])
    np.testing.assert_allclose(mean, [2, 6])
    np.testing.assert_allclose(low, [1, 5])
    np.testing.assert_allclose(high, [3, 7])
    x, mean, *_ = plots.thin(range(1000), np.arange(1000), 160)
    assert len(x) == 160 and mean.mean() == pytest.approx(499.5, rel=0.01)


def test_numbers_are_short():
    assert [plots.number(v) for v in (0.25, 12, 15_000, 1_123_456, 3.9e9)] == ["0.25", "12", "15k", "1.12M", "3.9B"]


def test_line_chart_is_an_svg_whose_lines_stay_inside_and_fall_as_the_values_do():
    y = 4 * np.exp(-np.arange(200) / 40)
    chart = plots.line_chart([plots.Line("a < b", range(200), y, 1)], label="Loss & more")
    svg = ElementTree.fromstring(chart)
    assert svg.get("aria-label") == "Loss & more" and svg.find(".//title").text == "a < b"
    points = np.array([tuple(map(float, p.split(","))) for p in svg.find("polyline").get("points").split()])
    assert len(points) == 160
    assert (points[:, 0] >= 0).all() and (points[:, 0] <= 320).all()
    assert (points[:, 1] >= 0).all() and (points[:, 1] <= 170).all()
    assert (np.diff(points[:, 0]) > 0).all() and (np.diff(points[:, 1]) >= 0).all()  # down the page
    assert [t.text for t in svg.findall("text")][:3] == ["0", "1", "2"]


def test_nothing_to_draw_is_said():
    assert "No values" in plots.line_chart([plots.Line("a", [0, 1], [np.nan, np.inf])], label="")


def test_share_bar_grows_with_the_shares():
    bar = plots.share_bar([("a", 3.0), ("b", 1.0), ("nothing", 0.0)])
    assert re.findall(r"flex-grow:([\d.]+)", bar) == ["0.75000", "0.25000"]

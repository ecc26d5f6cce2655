"""Plots: where things are drawn."""

import re
from xml.etree import ElementTree

import pytest

from pointsman_replay.core.svg_plots import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    Line,
    plot,
)


def points(svg: str) -> list[list[tuple[float, float]]]:
    root = ElementTree.fromstring(svg)  # noqa: S314  (our own)
    return [
        [tuple(map(float, pair.split(","))) for pair in line.get("points", "").split()]  # type: ignore[misc]
        for line in root.iter("polyline")
    ]


def test_lines_end_at_the_edges_of_the_axes() -> None:
    svg = plot("t", [Line("a", [(1.0, 0.0), (3.0, 10.0)])], Axis("x", ticks=(1.0, 3.0)), Axis("y"))
    assert points(svg) == [[(LEFT, HEIGHT - BOTTOM), (WIDTH - RIGHT, TOP)]]


def test_a_logarithmic_axis_gives_each_decade_the_same_room() -> None:
    line = Line("a", [(0.0, 0.1), (1.0, 1.0), (2.0, 10.0)])
    [[low, middle, high]] = points(plot("t", [line], Axis("x"), Axis("y", logarithmic=True)))
    assert middle[1] == pytest.approx((low[1] + high[1]) / 2, abs=0.1)


def test_what_a_logarithmic_axis_cannot_show_is_left_out() -> None:
    line = Line("a", [(0.0, 0.0), (1.0, float("inf")), (2.0, 5.0)])
    assert [
        len(one) for one in points(plot("t", [line], Axis("x"), Axis("y", logarithmic=True)))
    ] == [1]


@pytest.mark.parametrize("values", [[], [(1.0, 1.0)], [(0.0, 0.0), (0.0, 0.0)]])
@pytest.mark.parametrize("logarithmic", [False, True])
def test_few_or_equal_values_are_drawn_within_the_frame(
    values: list[tuple[float, float]], logarithmic: bool
) -> None:
    axis = Axis("x", logarithmic=logarithmic)
    for line in points(plot("t", [Line("a", values)], axis, axis)):
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in line)


def test_names_are_escaped() -> None:
    svg = plot("a < b", [Line("<c>", [(1.0, 1.0)])], Axis("&"), Axis("y"))
    assert re.search("<c>|a < b", svg) is None

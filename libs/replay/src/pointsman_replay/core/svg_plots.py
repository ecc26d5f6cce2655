"""Line plots as SVG text: no library, no script, the same bytes for the same numbers."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 30, 44
COLOURS = ("#4269d0", "#ff725c", "#3ca951", "#a463f2", "#efb118", "#9c6b4e", "#6cc5b0", "#97979f")
DASHES = ("", "7 3", "2 3", "9 3 2 3")
"""Beyond the colours, dashes tell lines apart."""


@dataclass(frozen=True)
class Line:
    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Axis:
    label: str
    logarithmic: bool = False
    """Values at or below 0 are left out of such a plot."""
    ticks: Sequence[float] = ()
    """Where to write the values; empty: at round ones."""


def style(index: int) -> tuple[str, str]:
    """Colour and dash of the line of that place, the same in every plot."""
    return COLOURS[index % len(COLOURS)], DASHES[index // len(COLOURS) % len(DASHES)]


def plot(title: str, lines: Sequence[Line], x: Axis, y: Axis, *, markers: bool = True) -> str:
    """Draw the lines within axes that just hold them."""
    drawn = [[point for point in line.points if _shown(point, x, y)] for line in lines]
    across = _Scale((one[0] for points in drawn for one in points), x, LEFT, WIDTH - RIGHT)
    up = _Scale((one[1] for points in drawn for one in points), y, HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">',
        f'<text class="title" x="{LEFT}" y="18">{escape(title)}</text>',
    ]
    for value in across.ticks:
        column = _n(across.place(value))
        parts.append(f'<path class="grid" d="M{column} {TOP}V{HEIGHT - BOTTOM}"/>')
        parts.append(
            f'<text class="tick" x="{column}" y="{HEIGHT - BOTTOM + 15}" '
            f'text-anchor="middle">{value:g}</text>'
        )
    for value in up.ticks:
        place = up.place(value)
        parts.append(f'<path class="grid" d="M{LEFT} {_n(place)}H{WIDTH - RIGHT}"/>')
        parts.append(
            f'<text class="tick" x="{LEFT - 6}" y="{_n(place + 4)}" '
            f'text-anchor="end">{value:g}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text class="tick" x="{_n(middle)}" y="{HEIGHT - 8}" text-anchor="middle">'
        f"{escape(x.label)}</text>"
    )
    parts.append(
        f'<text class="tick" transform="translate(14 {_n((TOP + HEIGHT - BOTTOM) / 2)}) '
        f'rotate(-90)" text-anchor="middle">{escape(y.label)}</text>'
    )
    for index, (line, points) in enumerate(zip(lines, drawn, strict=True)):
        places = [(_n(across.place(one[0])), _n(up.place(one[1]))) for one in points]
        parts.append(_line(index, line.name, places, markers=markers))
    parts.append("</svg>")
    return "".join(parts)


def _line(index: int, name: str, places: Sequence[tuple[str, str]], *, markers: bool) -> str:
    colour, dash = style(index)
    trace = " ".join(f"{a},{b}" for a, b in places)
    parts = [
        f'<g><title>{escape(name)}</title><polyline fill="none" stroke="{colour}" '
        f'stroke-width="1.8" stroke-dasharray="{dash}" points="{trace}"/>'
    ]
    if markers:
        parts += [f'<circle cx="{a}" cy="{b}" r="3" fill="{colour}"/>' for a, b in places]
    parts.append("</g>")
    return "".join(parts)


def _shown(point: tuple[float, float], x: Axis, y: Axis) -> bool:
    return all(
        math.isfinite(value) and (value > 0 or not axis.logarithmic)
        for value, axis in zip(point, (x, y), strict=True)
    )


class _Scale:
    """From values to places on the page."""

    def __init__(self, values: Iterable[float], axis: Axis, start: float, end: float) -> None:
        found = sorted(values) or [1.0]
        self._start, self._end, self._logarithmic = start, end, axis.logarithmic
        low, high = found[0], found[-1]
        if axis.logarithmic:
            self.ticks = _logarithmic_ticks(low, high)
            self._low = math.log10(min(low, self.ticks[0]))
            self._high = math.log10(max(high, self.ticks[-1]))
        else:
            low = low if axis.ticks else min(low, 0.0)
            self.ticks = tuple(axis.ticks) or _round_ticks(low, high)
            self._low, self._high = min(low, self.ticks[0]), max(high, self.ticks[-1])

    def place(self, value: float) -> float:
        position = math.log10(value) if self._logarithmic else value
        width = self._high - self._low
        share = (position - self._low) / width if width else 0.5
        return self._start + share * (self._end - self._start)


def _round_ticks(low: float, high: float) -> tuple[float, ...]:
    width = high - low or abs(high) or 1.0
    step = 10.0 ** math.floor(math.log10(width / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if width / (step * factor) <= 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return tuple(round(number * step, 12) for number in range(first, last + 1))


def _logarithmic_ticks(low: float, high: float) -> tuple[float, ...]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1, 2, 5) if last - first <= 3 else (1,)
    ticks = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
    inside = [tick for tick in ticks if low / 2.5 <= tick <= high * 2.5]
    return tuple(inside) or (low, high)


def _n(value: float) -> str:
    return f"{value:.1f}"

"""Curves and bars as inline SVG, in the colors of the page (CSS classes c0 to c9)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from lab.latent_plane import round_ticks

WIDTH, HEIGHT = 520, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 12, 40


@dataclass(frozen=True)
class Curve:
    """A named line: the points (x, y); color is the number of a CSS class."""

    name: str
    points: Sequence[tuple[float, float]]
    color: int
    dashed: bool = False


def lines(
    curves: Sequence[Curve], x_name: str, title: str, marks: Sequence[float] = (), log: bool = False
) -> Markup:
    """Return a chart of curves over a common x.

    Args:
        marks: places on the x axis that get a mark, such as skipped steps.
        log: logarithmic y axis; values of 0 and below are left out.
    """
    curves = [
        Curve(
            c.name, [p for p in c.points if math.isfinite(p[1]) and (not log or p[1] > 0)], *c_rest
        )
        for c in curves
        for c_rest in [(c.color, c.dashed)]
    ]
    curves = [curve for curve in curves if curve.points]
    if not curves:
        return Markup("")
    xs = [x for curve in curves for x, _ in curve.points]
    ys = [math.log10(y) if log else y for curve in curves for _, y in curve.points]
    x_axis, y_axis = (
        _Axis(min(xs), max(xs), LEFT, WIDTH - RIGHT),
        _Axis(min(ys), max(ys), HEIGHT - BOTTOM, TOP, margin=0.05),
    )
    parts = [_grid(x_axis, y_axis, x_name, log)]
    for mark in marks:
        at = x_axis.place(mark)
        parts.append(f'<path class="mark" d="M{at:.1f} {HEIGHT - BOTTOM}l-4 7h8z"/>')
    for curve in curves:
        places = [
            f"{x_axis.place(x):.1f},{y_axis.place(math.log10(y) if log else y):.1f}"
            for x, y in curve.points
        ]
        dashes = ' stroke-dasharray="5 4"' if curve.dashed else ""
        points = " ".join(places)
        parts.append(f'<polyline class="line c{curve.color}" points="{points}"{dashes}/>')
        if len(places) == 1:
            x, y = places[0].split(",")
            parts.append(f'<circle class="dot c{curve.color}" cx="{x}" cy="{y}" r="3"/>')
    legend = "".join(
        f'<span><i class="key c{curve.color}{" dashed" if curve.dashed else ""}"></i>'
        f"{escape(curve.name)}</span>"
        for curve in curves
    )
    return Markup(
        f'<figure class="chart"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}"><title>{escape(title)}</title>{"".join(parts)}</svg>'
        f'<figcaption class="legend">{legend}</figcaption></figure>'
    )


def bars(values: Sequence[float], names: Sequence[str], title: str, low: float = 0.0) -> Markup:
    """Return vertical bars with their names below; bars below `low` are shown pale."""
    y_axis = _Axis(0, max([*values, 1e-9]), HEIGHT - BOTTOM, TOP)
    step = (WIDTH - LEFT - RIGHT) / max(len(values), 1)
    parts = [_ticks(y_axis)]
    every = math.ceil(len(values) / 24)
    for number, (value, name) in enumerate(zip(values, names)):
        x, y = LEFT + number * step, y_axis.place(value)
        kind = "bar pale" if value < low else "bar"
        height = max(HEIGHT - BOTTOM - y, 1)
        parts.append(
            f'<rect class="{kind}" x="{x + 0.1 * step:.1f}" y="{HEIGHT - BOTTOM - height:.1f}" '
            f'width="{0.8 * step:.1f}" height="{height:.1f}">'
            f"<title>{escape(name)}: {value:.3f}</title></rect>"
        )
        if number % every == 0:
            middle = x + step / 2
            parts.append(f'<text x="{middle:.1f}" y="{HEIGHT - BOTTOM + 15}">{escape(name)}</text>')
    return Markup(
        f'<figure class="chart"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}"><title>{escape(title)}</title>{"".join(parts)}</svg></figure>'
    )


class _Axis:
    """Maps values to places; with a margin beyond both ends, as a share of the range."""

    def __init__(
        self, low: float, high: float, start: float, end: float, margin: float = 0.0
    ) -> None:
        span = (high - low) or abs(high) or 1.0
        self.low, self.high = low - margin * span, high + margin * span
        if self.high == self.low:
            self.high += span
        self.start, self.end = start, end

    def place(self, value: float) -> float:
        """Return the place of a value in pixels."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> np.ndarray:
        """Return about five round values."""
        return round_ticks(self.low, self.high)


def _grid(x_axis: _Axis, y_axis: _Axis, x_name: str, log: bool) -> str:
    parts = [_ticks(y_axis, log)]
    for value in x_axis.ticks():
        at = x_axis.place(value)
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 15}">{_text(value)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:.1f}" y="{HEIGHT - 6}">{escape(x_name)}</text>')
    return "".join(parts)


def _ticks(axis: _Axis, log: bool = False) -> str:
    parts = []
    for value in axis.ticks():
        at = axis.place(value)
        shown = _text(10.0**value if log else value)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        )
        parts.append(f'<text class="y" x="{LEFT - 6}" y="{at + 4:.1f}">{shown}</text>')
    return "".join(parts)


def _text(value: float) -> str:
    if value == 0:
        return "0"  # and not -0
    return f"{value:.4g}" if abs(value) < 1e5 else f"{value:.0e}"

"""The pictures of a sweep. As in `lab/plots.py`, each function draws into an open binary file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

import numpy as np

from lab import plots

Row = dict[str, Any]
BLANK = 235  # grey value of a trial without pictures
TICK_GAP = 1 / 9  # of an axis; the next value after a tick has one only if it is as far away
FIGURE_NAMES = {"raw": "raw score", "ssim": "ssim", "mse": "mse", "fid": "fid"}


def heatmap(
    file: BinaryIO, rows: Sequence[Row], scored: Sequence[Row], rest: Sequence[str]
) -> None:
    """Draw a heat map of the raw score over var and lr: the mean over seeds, the best over `rest`.

    If fewer than half of the cells have a trial, as in a search, draw each score as a dot instead.

    Args:
        file: receives the PNG.
        rows: all trials of the sweep; they give the axes.
        scored: means over seeds of the finished trials.
        rest: the other options that vary.
    """
    best: dict[tuple[float, float], Row] = {}
    for row in scored:
        place = row["var"], row["lr"]
        if place not in best or row["raw"] > best[place]["raw"]:
            best[place] = row
    variances = sorted({row["var"] for row in rows}, reverse=True)
    rates = sorted({row["lr"] for row in rows})
    title = "Raw score" + (f", the best over {' and '.join(rest)}" if rest else "")
    n = max(row["n"] for row in scored)
    title += f", mean of {n} seeds" if n > 1 else ""
    if len({(row["var"], row["lr"]) for row in rows}) < len(variances) * len(rates) / 2:
        _scatter(file, best, title)
        return
    scores = np.full((len(variances), len(rates)), np.nan)
    for (variance, rate), row in best.items():
        scores[variances.index(variance), rates.index(rate)] = row["raw"]
    figure = plots.figure(2.6 + 1.0 * len(rates), 1.8 + 0.62 * len(variances))
    axes = figure.subplots()
    image = axes.imshow(scores, cmap="viridis", aspect="auto")
    middle = (np.nanmin(scores) + np.nanmax(scores)) / 2
    for (y, x), score in np.ndenumerate(scores):
        missing = np.isnan(score)
        text = "no score" if missing else f"{score:.2f}"
        color = "dimgray" if missing else "white" if score < middle else "black"
        axes.text(x, y, text, ha="center", va="center", color=color)
    axes.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
    axes.set_yticks(range(len(variances)), [f"{variance:g}" for variance in variances])
    axes.set(title=title, xlabel="lr", ylabel="var")
    figure.colorbar(image, label="raw score")
    plots.save_chart(figure, file)


def _scatter(file: BinaryIO, best: dict[tuple[float, float], Row], title: str) -> None:
    figure = plots.figure(7.5, 5.5)
    axes = figure.subplots()
    # The best is drawn last, on top of the others.
    ordered = sorted(best.items(), key=lambda item: item[1]["raw"])
    places = np.array([place for place, _ in ordered])
    scores = [row["raw"] for _, row in ordered]
    dots = axes.scatter(places[:, 1], places[:, 0], c=scores, cmap="viridis", s=60)
    axes.plot(places[-1, 1], places[-1, 0], "o", ms=14, mfc="none", mec="tab:red", label="best")
    axes.set(title=title, xlabel="lr", ylabel="var", xscale="log", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.colorbar(dots, label="raw score")
    plots.save_chart(figure, file)


def curve(file: BinaryIO, scored: Sequence[Row], name: str) -> None:
    """Draw each score over `name`, the only option that varies, with its spread over seeds."""
    numbers = all(isinstance(row[name], (int, float)) for row in scored)
    ordered = sorted(scored, key=lambda row: row[name])
    places = [row[name] for row in ordered] if numbers else list(range(len(ordered)))
    log = numbers and min(places) > 0 and max(places) >= 10 * min(places)
    texts = {p: f"{p:g}" if numbers else str(row[name]) for p, row in zip(places, ordered)}
    ticks = _far_apart(places, log)
    figures = [figure for figure in FIGURE_NAMES if all(figure in row for row in ordered)]
    drawing = plots.figure(3.9 * len(figures), 3.6)
    for axes, figure in zip(np.atleast_1d(drawing.subplots(1, len(figures))), figures):
        spread = [row[f"{figure}_spread"] for row in ordered]
        values = [row[figure] for row in ordered]
        line = "-" if numbers else ""
        axes.errorbar(places, values, spread, fmt=f"o{line}", capsize=3)
        if log:
            axes.set_xscale("log")
        axes.set_xticks(ticks, [texts[place] for place in ticks])
        axes.minorticks_off()
        axes.set(xlabel=name, title=FIGURE_NAMES[figure])
        axes.grid(alpha=0.3)
    plots.save_chart(drawing, file)


def _far_apart(places: Sequence[float], log: bool) -> list[float]:
    """Return the values, in ascending order, whose ticks do not touch on an axis."""
    at = np.log(places) if log else np.asarray(places, float)
    ticks = [0]
    for number in range(1, len(at)):
        if at[number] - at[ticks[-1]] >= TICK_GAP * (at[-1] - at[0]):
            ticks.append(number)
    return [places[number] for number in ticks]


def pareto(file: BinaryIO, scored: Sequence[Row]) -> None:
    """Draw the raw score over latent_dim, with the Pareto front of high scores and narrow codes."""
    ordered = sorted(scored, key=lambda row: (row["latent_dim"], -row["raw"]))
    front: list[Row] = []
    for row in ordered:
        if not front or row["raw"] > front[-1]["raw"]:
            front.append(row)
    figure = plots.figure(6.5, 4.5)
    axes = figure.subplots()
    widths, scores = zip(*((row["latent_dim"], row["raw"]) for row in ordered))
    axes.plot(widths, scores, "o", color="tab:gray", alpha=0.6, label="trial")
    line = [(row["latent_dim"], row["raw"]) for row in front]
    axes.plot(*zip(*line), "o-", color="tab:blue", label="Pareto front")
    if len(set(widths)) <= 12:
        axes.set_xticks(sorted(set(widths)))
    axes.set(title="Raw score over the width of the code", xlabel="latent_dim", ylabel="raw score")
    axes.grid(alpha=0.3)
    axes.legend()
    plots.save_chart(figure, file)


def matrix(
    file: BinaryIO,
    title: str,
    tiles: dict[tuple[Any, Any], np.ndarray],
    down: str,
    across: str,
    word: Callable[[Any], str],
) -> None:
    """Draw ten images of each trial, (10, 28, 28), in the row and column of its two values."""
    ups = sorted({up for up, _ in tiles}, reverse=down == "var")
    sides = sorted({side for _, side in tiles})
    blank = np.full((2 * 28, 5 * 28), BLANK, np.uint8)
    rows = []
    for up in ups:
        chosen = [tiles.get((up, side)) for side in sides]
        rows.append(np.stack([blank if one is None else _tile(one) for one in chosen]))
    plots.grid(
        rows,
        title,
        [f"{down} {word(up)}" for up in ups],
        [f"{across} {word(side)}" for side in sides],
        gap=14,
        scale=1 if len(sides) > 6 else 2,
    ).save(file, "PNG")


def _tile(images: np.ndarray) -> np.ndarray:
    """Arrange ten images in two rows of five: (10, 28, 28) to (56, 140)."""
    return images.reshape(2, 5, 28, 28).swapaxes(1, 2).reshape(2 * 28, 5 * 28)


def rows_of_images(
    file: BinaryIO, title: str, images: Sequence[np.ndarray], lines: Sequence[str], left_out: int
) -> None:
    """Draw ten images of each trial, (10, 28, 28), in a row next to the trial's label."""
    title += ", the best first"
    if left_out:
        title += f" ({left_out} more are not shown)"
    plots.grid(list(images), title, lines).save(file, "PNG")

"""Draw the pictures of docs/course: the model, var, collapse, explosion, the plane, the codes.

Each function writes a PNG to an open binary file, as in `lab/plots.py`. Both languages show the
same pictures, so there are few words in them.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image

from lab import plots
from lab.latent_plane import CIRCLES
from lab.latent_plane import COLORS as LABEL_COLORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 110
PALETTE = 64  # colors of a picture, which makes it a third of the size
COLORS = [tuple(part / 255 for part in color) for color in LABEL_COLORS]
CODES, DRAWN, DARK = "tab:blue", "tab:orange", "0.25"
Box = tuple[float, float, float, float]  # centre x, centre y, width, height


def save(file: BinaryIO, figure: Figure) -> None:
    """Write a figure as a small PNG."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI)
    picture = Image.open(drawn).convert("RGB").quantize(PALETTE, Image.Quantize.FASTOCTREE)
    picture.save(file, "PNG", optimize=True)


def tile(images: np.ndarray, columns: int) -> np.ndarray:
    """Arrange images (N, 28, 28) in rows of `columns`: one image (28 rows, 28 columns)."""
    rows = len(images) // columns
    cut = images[: rows * columns].reshape(rows, columns, 28, 28)
    return cut.swapaxes(1, 2).reshape(rows * 28, columns * 28)


def show(axes: Axes, image: np.ndarray) -> None:
    """Show a grey image without ticks."""
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


# ---------------------------------------------------------------- the model


def model_graph(file: BinaryIO, x: np.ndarray, recon_x: np.ndarray) -> None:
    """Draw the model as a graph, with the two terms of its loss.

    x, recon_x: an image and its reconstruction, uint8 (28, 28).
    """
    figure = plots.figure(10, 3.6)
    axes = figure.subplots()
    axes.set(xlim=(0, 20), ylim=(0, 7.2), aspect="equal")
    axes.axis("off")
    line = 4.6  # height of the row of boxes
    places: dict[str, Box] = {
        "x": (1.4, line, 2.0, 2.0),
        "encoder": (4.6, line, 2.0, 2.4),
        "mu": (7.7, line + 0.7, 1.8, 1.0),
        "log_var": (7.7, line - 0.7, 1.8, 1.0),
        "z": (11.4, line, 3.1, 1.0),
        "decoder": (15.2, line, 2.0, 2.4),
        "recon_x": (18.5, line, 2.0, 2.0),
    }
    for name, image in (("x", x), ("recon_x", recon_x)):
        centre, middle, width, height = places[name]
        left, bottom = centre - width / 2, middle - height / 2
        axes.imshow(
            image, cmap="gray", extent=(left, left + width, bottom, bottom + height), zorder=2
        )
        axes.text(centre, middle + 1.35, name, ha="center", family="monospace", size=12)
    axes.set(xlim=(0, 20), ylim=(0, 7.2))
    _trapezoid(axes, places["encoder"], "encoder", narrow_right=True)
    _trapezoid(axes, places["decoder"], "decoder", narrow_right=False)
    _box(axes, (7.7, line, 2.4, 2.9), "", line="--", fill="none")  # the encoder's distribution
    axes.text(7.7, line + 1.75, "$q(z|x)$", ha="center", va="center", size=11)
    for name in ("mu", "log_var"):
        _box(axes, places[name], name)
    _box(axes, places["z"], r"$z = \mu + \sigma\,\epsilon$", family=None)
    axes.text(11.4, line + 1.75, r"$\epsilon \sim N(0, I)$", ha="center", va="center", size=11)
    _arrow(axes, (11.4, line + 1.45), (11.4, line + 0.55))
    _arrow(axes, (2.45, line), (3.55, line))
    for name in ("mu", "log_var"):
        _arrow(axes, (5.65, line), (6.78, places[name][1]))
        _arrow(axes, (8.62, places[name][1]), (9.8, line))
    _arrow(axes, (13.0, line), (14.15, line))
    _arrow(axes, (16.25, line), (17.45, line))

    terms = {
        "recon": (r"$\|x - recon\_x\|^2 \,/\, (2\, var)$", 14.0, "tab:red"),
        "kl": (r"$KL(\,N(\mu, \sigma^2)\;\|\;N(0, I)\,)$", 7.7, "tab:blue"),
    }
    for text, across, color in terms.values():
        axes.text(across, 0.75, text, ha="center", va="center", size=13, color=color)
    axes.text(10.9, 0.75, "+", ha="center", va="center", size=14)
    axes.text(4.2, 0.75, "loss  =", ha="right", va="center", size=12, color=DARK)
    _arrow(axes, (7.7, line - 1.45), (7.7, 1.25), "tab:blue")
    _arrow(axes, (18.5, line - 1.1), (15.8, 1.25), "tab:red")
    axes.plot([1.4, 1.4, 13.2], [line - 1.1, 2.1, 2.1], color="tab:red", lw=1.2)
    _arrow(axes, (13.2, 2.1), (13.2, 1.25), "tab:red")
    save(file, figure)


def _box(
    axes: Axes,
    box: Box,
    text: str,
    family: str | None = "monospace",
    line: str = "-",
    fill: str = "#eef3fa",
) -> None:
    from matplotlib.patches import FancyBboxPatch

    x, y, width, height = box
    corner = (x - width / 2, y - height / 2)
    style = "round,pad=0,rounding_size=0.2"
    axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle=style, fc=fill, ec=DARK, ls=line))
    axes.text(x, y, text, ha="center", va="center", size=12, family=family)


def _trapezoid(axes: Axes, box: Box, text: str, narrow_right: bool) -> None:
    from matplotlib.patches import Polygon

    x, y, width, height = box
    left, right = (height, height / 2) if narrow_right else (height / 2, height)
    corners = [
        (x - width / 2, y - left / 2),
        (x - width / 2, y + left / 2),
        (x + width / 2, y + right / 2),
        (x + width / 2, y - right / 2),
    ]
    axes.add_patch(Polygon(corners, fc="#fdf1e2", ec=DARK))
    axes.text(x, y, text, ha="center", va="center", size=12)


def _arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], color: str = DARK
) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": color, "lw": 1.2})


# ---------------------------------------------------------------- var


def reconstructions_and_samples(
    file: BinaryIO,
    images: np.ndarray,
    rows: Mapping[str, tuple[np.ndarray, np.ndarray]],
    columns: int,
) -> None:
    """Draw the inputs, and per row the reconstructions of them beside samples.

    Args:
        images: uint8 (N, 28, 28), at least `columns` of them.
        rows: by label, the reconstructions of the images and samples, uint8 (N, 28, 28) each.
        columns: images on each side.
    """
    figure = plots.figure(9.6, 0.62 * (len(rows) + 1) + 0.35)
    grid = figure.subplots(len(rows) + 1, 2)
    show(grid[0, 0], tile(images[:columns], columns))
    grid[0, 0].set_title("reconstructions", size=10)
    grid[0, 0].set_ylabel("input", rotation=0, ha="right", va="center", size=10)
    grid[0, 1].set_title("samples", size=10)
    grid[0, 1].axis("off")
    for (left, right), (label, (recon, samples)) in zip(grid[1:], rows.items()):
        show(left, tile(recon[:columns], columns))
        show(right, tile(samples[:columns], columns))
        left.set_ylabel(label, rotation=0, ha="right", va="center", size=10)
    save(file, figure)


def kl_per_dimension(file: BinaryIO, kls: Mapping[str, np.ndarray], least: float) -> None:
    """Draw the KL divergence of each latent dimension, largest first, one panel per run.

    Args:
        kls: by label, the mean KL of each dimension in nats, (latent_dim,).
        least: a dimension with less is drawn in red: it carries nothing.
    """
    figure = plots.figure(9.6, 2.8)
    panels = figure.subplots(1, len(kls), sharey=True)
    for axes, (label, kl) in zip(panels, kls.items()):
        ordered = np.sort(kl)[::-1]
        active = int((kl > least).sum())
        heights = np.maximum(ordered, 0.02)  # so that a bar of height 0 can be seen
        colors = [CODES if value > least else "tab:red" for value in ordered]
        axes.bar(np.arange(1, len(kl) + 1), heights, color=colors)
        axes.set_title(f"{label}: {active} of {len(kl)} active, KL {kl.sum():.1f}", size=10)
        axes.set_xlabel("dimension")
        axes.set_xticks([1, 5, 10, 15, 20])
        axes.grid(alpha=0.3, axis="y")
    panels[0].set_ylabel("KL (nats)")
    save(file, figure)


# ---------------------------------------------------------------- explosion


def explosion(
    file: BinaryIO,
    runs: Mapping[str, Sequence[Mapping[str, float]]],
    returns: Mapping[str, Sequence[int]],
) -> None:
    """Draw the training loss of runs, with the steps that were skipped and the returns.

    Args:
        runs: by label, rows of history with step, loss (nan where none is known) and skipped, the
            number of steps skipped since the row before.
        returns: by label, the steps at which training went back to the last good state.
    """
    figure = plots.figure(9.6, 3.2)
    panels = figure.subplots(1, len(runs), sharey=True)
    for axes, (label, rows) in zip(panels, runs.items()):
        steps = np.array([row["step"] for row in rows])
        loss = np.array([row["loss"] for row in rows])
        skipped = np.array([row["skipped"] for row in rows])
        axes.plot(steps, loss, color=CODES, lw=1.2, label="training loss")
        for number, step in enumerate(returns[label]):
            named = {"label": "back to the last good state"} if number == 0 else {}
            axes.axvline(step, color="tab:red", lw=1, alpha=0.7, **named)
        bad = skipped > 0
        if bad.any():
            floor = np.full(bad.sum(), np.nanmin(loss) * 0.8)
            axes.plot(steps[bad], floor, "x", color="tab:red", ms=5, label="steps skipped")
        axes.set(title=label, xlabel="step", yscale="log")
        axes.grid(alpha=0.3)
        axes.legend(loc="upper right", fontsize=8)
    panels[0].set_ylabel("loss")
    save(file, figure)


# ---------------------------------------------------------------- samples and codes


def two_sample_grids(file: BinaryIO, samples: Mapping[str, np.ndarray], each: int) -> None:
    """Draw samples of each label, uint8 (10, n, 28, 28): one panel per model, one row per label."""
    figure = plots.figure(9.6, 4.9)
    for axes, (title, images) in zip(figure.subplots(1, len(samples)), samples.items()):
        show(axes, tile(images[:, :each].reshape(-1, 28, 28), each))
        axes.set_title(title, size=10)
        axes.set_yticks(14 + 28 * np.arange(10), map(str, range(10)))
        axes.tick_params(length=0)
    save(file, figure)


def latent_plane(
    file: BinaryIO, codes: np.ndarray, labels: np.ndarray, decoded: np.ndarray, side: float
) -> None:
    """Draw two-dimensional codes by label, and beside them what the decoder makes of the square.

    Args:
        codes, labels: (N, 2) and (N,).
        decoded: images over the square, the top row first, uint8 (n, n, 28, 28).
        side: half the side of the square.
    """
    figure = plots.figure(9.6, 4.9)
    left, right = figure.subplots(1, 2)
    for label in range(10):
        some = codes[labels == label]
        left.scatter(*some.T, s=2, color=COLORS[label], linewidths=0, label=str(label))
    _circles(left)
    left.set(xlim=(-side, side), ylim=(-side, side), aspect="equal", title="codes of images")
    left.legend(markerscale=6, fontsize=8, loc="upper right", ncols=2, handletextpad=0.2)
    right.imshow(
        tile(decoded.reshape(-1, 28, 28), decoded.shape[1]),
        cmap="gray",
        extent=(-side, side, -side, side),
        interpolation="nearest",
    )
    right.set(title="decoder")
    for axes in (left, right):
        axes.set(xlabel="$z_1$", ylabel="$z_2$")
    save(file, figure)


def _circles(axes: Axes) -> None:
    """Draw circles with 68 and 95 % of N(0, I) in two dimensions."""
    from matplotlib.patches import Circle

    for radius, style in zip(CIRCLES.values(), ("-", "--")):
        axes.add_patch(Circle((0, 0), radius, fill=False, ls=style, color=DARK, lw=1))


def codes_and_draws(
    file: BinaryIO, panels: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]], columns: int
) -> None:
    """Draw codes of images beside the codes that samples are drawn from, and these samples.

    Args:
        panels: by title, codes of images (N, 2), drawn codes (M, 2), both in one plane, and
            samples of the drawn codes, uint8 (S, 28, 28).
        columns: samples per row.
    """
    figure = plots.figure(9.6, 5.2)
    grid = figure.subplots(2, len(panels), height_ratios=(3, 1.3))
    reach = 1.05 * max(np.abs(codes).max() for codes, _, _ in panels.values())
    for (above, below), (title, (codes, draws, samples)) in zip(grid.T, panels.items()):
        above.scatter(*codes.T, s=5, color=CODES, linewidths=0, label="codes of images")
        above.scatter(*draws.T, s=10, color=DRAWN, linewidths=0, label="drawn")
        above.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
        above.set_title(title, size=10)
        above.grid(alpha=0.3)
        show(below, tile(samples, columns))
    grid[0, 0].legend(markerscale=3, fontsize=9, loc="upper left")
    save(file, figure)

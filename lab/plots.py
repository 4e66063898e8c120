"""The pictures of the lab: grids of images, the training video, and charts.

Each function writes to an open binary file, so that the caller chooses the path and writes the file
whole. Images are uint8 (..., 28, 28). Grids are drawn with Pillow, which is fast;
matplotlib, which takes a second to import, is used for charts only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# All sizes are in pixels of the picture.
SCALE = 2  # per pixel of an image
GAP = 2  # between images
MARGIN = 10
TEXT_SIZE = 15
DPI = 110  # pixels per inch, of charts
INK, PAPER = 40, 255  # grey levels of text and background


# ---------------------------------------------------------------- grids of images


def grid(
    rows: Sequence[np.ndarray],
    title: str,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    gap: int = GAP,
    scale: int = SCALE,
) -> Image.Image:
    """Return a picture of images in rows, with a title and labels of rows and columns.

    Args:
        rows: the images of each row, uint8 (columns, H, W), all of one size.
        title: the text above the rows.
        row_labels, column_labels: one text per row, one per column.
        gap: pixels between images.
        scale: pixels of the picture per pixel of an image.
    """
    font = text_font()
    height, width = (side * scale + gap for side in rows[0][0].shape)  # of one cell
    left = MARGIN + int(max((font.getlength(text) for text in row_labels), default=-8)) + 8
    top = MARGIN + TEXT_SIZE + 8 + (TEXT_SIZE + 6 if len(column_labels) else 0)
    columns = max(len(row) for row in rows)
    whole = max(left + columns * width + MARGIN, int(font.getlength(title)) + 2 * MARGIN)
    picture = Image.new("L", (whole, top + len(rows) * height + MARGIN), PAPER)

    draw = ImageDraw.Draw(picture)
    draw.text((MARGIN, MARGIN - 2), title, INK, font)
    for column, text in enumerate(column_labels):
        middle = left + column * width + width // 2
        draw.text((middle, top - 4), text, INK, font, anchor="mb")
    for number, row in enumerate(rows):
        y = top + number * height
        if len(row_labels):
            draw.text((left - 8, y + height // 2), row_labels[number], INK, font, anchor="rm")
        for column, image in enumerate(row):
            enlarged = image.repeat(scale, axis=0).repeat(scale, axis=1)
            picture.paste(Image.fromarray(enlarged), (left + column * width, y))
    return picture


def reconstructions(
    file: BinaryIO, images: np.ndarray, recon: np.ndarray, columns: int = 16, pairs: int = 4
) -> None:
    """Draw images (N, 28, 28) above their reconstructions: `pairs` double rows of `columns`."""
    rows, labels = [], []
    for first in range(0, min(pairs * columns, len(images)), columns):
        rows += [images[first : first + columns], recon[first : first + columns]]
        labels += ["input", "output"]
    save_png(grid(rows, "Inputs above their reconstructions", labels), file)


def samples(file: BinaryIO, images: np.ndarray, labelled: bool, columns: int = 10) -> None:
    """Draw samples (10, n, 28, 28), `columns` per row; each row is one label if `labelled`."""
    labels = [str(label) for label in range(len(images))] if labelled else []
    title = "Samples of each label" if labelled else "Samples; this model does not use labels"
    save_png(grid(list(images[:, :columns]), f"{title}, z ~ N(0, I)", labels), file)


def interpolation(file: BinaryIO, starts: np.ndarray, walks: np.ndarray, ends: np.ndarray) -> None:
    """Draw decoded walks between the codes of two images, one per row, between the two images.

    starts, ends: the images, (rows, 28, 28); walks: (rows, steps, 28, 28).
    """
    steps = walks.shape[1]
    shares = [f"{step / (steps - 1):.1f}" for step in range(steps)]
    rows = np.concatenate([starts[:, None], walks, ends[:, None]], axis=1)
    title = "From the code of one image to that of another, in equal steps"
    save_png(grid(list(rows), title, column_labels=["image", *shares, "image"]), file)


def manifold(
    file: BinaryIO, square: np.ndarray, values: np.ndarray, quantiles: np.ndarray, at: np.ndarray
) -> None:
    """Draw the decoder's images over two-dimensional codes, on two grids of n x n codes.

    Args:
        square: (P, n, n, 28, 28), images over a square around 0, the top row first; P is 1 for a
            model without labels and 10 for a model with labels.
        values: (n,), the codes along each side of it.
        quantiles, at: the same over the quantiles of N(0, 1), so that each image stands for an
            equal share of the samples; Kingma and Welling 2014, figure 4.
    """
    labels = "" if len(square) == 1 else ", labels 0 to 4 above 5 to 9"
    parts = [
        _panels(square, values, f"Equal steps of z{labels}"),
        _panels(quantiles, at, f"Equal shares of N(0, I){labels}"),
    ]
    beside = len(square) == 1  # two squares side by side, otherwise two wide parts
    width, height = parts[0].size
    size = (2 * width, height) if beside else (width, 2 * height)
    picture = Image.new("L", size, PAPER)
    picture.paste(parts[0])
    picture.paste(parts[1], (width, 0) if beside else (0, height))
    save_png(picture, file)


def _panels(images: np.ndarray, values: np.ndarray, title: str) -> Image.Image:
    """Return panels (P, n, n, 28, 28), at most five per row, with ticks at some of the values."""
    n, across = len(values), min(5, len(images))
    side, left, gap = 28 * n, MARGIN + 42, 14
    down = -(-len(images) // across)
    top = MARGIN + TEXT_SIZE + 8
    size = left + across * (side + gap), top + down * (side + gap) + 2 * TEXT_SIZE + MARGIN
    picture = Image.new("L", size, PAPER)
    draw, font = ImageDraw.Draw(picture), text_font()
    text = f"{title}: first dimension across, second up"
    draw.text((left, MARGIN - 2), text, INK, font)
    shown = np.linspace(0, n - 1, 5 if across == 1 else 3).round().astype(int)
    for number, panel in enumerate(images):
        x = left + number % across * (side + gap)
        y = top + number // across * (side + gap)
        mosaic = panel.swapaxes(1, 2).reshape(side, side)
        picture.paste(Image.fromarray(mosaic), (x, y))
        for index in shown:
            middle, tick = 28 * index + 14, f"{values[index]:.3g}"
            if x == left:
                at = y + side - middle  # the second dimension grows upwards
                draw.line((left - 6, at, left - 1, at), INK)
                draw.text((left - 10, at), tick, INK, font, anchor="rm")
            if number // across == down - 1:
                draw.line((x + middle, y + side + 1, x + middle, y + side + 5), INK)
                draw.text((x + middle, y + side + 9), tick, INK, font, anchor="mt")
    return picture


def frame(
    file: BinaryIO, images: np.ndarray, recon: np.ndarray, samples: np.ndarray, title: str
) -> None:
    """Draw one frame of the training video: inputs, their reconstructions and samples.

    images, recon: (columns, 28, 28), both empty for a model without an encoder; samples:
    (rows, columns, 28, 28).
    """
    rows = [*([images, recon] if len(recon) else []), *samples]
    labels = [*(["input", "output"] if len(recon) else []), *["sample"] * len(samples)]
    save_png(grid(rows, title, labels), file)


def save_png(picture: Image.Image, file: BinaryIO) -> None:
    """Write a PNG: three times as fast as with Pillow's default level, and an eighth larger."""
    picture.save(file, "PNG", compress_level=1)


def text_font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(TEXT_SIZE)


# ---------------------------------------------------------------- the training video


def gif(file: BinaryIO, frames: Sequence[str], seconds: float = 8.0) -> None:
    """Write the PNG files `frames` as one looping GIF that lasts about `seconds`."""
    pictures = _same_size(frames)
    each = int(np.clip(1000 * seconds / len(pictures), 40, 800))
    durations = [each] * (len(pictures) - 1) + [2000]  # milliseconds; the last frame stays longer
    pictures[0].save(
        file, "GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0
    )


def mp4(path: str, frames: Sequence[str], seconds: float = 8.0) -> bool:
    """Write the same video as MP4 to `path`. Return False if imageio-ffmpeg is not installed."""
    try:
        from imageio_ffmpeg import write_frames
    except ImportError:
        return False
    pictures = [np.asarray(picture.convert("RGB")) for picture in _same_size(frames, even=True)]
    rate = float(np.clip(len(pictures) / seconds, 1.25, 25))
    height, width = pictures[0].shape[:2]
    # The format is given, because a temporary name does not end in .mp4.
    writer = write_frames(
        path, (width, height), fps=rate, macro_block_size=2, output_params=["-f", "mp4"]
    )
    writer.send(None)  # starts the generator
    for picture in pictures:
        writer.send(np.ascontiguousarray(picture))
    writer.close()
    return True


def _same_size(frames: Sequence[str], even: bool = False) -> list[Image.Image]:
    """Read the frames and pad them to one size; `even` sides are what the MP4 codec needs."""
    pictures = [Image.open(name) for name in frames]
    width, height = np.max([picture.size for picture in pictures], axis=0)
    if even:
        width, height = width + width % 2, height + height % 2
    placed = []
    for picture in pictures:
        paper = Image.new("L", (int(width), int(height)), PAPER)
        paper.paste(picture)
        placed.append(paper)
    return placed


# ---------------------------------------------------------------- charts


def figure(width: float, height: float) -> Figure:
    """Return an empty matplotlib figure of this size in inches; it needs no screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(drawing)
    return drawing


def save_chart(drawing: Figure, file: BinaryIO) -> None:
    """Write a figure of `figure` as PNG. Figure.savefig would draw it twice."""
    canvas: Any = drawing.canvas
    canvas.print_png(file)


def loss_curve(file: BinaryIO, history: Sequence[dict]) -> None:
    """Draw the loss, its two terms where they are known, and ssim and mse.

    history: one dict per validation with step and, where known, train_loss, valid_loss,
    valid_reconstruction_loss, valid_kl_divergence, valid_ssim and valid_mse.
    """
    split = any("valid_kl_divergence" in row for row in history)
    drawing = figure(14 if split else 10, 4)
    left, *between, right = drawing.subplots(1, 3 if split else 2)
    for key, label in (("train_loss", "training"), ("valid_loss", "validation")):
        _line(left, history, key, label)
    left.set(title="Loss", xlabel="step", ylabel="loss")
    for axes in between:
        terms = {"valid_reconstruction_loss": "reconstruction", "valid_kl_divergence": "KL"}
        _, kl_axes = _two_lines(axes, history, terms, ("tab:purple", "tab:brown"))
        # From 0, where the KL divergence stays after posterior collapse.
        kl_axes.set_ylim(0, 1.1 * kl_axes.get_ylim()[1])
        axes.set_title("Validation loss = reconstruction + KL divergence")
    _two_lines(right, history, {"valid_ssim": "ssim", "valid_mse": "mse"}, ("tab:green", "tab:red"))
    right.set_title("Validation at the posterior mean")
    if left.get_lines():  # a GAN has no single loss
        left.legend()
    for axes in (left, *between, right):
        axes.grid(alpha=0.3)
    save_chart(drawing, file)


def _two_lines(
    axes: Axes, history: Sequence[dict], labels: dict[str, str], colors: tuple[str, str]
) -> tuple[Axes, Axes]:
    """Draw two columns of the history, the first with the axis on the left, the other right.

    Return the axes of both.
    """
    both = (axes, axes.twinx())
    for side, (key, label), color in zip(both, labels.items(), colors):
        _line(side, history, key, label, color=color)
        side.set_ylabel(label)
    axes.set_xlabel("step")
    handles = [line for side in both for line in side.get_lines()]
    axes.legend(handles=handles, loc="center right")
    return both


def _line(axes: Axes, history: Sequence[dict], key: str, label: str, **style: Any) -> None:
    """Draw one column of the history over the steps, if it has values."""
    points = [(row["step"], row[key]) for row in history if row.get(key) is not None]
    if points:
        axes.plot(*zip(*points), marker=".", label=label, **style)

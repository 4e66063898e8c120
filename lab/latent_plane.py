"""latent.png: the codes of images as points of a plane, coloured by label and by slant.

The points are drawn as pixels, which takes a tenth of the time of importing matplotlib.
"""

from __future__ import annotations

import math
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageDraw

from lab.plots import INK, MARGIN, PAPER, TEXT_SIZE, save_png, text_font

SIDE = 600  # of the square, in pixels
LEFT, RIGHT, TOP, BOTTOM = 60, 90, 2 * MARGIN + TEXT_SIZE, 60
GRID = (228, 228, 228)
# One color per label: the ten of matplotlib.
COLORS = (
    *((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189)),
    *((140, 86, 75), (227, 119, 194), (127, 127, 127), (188, 189, 34), (23, 190, 207)),
)
# The radius of the circle that holds this share of N(0, I) in two dimensions: the squared distance
# from the origin divided by two has an exponential distribution.
CIRCLES = {share: math.sqrt(-2 * math.log(1 - share)) for share in (0.68, 0.95)}
DASHES = (360, 2)  # of the circles, in degrees: the inner one has no gaps
RAMP = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))  # viridis


def draw_codes(
    file: BinaryIO, codes: np.ndarray, labels: np.ndarray, slants: np.ndarray | None = None
) -> None:
    """Draw codes (N, latent_dim) as points, coloured by label (N,), and again by slant (N,).

    Codes of more than two dimensions are projected to their principal axes. Where the codes of all
    labels have the same distribution, as after fit_prior, only the slant shows what they say. The
    circles of CIRCLES show N(0, I), from which samples are drawn: its projection to two orthonormal
    axes is again N(0, I). Codes of one dimension get no circles.

    slants: how far each digit leans to the right; see `moments.slant`.
    """
    points, names = project(codes.astype(np.float64))  # (N, 2)
    plane = points, names, list(CIRCLES.values()) if codes.shape[1] > 1 else []
    pictures = [_square(*plane, label_colors(labels), "Codes of the images, by label")]
    _label_key(pictures[0])
    if slants is not None:
        pictures.append(_square(*plane, ramp_colors(slants), "The same codes, by slant"))
        _slant_key(pictures[1])
    width, height = pictures[0].size
    whole = Image.new("RGB", (len(pictures) * width, height), (PAPER,) * 3)
    for number, picture in enumerate(pictures):
        whole.paste(picture, (number * width, 0))
    save_png(whole, file)


def project(codes: np.ndarray) -> tuple[np.ndarray, tuple[str, str]]:
    """Project codes (N, latent_dim) to two dimensions: (N, 2), and the names of the two axes.

    The axes are orthonormal: the two in which the codes vary most. The origin remains the origin.
    """
    if codes.shape[1] == 1:
        codes = np.column_stack([codes, np.zeros(len(codes))])
    if codes.shape[1] == 2:
        return codes, ("first dimension", "second dimension")
    centred = codes - codes.mean(axis=0)
    variances, axes = np.linalg.eigh(centred.T @ centred)  # in ascending order
    first, second = 100 * variances[:-3:-1] / max(float(variances.sum()), 1e-12)
    names = f"first principal axis, {first:.0f} %", f"second principal axis, {second:.0f} %"
    return codes @ axes[:, :-3:-1], names


def label_colors(labels: np.ndarray) -> np.ndarray:
    """Return a color per label: uint8 (N, 3)."""
    return np.array(COLORS, np.uint8)[labels]


def ramp_colors(values: np.ndarray) -> np.ndarray:
    """Return colors from dark to light by the rank of each value: uint8 (N, 3)."""
    ranks = values.argsort().argsort() / max(len(values) - 1, 1) * (len(RAMP) - 1)
    channels = [np.interp(ranks, range(len(RAMP)), channel) for channel in np.array(RAMP).T]
    return np.stack(channels, axis=1).astype(np.uint8)


def _square(
    codes: np.ndarray,
    names: tuple[str, str],
    circles: list[float],
    colors: np.ndarray,
    title: str,
) -> Image.Image:
    """Return a square with points (N, 2) of these colors (N, 3), with ticks and names of axes.

    Both axes have the same scale. The circles, given by their radii, are shown as a whole.
    """
    reach = max(circles, default=1e-6)
    low, high = np.minimum(codes.min(axis=0), -reach), np.maximum(codes.max(axis=0), reach)
    middle, half = (low + high) / 2, 0.54 * (high - low).max()
    low, high = middle - half, middle + half

    def pixel(values: np.ndarray | float, axis: int) -> np.ndarray:
        """Return the column (axis 0) or row (axis 1) in the square."""
        share = (values - low[axis]) / (high[axis] - low[axis])
        return np.round((share if axis == 0 else 1 - share) * (SIDE - 3)).astype(int)

    plane = np.full((SIDE, SIDE, 3), PAPER, np.uint8)
    for axis in (0, 1):
        for tick in round_ticks(low[axis], high[axis]):
            plane[(slice(None), pixel(tick, 0)) if axis == 0 else pixel(tick, 1)] = GRID
    across, down = pixel(codes[:, 0], 0), pixel(codes[:, 1], 1)
    for right, below in np.ndindex(2, 2):  # a point is 2 x 2 pixels
        plane[down + below, across + right] = colors
    for radius, dash in zip(circles, DASHES):
        degrees = np.arange(0, 360, 0.05)
        angles = np.radians(degrees[degrees % (2 * dash) < dash])
        across, down = pixel(radius * np.cos(angles), 0), pixel(radius * np.sin(angles), 1)
        for right, below in np.ndindex(2, 2):
            plane[down + below, across + right] = INK

    picture = Image.new("RGB", (LEFT + SIDE + RIGHT, TOP + SIDE + BOTTOM), (PAPER,) * 3)
    ink = (INK,) * 3
    picture.paste(Image.fromarray(plane), (LEFT, TOP))
    draw, font = ImageDraw.Draw(picture), text_font()
    draw.rectangle((LEFT - 1, TOP - 1, LEFT + SIDE, TOP + SIDE), outline=ink)
    draw.text((LEFT, MARGIN - 2), title, ink, font)
    draw.text((LEFT + SIDE // 2, TOP + SIDE + 46), names[0], ink, font, anchor="mb")
    sideways = Image.new("L", (SIDE, TEXT_SIZE + 6))
    middle = (SIDE // 2, TEXT_SIZE // 2 + 2)
    ImageDraw.Draw(sideways).text(middle, names[1], 255, font, anchor="mm")
    picture.paste(ink, (2, TOP), sideways.rotate(90, expand=True))
    for tick in round_ticks(low[0], high[0]):
        at = LEFT + int(pixel(tick, 0))
        draw.text((at, TOP + SIDE + 6), f"{tick:g}", ink, font, anchor="mt")
    for tick in round_ticks(low[1], high[1]):
        at = TOP + int(pixel(tick, 1))
        draw.text((LEFT - 6, at), f"{tick:g}", ink, font, anchor="rm")
    if circles:
        _circles_key(draw)
    return picture


def _circles_key(draw: ImageDraw.ImageDraw) -> None:
    font, ink, x, y = text_font(), (INK,) * 3, LEFT + SIDE + 14, TOP + 300
    draw.text((x, y), "N(0, I)", ink, font)
    for number, share in enumerate(CIRCLES):
        middle = y + 32 + 22 * number
        for start in range(0, 24, 8 if number else 4):
            draw.rectangle((x + start, middle, x + start + 3, middle + 1), ink)
        draw.text((x + 30, middle), f"{100 * share:.0f} %", ink, font, anchor="lm")


def _label_key(picture: Image.Image) -> None:
    draw, font, ink = ImageDraw.Draw(picture), text_font(), (INK,) * 3
    draw.text((LEFT + SIDE + 14, TOP), "label", ink, font)
    for label, color in enumerate(COLORS):
        x, y = LEFT + SIDE + 18, TOP + 26 + 22 * label
        draw.rectangle((x, y, x + 11, y + 11), color)
        draw.text((x + 20, y + 6), str(label), ink, font, anchor="lm")


def _slant_key(picture: Image.Image) -> None:
    draw, font, ink = ImageDraw.Draw(picture), text_font(), (INK,) * 3
    draw.text((LEFT + SIDE + 14, TOP), "leans", ink, font)
    bar = ramp_colors(np.arange(200.0)[::-1])[:, None].repeat(12, axis=1)  # (200, 12, 3)
    picture.paste(Image.fromarray(bar), (LEFT + SIDE + 18, TOP + 26))
    draw.text((LEFT + SIDE + 36, TOP + 32), "right", ink, font, anchor="lm")
    draw.text((LEFT + SIDE + 36, TOP + 220), "left", ink, font, anchor="lm")


def round_ticks(low: float, high: float) -> np.ndarray:
    """Return about five round numbers between low and high, at equal distances."""
    rough = (high - low) / 5
    power = 10.0 ** np.floor(np.log10(rough))
    step = power * min((1, 2, 5, 10), key=lambda factor: abs(factor * power - rough))
    return np.round(np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step, 12)

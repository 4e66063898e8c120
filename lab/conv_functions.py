"""Autograd functions of the fast convolutions: what they compute forward and back."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Pair = tuple[int, int]
Gradients = tuple["Tensor | None", ...]

FEW_CHANNELS = 16  # below it, oneDNN's own gradients of weights are quicker
COLUMN_BYTES = 2**22  # of columns at once: they are used while they are near the processor
PRODUCTS = 4  # into which a long product is cut, for cores to share


# ---------------------------------------------------------------- the order of maps in memory


class InOrder(torch.autograd.Function):
    """Maps (B, C, H, W), channels-last or in torch's usual order; the gradient as they came."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, channels_last: bool) -> Tensor:
        """Return the maps in that order."""
        ctx.came_last = _is_last(maps)
        return _in_order(maps, channels_last)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Gradients:
        """Return the gradient in the order that the maps came in."""
        return _in_order(gradient, ctx.came_last), None


def _is_last(maps: Tensor) -> bool:
    return maps.is_contiguous(memory_format=torch.channels_last)


def _in_order(maps: Tensor, channels_last: bool) -> Tensor:
    if not channels_last:
        return maps.contiguous()
    if maps.shape[1] == 1:  # either order to torch, which goes by the strides alone
        return maps.reshape(len(maps), *maps.shape[2:], 1).permute(0, 3, 1, 2)
    return maps.contiguous(memory_format=torch.channels_last)


def _as_result(maps: Tensor, channels_last: bool) -> Tensor:
    """Return maps in an order, and no view, for what comes next may work in place."""
    return maps if maps.shape[1] == 1 else _in_order(maps, channels_last)


# ---------------------------------------------------------------- forward and back

Way = tuple[Pair, Pair, Pair]  # how a kernel moves: stride, padding, dilation


class Convolution(torch.autograd.Function):
    """F.conv2d, with its weights' gradient as matrix products where that is quicker."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, way: Way, channels_last: bool
    ) -> Tensor:
        """Return the maps (B, C, H, W) of x (B, c, h, w) and weight (C, c, k, l)."""
        ctx.save_for_backward(x, weight)
        ctx.way, ctx.last = way, channels_last
        return _as_result(F.conv2d(x, weight, bias, *way), ctx.last)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Gradients:
        """Return the gradients of x, weight and bias."""
        return *_needed(ctx, gradient, _gradient_of_x, _gradient_of_weight), None, None


class TransposedConvolution(torch.autograd.Function):
    """F.conv_transpose2d, as matrix products where these are quicker."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        way: Way,
        output_padding: Pair,
        channels_last: bool,
    ) -> Tensor:
        """Return the maps (B, C, H, W) of x (B, c, h, w) and weight (c, C, k, l)."""
        ctx.save_for_backward(x, weight)
        ctx.way, ctx.last = way, channels_last
        stride, padding, dilation = way
        few = weight[0].numel() < len(weight)  # C k l columns to fold instead of c channels
        # In bf16 and without output padding, oneDNN takes six times as long when it adds a bias.
        apart = bias is not None and (few or x.dtype is not torch.float32)
        if few:
            maps = _folded(x, weight, way, output_padding)
        else:
            added = None if apart else bias
            maps = F.conv_transpose2d(
                x, weight, added, stride, padding, output_padding, dilation=dilation
            )
        if apart:
            maps += bias.view(-1, 1, 1)
        return _as_result(maps, ctx.last)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Gradients:
        """Return the gradients of x, weight and bias: what it transposes, run forward."""

        def of_x(gradient: Tensor, x: Tensor, weight: Tensor, way: Way) -> Tensor:
            return _in_order(F.conv2d(gradient, weight, None, *way), ctx.last)

        def of_weight(gradient: Tensor, x: Tensor, weight: Tensor, way: Way) -> Tensor:
            return _gradient_of_weight(x, gradient, weight, way)

        return *_needed(ctx, gradient, of_x, of_weight), None, None, None


def _needed(
    ctx: Any,
    gradient: Tensor,
    of_x: Callable[[Tensor, Tensor, Tensor, Way], Tensor],
    of_weight: Callable[[Tensor, Tensor, Tensor, Way], Tensor],
) -> Gradients:
    """Return the gradients of x, weight and bias, None for one that nobody asks for."""
    x, weight = ctx.saved_tensors
    gradient = _in_order(gradient, ctx.last)
    for_x, for_weight, for_bias, *_ = ctx.needs_input_grad
    return (
        of_x(gradient, x, weight, ctx.way) if for_x else None,
        of_weight(gradient, x, weight, ctx.way) if for_weight else None,
        gradient.sum((0, 2, 3)) if for_bias else None,
    )


def _folded(x: Tensor, weight: Tensor, way: Way, output_padding: Pair) -> Tensor:
    """Return the transposed convolution as a product, each of whose columns adds to k l pixels."""
    stride, padding, dilation = way
    kernel = weight.shape[2:]
    size = [
        (n - 1) * s - 2 * p + d * (k - 1) + o + 1
        for n, s, p, d, k, o in zip(x.shape[2:], *way, kernel, output_padding)
    ]
    product = weight.flatten(1).t()[:, :, None, None]  # (C k l, c, 1, 1)
    columns = F.conv2d(x, product).unflatten(1, (-1, kernel.numel()))  # (B, C, k l, h, w)
    padded = [n + 2 * p for n, p in zip(size, padding)]
    # Up to k l of them are added to one pixel. F.fold would take it image by image.
    sums = x.new_zeros(len(x), weight.shape[1], *padded, dtype=_type_of_sums(x.dtype))
    for column, place in enumerate(itertools.product(*map(range, kernel))):
        rows, across = (
            slice(k * d, k * d + (n - 1) * s + 1, s)
            for k, d, n, s in zip(place, dilation, x.shape[2:], stride)
        )
        sums[:, :, rows, across] += columns[:, :, column]
    rows, across = (slice(p, p + n) for p, n in zip(padding, size))
    return sums[:, :, rows, across].to(x.dtype, copy=True).contiguous()  # (B, C, H, W)


def _of_torch(which: int, gradient: Tensor, x: Tensor, weight: Tensor, way: Way) -> Tensor:
    """Return a gradient as torch has it computed: 0 that of x, 1 that of weight."""
    wanted = [number == which for number in range(3)]
    how = *way, False, (0, 0), 1  # not transposed, no output padding, one group
    return torch.ops.aten.convolution_backward(gradient, x, weight, None, *how, wanted)[which]


def _gradient_of_x(gradient: Tensor, x: Tensor, weight: Tensor, way: Way) -> Tensor:
    """Return the gradient of what a convolution was given, in the shape of x."""
    return _of_torch(0, gradient, x, weight, way)


def _gradient_of_weight(gradient: Tensor, x: Tensor, weight: Tensor, way: Way) -> Tensor:
    """Return the gradient of a convolution's weight by the quicker way, in the shape of weight."""
    few = min(gradient.shape[1], x.shape[1]) < FEW_CHANNELS
    # With AMX, oneDNN's own way was not measured against the other.
    amx = torch.cpu.get_capabilities().get("amx_bf16")
    if x.dtype is not torch.bfloat16 or few or amx:
        return _of_torch(1, gradient, x, weight, way)
    return gradient_by_products(gradient, x, weight.shape[2:], way)


def gradient_by_products(gradient: Tensor, x: Tensor, kernel: Pair, way: Way) -> Tensor:
    """Return the gradient of a convolution's weight, a sum over images and places of products.

    gradient (B, C, H, W) of the maps that the weight makes of x (B, c, h, w). Returns (C, c, k, l).
    """
    places, width = gradient[0, 0].numel(), x.shape[1] * kernel[0] * kernel[1]
    size = max(1, COLUMN_BYTES // (places * width * x.element_size()))
    size -= size % PRODUCTS if size > PRODUCTS else 0  # so that the rows can be cut evenly
    total: Tensor | float = 0.0
    for images, gradients in zip(x.split(size), gradient.split(size)):
        rows = gradients.permute(0, 2, 3, 1).reshape(-1, gradient.shape[1])  # (b H W, C)
        columns = _columns(images, gradient.shape[2:], kernel, way).reshape(len(rows), width)
        parts = PRODUCTS if len(rows) % PRODUCTS == 0 else 1
        rows, columns = (values.unflatten(0, (parts, -1)) for values in (rows, columns))
        products = torch.bmm(rows.transpose(1, 2), columns)  # (parts, C, k l c)
        total = total + products.sum(0, dtype=_type_of_sums(x.dtype))
    total = total.view(-1, *kernel, x.shape[1]).permute(0, 3, 1, 2)  # (C, c, k, l)
    return total.to(x.dtype)


def _type_of_sums(dtype: torch.dtype) -> torch.dtype:
    """Return the type to add many values of another in: at least fp32."""
    return torch.promote_types(dtype, torch.float32)


def _columns(x: Tensor, size: tuple[int, ...], kernel: Pair, way: Way) -> Tensor:
    """Return what of x (b, c, h, w) each place of the maps is made of: (b, H, W, k, l, c)."""
    stride, (above, beside), dilation = way
    x = F.pad(x.permute(0, 2, 3, 1), (0, 0, beside, beside, above, above))  # (b, h, w, c)
    image, row, place, channel = x.stride()
    steps = row * stride[0], place * stride[1], row * dilation[0], place * dilation[1]
    return x.as_strided((len(x), *size, *kernel, x.shape[3]), (image, *steps, channel))

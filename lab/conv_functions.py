"""Convolution and transposed convolution as autograd functions, faster than torch's on x86 CPUs.

On a CPU, torch calls the library oneDNN. Most computations here call it too, with maps in the
memory format in which it is fastest. Two are slow in oneDNN and are computed as matrix products:
a transposed convolution to few channels (`conv_transpose_by_product`) and, in bf16, the gradient
of a weight (`grad_weight_by_products`).

Maps are feature maps (B, C, H, W): the input x (B, C_in, H, W), the output (B, C_out, H_out,
W_out). The last two dimensions of a weight are the kernel's size (K_h, K_w). In torch's default
memory format, one channel follows the other; in channels-last, all channels of a pixel are side by
side.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

FEW_CHANNELS = 16  # with fewer, oneDNN's gradient of a weight is faster than matrix products
COLUMN_BYTES = 2**22  # size of the columns computed at once, so that they stay in the CPU's cache
PRODUCT_PARTS = 4  # a matrix product is cut into 4 equal parts, which the cores share


class ConvGeometry(NamedTuple):
    """How a kernel moves over an image, each along (height, width); as in nn.Conv2d."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]


# ---------------------------------------------------------------- memory format


class ToMemoryFormat(torch.autograd.Function):
    """Convert maps to a memory format. Their gradient gets the format that the maps had."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, channels_last: bool) -> Tensor:
        """Return maps (B, C, H, W) in channels-last or in torch's default format."""
        ctx.input_was_channels_last = maps.is_contiguous(memory_format=torch.channels_last)
        return to_memory_format(maps, channels_last)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of maps (B, C, H, W)."""
        return to_memory_format(grad_output, ctx.input_was_channels_last), None


def to_memory_format(maps: Tensor, channels_last: bool) -> Tensor:
    """Return maps (B, C, H, W) in channels-last or in torch's default format."""
    if not channels_last:
        return maps.contiguous()
    if maps.shape[1] == 1:
        # The values of one channel lie in the same order in both formats, so `contiguous` would
        # change nothing. But torch chooses oneDNN's format by the strides: set them.
        return maps.reshape(len(maps), *maps.shape[2:], 1).permute(0, 3, 1, 2)
    return maps.contiguous(memory_format=torch.channels_last)


def _output_in_format(maps: Tensor, channels_last: bool) -> Tensor:
    """Return maps in a memory format, but never as a view.

    Torch forbids in-place operations, such as nn.ReLU(inplace=True), on a view that an autograd
    function returns. Maps of one channel, which need no new format, are returned unchanged.
    """
    return maps if maps.shape[1] == 1 else to_memory_format(maps, channels_last)


# ---------------------------------------------------------------- the two autograd functions


class Convolution(torch.autograd.Function):
    """F.conv2d. In bf16, the gradient of the weight is computed by matrix products."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        geometry: ConvGeometry,
        channels_last: bool,
    ) -> Tensor:
        """Return the output (B, C_out, H_out, W_out) for weight (C_out, C_in, K_h, K_w)."""
        ctx.save_for_backward(x, weight)
        ctx.geometry, ctx.channels_last = geometry, channels_last
        output = F.conv2d(x, weight, bias, *geometry)  # (B, C_out, H_out, W_out)
        return _output_in_format(output, channels_last)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, weight and bias; None for one that is not needed."""
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        grad_output = to_memory_format(grad_output, ctx.channels_last)
        grad_input = grad_weight = grad_bias = None
        if needs_x:
            mask = [True, False, False]
            grad_input = _torch_backward(grad_output, x, weight, ctx.geometry, mask)[0]
        if needs_weight:
            grad_weight = conv_grad_weight(grad_output, x, weight, ctx.geometry)
        if needs_bias:
            grad_bias = grad_output.sum((0, 2, 3))  # (C_out,)
        return grad_input, grad_weight, grad_bias, None, None


class TransposedConvolution(torch.autograd.Function):
    """F.conv_transpose2d, by matrix products where they are faster.

    A transposed convolution computes what a convolution computes as the gradient of its input. So
    its own gradients are those of that convolution, with the input and the output exchanged.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        geometry: ConvGeometry,
        output_padding: tuple[int, ...],
        channels_last: bool,
    ) -> Tensor:
        """Return the output (B, C_out, H_out, W_out) for weight (C_in, C_out, K_h, K_w)."""
        ctx.save_for_backward(x, weight)
        ctx.geometry, ctx.channels_last = geometry, channels_last
        # The product makes C_out K_h K_w values per pixel of x. It is fast if C_in is larger.
        by_product = weight[0].numel() < len(weight)
        # In bf16 without output padding, oneDNN is six times slower when it adds the bias.
        bias_inside = x.dtype is torch.float32 and not by_product
        if by_product:
            output = conv_transpose_by_product(x, weight, geometry, output_padding)
        else:
            output = F.conv_transpose2d(
                x,
                weight,
                bias if bias_inside else None,
                geometry.stride,
                geometry.padding,
                output_padding,
                dilation=geometry.dilation,
            )  # (B, C_out, H_out, W_out)
        if bias is not None and not bias_inside:
            output += bias.view(-1, 1, 1)  # (C_out, 1, 1)
        return _output_in_format(output, channels_last)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, weight and bias; None for one that is not needed."""
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        grad_output = to_memory_format(grad_output, ctx.channels_last)
        grad_input = grad_weight = grad_bias = None
        if needs_x:
            grad_input = F.conv2d(grad_output, weight, None, *ctx.geometry)  # (B, C_in, H, W)
            grad_input = to_memory_format(grad_input, ctx.channels_last)
        if needs_weight:
            # Input and output are exchanged: grad_output is the input of that convolution, and x is
            # the gradient of its output.
            grad_weight = conv_grad_weight(x, grad_output, weight, ctx.geometry)
        if needs_bias:
            grad_bias = grad_output.sum((0, 2, 3))  # (C_out,)
        return grad_input, grad_weight, grad_bias, None, None, None


def _torch_backward(
    grad_output: Tensor, x: Tensor, weight: Tensor, geometry: ConvGeometry, mask: list[bool]
) -> tuple[Tensor, ...]:
    """Return torch's own gradients of a convolution's x, weight and bias, where mask is True."""
    transposed, output_padding, groups = False, (0, 0), 1
    return torch.ops.aten.convolution_backward(
        grad_output, x, weight, None, *geometry, transposed, output_padding, groups, mask
    )


def conv_grad_weight(
    grad_output: Tensor, x: Tensor, weight: Tensor, geometry: ConvGeometry
) -> Tensor:
    """Return the gradient of a convolution's weight, computed by the faster method.

    grad_output (B, C_out, H_out, W_out), x (B, C_in, H, W); the result has the shape of weight,
    (C_out, C_in, K_h, K_w), whose values are not used.
    """
    few_channels = min(grad_output.shape[1], x.shape[1]) < FEW_CHANNELS
    # CPUs with AMX have another method in oneDNN, against which the products were not measured.
    has_amx = torch.cpu.get_capabilities().get("amx_bf16")
    if x.dtype is not torch.bfloat16 or few_channels or has_amx:
        mask = [False, True, False]
        return _torch_backward(grad_output, x, weight, geometry, mask)[1]
    return grad_weight_by_products(grad_output, x, weight.shape[2:], geometry)


# ---------------------------------------------------------------- convolutions as matrix products


def conv_transpose_by_product(
    x: Tensor, weight: Tensor, geometry: ConvGeometry, output_padding: tuple[int, ...]
) -> Tensor:
    """Return F.conv_transpose2d(x, weight) without bias: one matrix product, then a sum.

    The product turns each pixel of x (B, C_in, H, W) into K_h K_w values per output channel. The
    sum adds each of them to its own pixel of the output (B, C_out, H_out, W_out).
    weight (C_in, C_out, K_h, K_w).
    """
    (stride_h, stride_w), (padding_h, padding_w), (dilation_h, dilation_w) = geometry
    _, c_out, k_h, k_w = weight.shape
    batch, _, height, width = x.shape
    # The output with its padding, which is cut off at the end.
    padded_h = (height - 1) * stride_h + dilation_h * (k_h - 1) + output_padding[0] + 1
    padded_w = (width - 1) * stride_w + dilation_w * (k_w - 1) + output_padding[1] + 1

    matrix = weight.flatten(1).t()  # (C_out K_h K_w, C_in)
    columns = F.conv2d(x, matrix[:, :, None, None])  # (B, C_out K_h K_w, H, W)
    columns = columns.unflatten(1, (-1, k_h * k_w))  # (B, C_out, K_h K_w, H, W)

    # F.fold does this sum as well, but takes one image at a time.
    sums = x.new_zeros(batch, c_out, padded_h, padded_w, dtype=_sum_dtype(x.dtype))
    for i in range(k_h):
        first = i * dilation_h
        rows = slice(first, first + (height - 1) * stride_h + 1, stride_h)
        for j in range(k_w):
            first = j * dilation_w
            cols = slice(first, first + (width - 1) * stride_w + 1, stride_w)
            sums[:, :, rows, cols] += columns[:, :, i * k_w + j]

    rows = slice(padding_h, padded_h - padding_h)
    cols = slice(padding_w, padded_w - padding_w)
    # copy=True: without padding and in fp32, the result would be a view of sums.
    return sums[:, :, rows, cols].to(x.dtype, copy=True).contiguous()  # (B, C_out, H_out, W_out)


def grad_weight_by_products(
    grad_output: Tensor, x: Tensor, kernel_size: tuple[int, ...], geometry: ConvGeometry
) -> Tensor:
    """Return the gradient of a convolution's weight (C_out, C_in, K_h, K_w) by matrix products.

    grad_output (B, C_out, H_out, W_out), x (B, C_in, H, W). With one row per image and output
    pixel, the gradient is rows^T @ columns: rows holds grad_output at that pixel, columns holds
    the values of x under the kernel there.
    """
    c_out, h_out, w_out = grad_output.shape[1:]
    c_in = x.shape[1]
    k_h, k_w = kernel_size
    width = k_h * k_w * c_in  # of a row of columns
    bytes_per_image = h_out * w_out * width * x.element_size()
    chunk_size = max(1, COLUMN_BYTES // bytes_per_image)  # images at once
    if chunk_size > PRODUCT_PARTS:
        chunk_size -= chunk_size % PRODUCT_PARTS  # so that the rows can be cut into equal parts

    total = x.new_zeros(c_out, width, dtype=_sum_dtype(x.dtype))
    for x_chunk, grad_chunk in zip(x.split(chunk_size), grad_output.split(chunk_size)):
        rows = grad_chunk.permute(0, 2, 3, 1).reshape(-1, c_out)  # (b H_out W_out, C_out)
        columns = _columns(x_chunk, (h_out, w_out), (k_h, k_w), geometry)
        columns = columns.reshape(len(rows), width)  # (b H_out W_out, K_h K_w C_in)
        parts = PRODUCT_PARTS if len(rows) % PRODUCT_PARTS == 0 else 1
        rows = rows.unflatten(0, (parts, -1))  # (parts, rows of a part, C_out)
        columns = columns.unflatten(0, (parts, -1))  # (parts, rows of a part, K_h K_w C_in)
        products = torch.bmm(rows.transpose(1, 2), columns)  # (parts, C_out, K_h K_w C_in)
        total = total + products.sum(0, dtype=total.dtype)
    grad_weight = total.view(c_out, k_h, k_w, c_in).permute(0, 3, 1, 2)  # (C_out, C_in, K_h, K_w)
    return grad_weight.to(x.dtype)


def _columns(
    x: Tensor, output_size: tuple[int, int], kernel_size: tuple[int, int], geometry: ConvGeometry
) -> Tensor:
    """Return the values of x under the kernel at each output pixel, as a view: no copies.

    x (b, C_in, H, W); returns (b, H_out, W_out, K_h, K_w, C_in).
    """
    stride, (padding_h, padding_w), dilation = geometry
    x = x.permute(0, 2, 3, 1)  # (b, H, W, C_in)
    x = F.pad(x, (0, 0, padding_w, padding_w, padding_h, padding_h))
    # How far apart two images, rows, pixels and channels are in memory.
    image, row, pixel, channel = x.stride()
    return x.as_strided(
        (len(x), *output_size, *kernel_size, x.shape[3]),
        (
            image,
            row * stride[0],
            pixel * stride[1],
            row * dilation[0],
            pixel * dilation[1],
            channel,
        ),
    )


def _sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which many values are summed: fp32, or fp64 for fp64."""
    return torch.promote_types(dtype, torch.float32)

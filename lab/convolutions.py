"""Convolutions that take a processor less time than torch's own do, with the same weights.

oneDNN, which computes them for torch, is at its best with maps that are channels-last: the values
of a place beside each other. What it is slow at is computed as matrix products: a transposed
convolution to a few channels and, in bf16, gradients of weights. On two cores with AVX-512 in bf16,
a step of a convolutional VAE takes three quarters of the time; in fp32, and with AVX2, four fifths.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lab.conv_functions import ConvGeometry, Convolution, ToMemoryFormat, TransposedConvolution

AUTOCAST = (torch.float32, torch.float16, torch.bfloat16)  # what autocast turns into its own type


def quicken(model: nn.Module, *trials: Callable[[], object]) -> None:
    """Make the convolutions of a model quick ones; its weights stay what they are.

    Each trial runs the model as it is going to be run. Where one fails with maps channels-last, as
    `view` of a student's code does, the layers that led there keep torch's usual order; where it
    fails all the same, the model keeps torch's own layers. Only where it was measured to help, on
    an x86-64 processor; elsewhere, and for classes derived from torch's, does nothing.
    """
    on_processor = {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    if not on_processor or torch.cpu.get_capabilities().get("architecture") != "x86_64":
        return
    usual = {layer: type(layer) for layer in model.modules() if type(layer) in FAST}
    convolutions = [layer for layer in usual if hasattr(layer, "kernel_size")]
    if not convolutions:
        return
    for layer, kind in usual.items():
        layer.__class__ = FAST[kind]
    if not all(_made_to_run(trial, convolutions) for trial in trials):
        for layer, kind in usual.items():
            layer.__class__ = kind


def _made_to_run(trial: Callable[[], object], layers: list[nn.Module]) -> bool:
    """Take channels-last from the layers that lead to a failure, until the trial does not fail."""
    ran: list[nn.Module] = []
    hooks = [layer.register_forward_pre_hook(lambda it, _: ran.append(it)) for layer in layers]
    try:
        while True:
            ran.clear()
            try:
                trial()
                return True
            except Exception:  # whatever a student's code raises
                suspects = [layer for layer in ran if layer.channels_last]
            if not suspects:
                return False
            for layer in suspects:
                layer.channels_last = False
    finally:
        for hook in hooks:
            hook.remove()


# ---------------------------------------------------------------- the layers


class Conv2d(nn.Conv2d):
    """An nn.Conv2d to all but the clock."""

    channels_last = True

    def forward(self, x: Tensor) -> Tensor:
        """Return the maps (B, out_channels, H, W) of x (B, in_channels, h, w)."""
        if not _is_plain(self, x) or isinstance(self.padding, str):
            return super().forward(x)
        x, weight, bias = _as_autocast(x, self.weight, self.bias)
        x = ToMemoryFormat.apply(x, self.channels_last)
        geometry = ConvGeometry(self.stride, self.padding, self.dilation)
        return Convolution.apply(x, weight, bias, geometry, self.channels_last)


class ConvTranspose2d(nn.ConvTranspose2d):
    """An nn.ConvTranspose2d to all but the clock."""

    channels_last = True

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return the maps (B, out_channels, H, W) of x (B, in_channels, h, w)."""
        # More of it than that, and the gradient, a convolution, would be larger than x.
        padded = any(more >= step for more, step in zip(self.output_padding, self.stride))
        if not _is_plain(self, x) or output_size is not None or padded:
            return super().forward(x, output_size)
        x, weight, bias = _as_autocast(x, self.weight, self.bias)
        x = ToMemoryFormat.apply(x, self.channels_last)
        geometry = ConvGeometry(self.stride, self.padding, self.dilation)
        last = self.channels_last
        return TransposedConvolution.apply(x, weight, bias, geometry, self.output_padding, last)


class Flatten(nn.Flatten):
    """An nn.Flatten whose gradient is in the order of its input: mixed orders are slow."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C H W), or what else the dimensions say, of maps x (B, C, H, W)."""
        mixed = x.dim() == 4 and self.start_dim == 1 and not x.is_contiguous()
        return super().forward(ToMemoryFormat.apply(x, False) if mixed else x)


class Sequential(nn.Sequential):
    """An nn.Sequential in which maps are activated where they lie, if no gradient needs them."""

    ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the last layer makes of what the others make of x."""
        fresh = False  # whether x are maps that nobody else has seen
        for layer in self:
            x = _in_place(layer, x) if fresh and type(layer) in self.ACTIVATIONS else layer(x)
            made_maps = type(layer) in (Conv2d, ConvTranspose2d)
            fresh = made_maps and not (layer._forward_hooks or torch.is_grad_enabled())
        return x


def _in_place(activation: nn.Module, maps: Tensor) -> Tensor:
    usual, activation.inplace = activation.inplace, True
    try:
        return activation(maps)
    finally:
        activation.inplace = usual


FAST = {
    nn.Conv2d: Conv2d,
    nn.ConvTranspose2d: ConvTranspose2d,
    nn.Flatten: Flatten,
    nn.Sequential: Sequential,
}


def _is_plain(layer: nn.Conv2d | nn.ConvTranspose2d, x: Tensor) -> bool:
    return x.dim() == 4 and len(x) > 0 and layer.groups == 1 and layer.padding_mode == "zeros"


def _as_autocast(*tensors: Tensor | None) -> list[Tensor | None]:
    """Return the tensors in autocast's type, as autocast itself would give them to torch's own."""
    if not torch.is_autocast_enabled("cpu"):
        return list(tensors)
    dtype = torch.get_autocast_dtype("cpu")
    return [
        tensor.to(dtype) if tensor is not None and tensor.dtype in AUTOCAST else tensor
        for tensor in tensors
    ]

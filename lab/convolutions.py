"""Drop-in convolution layers, faster than torch's on x86 CPUs; results are equal up to rounding.

`use_fast_convolutions(model)` replaces the class of a model's layers by the class of the same name
in this file. The weights, the state_dict, `print(model)` and `isinstance` stay as they were.

The gain has two sources. The layers compute in the channels-last memory format, in which oneDNN,
torch's library for convolutions on CPUs, is fastest. Where oneDNN is slow, they use matrix products
(conv_functions.py). Time of a training step without / with the fast layers, on 2 cores
with AVX-512 and its bf16 instructions:

                                    bf16     fp32
    VAE of 3 convolutions each way  1.75 x   1.20 x
    the reference submission        1.24 x   1.14 x
    a student's BatchNorm model     1.82 x   1.25 x

The memory format alone gives little or nothing: when the first model uses torch's own layers in
torch.channels_last, the fast layers are still 1.76 x (bf16) and 1.15 x (fp32) as fast.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from lab.conv_functions import ConvGeometry, Convolution, ToMemoryFormat, TransposedConvolution

AUTOCAST_DTYPES = (torch.float32, torch.float16, torch.bfloat16)  # autocast leaves other dtypes


def use_fast_convolutions(model: nn.Module, *trials: Callable[[], object]) -> None:
    """Let a model on an x86-64 CPU compute with the fast layers. The weights are not changed.

    Does nothing on other devices and CPUs, where the gain was not measured, and to layers of a
    class derived from torch's.

    Each trial is a function that runs the model as it will be used. Some code needs torch's default
    memory format, for instance `x.view(...)` after a convolution. So if a trial raises, the
    convolutions that ran before the error return their output in the default format, and the trial
    is repeated. If it still raises, the model gets torch's layers back. Errors of a trial are not
    passed on.
    """
    on_cpu = {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    if not on_cpu or torch.cpu.get_capabilities().get("architecture") != "x86_64":
        return
    torch_classes = {layer: type(layer) for layer in model.modules() if type(layer) in FAST_CLASSES}
    for layer, torch_class in torch_classes.items():
        layer.__class__ = FAST_CLASSES[torch_class]
    convolutions = [layer for layer in torch_classes if isinstance(layer, Conv2d | ConvTranspose2d)]
    if not convolutions or not all(_runs(trial, convolutions) for trial in trials):
        for layer, torch_class in torch_classes.items():
            layer.__class__ = torch_class


def _runs(trial: Callable[[], object], convolutions: list[Conv2d | ConvTranspose2d]) -> bool:
    """Run a trial; after an error, try again without channels-last in the layers that ran.

    Returns False if the trial fails although none of the layers that ran uses channels-last.
    """
    called: list[Any] = []
    with ExitStack() as hooks:
        for layer in convolutions:
            hook = layer.register_forward_pre_hook(lambda layer, inputs: called.append(layer))
            hooks.enter_context(hook)
        while True:
            called.clear()
            try:
                trial()
                return True
            except Exception:  # a student's code can raise anything
                suspects = [layer for layer in called if layer.channels_last]
            if not suspects:
                return False
            for layer in suspects:
                layer.channels_last = False


# ---------------------------------------------------------------- the layers


class Conv2d(nn.Conv2d):
    """Drop-in nn.Conv2d, faster on x86 CPUs; equal up to rounding."""

    channels_last = True  # memory format of the input, the output and their gradients

    def forward(self, x: Tensor) -> Tensor:
        """Return the output (B, out_channels, H_out, W_out) for x (B, in_channels, H, W)."""
        if isinstance(self.padding, str) or not _is_supported(self, x, self.padding):
            return super().forward(x.contiguous())
        x, weight, bias = _autocast(self, x)
        x = ToMemoryFormat.apply(x, self.channels_last)
        geometry = ConvGeometry(self.stride, self.padding, self.dilation)
        return Convolution.apply(x, weight, bias, geometry, self.channels_last)


class ConvTranspose2d(nn.ConvTranspose2d):
    """Drop-in nn.ConvTranspose2d, faster on x86 CPUs; equal up to rounding."""

    channels_last = True  # memory format of the input, the output and their gradients
    padding: tuple[int, ...]  # never a string, which torch allows in nn.Conv2d only

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return the output (B, out_channels, H_out, W_out) for x (B, in_channels, H, W)."""
        # The gradient of x is computed by a convolution. With an output padding of the stride or
        # more, that convolution would return more pixels than x has.
        over_padded = any(pad >= step for pad, step in zip(self.output_padding, self.stride))
        if output_size is not None or over_padded or not _is_supported(self, x, self.padding):
            return super().forward(x.contiguous(), output_size)
        x, weight, bias = _autocast(self, x)
        x = ToMemoryFormat.apply(x, self.channels_last)
        geometry = ConvGeometry(self.stride, self.padding, self.dilation)
        return TransposedConvolution.apply(
            x, weight, bias, geometry, self.output_padding, self.channels_last
        )


class Flatten(nn.Flatten):
    """Drop-in nn.Flatten whose gradient has the memory format of x: mixed formats are slow."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, C, H, W) as (B, C H W), or as start_dim and end_dim say."""
        if x.dim() == 4 and self.start_dim == 1 and not x.is_contiguous():
            x = ToMemoryFormat.apply(x, False)
        return super().forward(x)


class Sequential(nn.Sequential):
    """Drop-in nn.Sequential; without gradients, it activates the output of convolutions in place.

    That saves the memory traffic of a second tensor. Nothing else sees the overwritten values.
    """

    ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the last layer."""
        may_overwrite = False  # True if x is the output of a convolution that nothing else holds
        for layer in self:
            if may_overwrite and type(layer) in self.ACTIVATIONS:
                x = _activate_in_place(layer, x)
            else:
                x = layer(x)
            is_convolution = type(layer) in (Conv2d, ConvTranspose2d)
            # A student's hook may keep the output; autograd needs it for the gradient.
            may_overwrite = is_convolution and not (layer._forward_hooks or torch.is_grad_enabled())
        return x


FAST_CLASSES: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: Conv2d,
    nn.ConvTranspose2d: ConvTranspose2d,
    nn.Flatten: Flatten,
    nn.Sequential: Sequential,
}


def _activate_in_place(activation: Any, x: Tensor) -> Tensor:
    """Run an activation with inplace=True, then set its own `inplace` again."""
    inplace = activation.inplace
    activation.inplace = True
    try:
        return activation(x)
    finally:
        activation.inplace = inplace


def _is_supported(
    layer: nn.Conv2d | nn.ConvTranspose2d, x: Tensor, padding: tuple[int, ...]
) -> bool:
    """Whether the fast functions can compute the layer; if not, torch's own forward does.

    A kernel that is smaller than its stride, padding of a whole kernel, and dilation are left to
    torch in its default memory format. In channels-last, oneDNN (torch 2.13, AVX2) writes outside
    its memory for some of these: the process aborts within some thousand random layers, also with
    torch's own layers. 31 000 random layers without these ran.
    """
    usual = all(k >= s for k, s in zip(layer.kernel_size, layer.stride))
    usual = usual and all(p < k for p, k in zip(padding, layer.kernel_size))
    usual = usual and all(d == 1 for d in layer.dilation)
    plain = layer.groups == 1 and layer.padding_mode == "zeros"
    return usual and plain and x.dim() == 4 and len(x) > 0


def _autocast(
    layer: nn.Conv2d | nn.ConvTranspose2d, x: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return x, weight and bias in the dtype that autocast, if enabled, computes in.

    Autocast casts the inputs of torch's convolutions, but not those of an autograd function.
    """
    weight, bias = layer.weight, layer.bias
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        x, weight = (t.to(dtype) if t.dtype in AUTOCAST_DTYPES else t for t in (x, weight))
        if bias is not None and bias.dtype in AUTOCAST_DTYPES:
            bias = bias.to(dtype)
    return x, weight, bias

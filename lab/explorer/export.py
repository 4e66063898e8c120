"""Export the two halves of a trained model to ONNX, so that a browser can run them.

encoder  x (B, 1, 28, 28), labels (B,), noise (B, d)  to  mu, log_var, z, each (B, d)
decoder  z (B, d), labels (B,)                        to  images (B, 784)

The noise is an input: zeros give the code at the posterior mean, N(0, I) gives a sample of q(z|x).
"""

from __future__ import annotations

import copy
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from data_utils import IMAGE_SIZE
from lab.loading import explain
from lab.split_model import Submission

TOLERANCE = 1e-3  # how far a figure of the page may be from torch's
SMALL = 20_000  # tensors with fewer values stay float32: they save little, and may be sensitive
PACKAGES = ("onnx", "onnxscript")
LARGEST_BATCH = 4096


class ExportError(ValueError):
    """A model or a package does not export; the message says why."""


@dataclass(frozen=True)
class Network:
    """One half of a model, as ONNX.

    Attributes:
        content: the bytes of the ONNX file.
        precision: "fp16" if its weights are stored as float16 and cast at load, or "fp32".
        batch: the only batch size that it takes, or None if it takes any.
    """

    content: bytes
    precision: str
    batch: int | None


def expect_packages() -> None:
    """Raise ExportError unless the packages for the export are installed."""
    import importlib.util

    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(
            f"the explorer needs {' and '.join(missing)}, which this Python does not have; "
            "install them: python -m pip install -r requirements/explore.txt"
        )


# ---------------------------------------------------------------- the two halves


class Encoder(nn.Module):
    """The part of `forward` before it calls `decode`, with the noise as an input.

    A model may leave out what cannot be exported, where `torch.compiler.is_exporting()`. Then it
    leaves it out here too, so that the figures of the page are those of the exported network.
    """

    def __init__(self, submission: Submission) -> None:
        super().__init__()
        self.model, self.submission = submission.model, submission

    def forward(self, x: Tensor, labels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return mu, log_var and z, each float32 (B, d)."""
        codes: list[Tensor] = []

        def record(z: Tensor, *_: object, **__: object) -> Tensor:
            codes.append(z)
            return z.new_zeros(z.shape[0], 1, IMAGE_SIZE, IMAGE_SIZE)

        exporting = patch.object(torch.compiler, "is_exporting", lambda: True)
        with self.submission.replacing("decode", record), _Given(noise), exporting:
            _, mu, log_var = self.model(x, self.submission.visible(labels))
        return mu.float(), log_var.float(), codes[0].float()


class Decoder(nn.Module):
    """`decode`, with images of one shape."""

    def __init__(self, submission: Submission) -> None:
        super().__init__()
        self.model, self.submission = submission.model, submission

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return the images, float32 (B, 784)."""
        decode: Callable[..., Tensor] = getattr(self.model, "decode")  # noqa: B009  not a Tensor
        with _Given(None):
            images = decode(z, self.submission.visible(labels))
        return images.float().reshape(z.shape[0], IMAGE_SIZE**2)  # (B, 784)


class _Given(TorchFunctionMode):
    """Puts the given noise in place of torch's normal noise, and writes out what ONNX lacks."""

    def __init__(self, noise: Tensor | None) -> None:
        super().__init__()
        self.noise = noise  # (B, d)

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is torch.linalg.solve_triangular and kwargs.keys() == {"upper"}:
            return solve_triangular(*args, **kwargs)
        if self.noise is None:
            return function(*args, **kwargs)
        if function is torch.randn_like:
            return self._noise_for(args[0])
        if function is torch.randn:
            return self._noise_for(function(*args, **kwargs))
        if function is torch.Tensor.normal_:
            return args[0].copy_(self._noise_for(args[0]))
        if function is torch.normal and args and isinstance(args[0], Tensor):
            std = args[1] if len(args) > 1 else kwargs.get("std", 1.0)
            return args[0] + std * self._noise_for(args[0])
        return function(*args, **kwargs)

    def _noise_for(self, drawn: Tensor) -> Tensor:
        """Return the noise if a tensor of its shape was drawn, else zeros."""
        assert self.noise is not None
        if drawn.dim() == 2 and drawn.shape[1] == self.noise.shape[1]:
            return self.noise.to(drawn.dtype)
        return torch.zeros_like(drawn)


def solve_triangular(matrix: Tensor, right: Tensor, upper: bool) -> Tensor:
    """Return X with matrix X = right, by products of matrices: ONNX has no operator for it.

    The matrix is D (I - N) with D its diagonal and N^n = 0, so its inverse is
    (I + N) (I + N^2) (I + N^4) ... D^-1. It does not matter whether it is upper or lower.

    matrix: (..., n, n), triangular; right: (..., n, k).
    """
    n = matrix.shape[-1]
    diagonal = torch.diagonal(matrix, dim1=-2, dim2=-1).unsqueeze(-1)  # (..., n, 1)
    solved = right / diagonal  # (..., n, k)
    power = torch.eye(n, dtype=matrix.dtype) - matrix / diagonal  # N, then N^2, N^4, ...
    for _ in range((n - 1).bit_length()):
        solved = solved + power @ solved
        power = power @ power
    return solved


# ---------------------------------------------------------------- the export


def for_export(submission: Submission) -> Submission:
    """Return a copy whose model can be traced.

    `if self.fitted:` cannot, because a trace does not know a tensor's value. So buffers of one
    truth value become Python's True or False.
    """
    traced = copy.copy(submission)
    traced.model = copy.deepcopy(submission.model).cpu().eval()
    for module in traced.model.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            if buffer.dtype == torch.bool and buffer.dim() == 0:
                delattr(module, name)
                setattr(module, name, bool(buffer))
    return traced


def with_half_weights(submission: Submission) -> Submission:
    """Return a copy whose large tensors are rounded to float16."""
    rounded = copy.copy(submission)
    rounded.model = copy.deepcopy(submission.model)
    with torch.no_grad():
        for tensor in (*rounded.model.parameters(), *rounded.model.buffers()):
            if tensor.dtype == torch.float32 and tensor.numel() >= SMALL:
                tensor.copy_(tensor.half().float())
    return rounded


def export_encoder(submission: Submission, half: bool) -> Network:
    """Return the encoder of a model from `for_export`. Raises ExportError."""

    def example(batch: int) -> dict[str, Tensor]:
        return {
            "x": torch.rand(batch, 1, IMAGE_SIZE, IMAGE_SIZE),
            "labels": torch.arange(batch),
            "noise": torch.zeros(batch, submission.latent_dim),
        }

    return _export(Encoder(submission), example, ["mu", "log_var", "code"], half)


def export_decoder(submission: Submission, half: bool) -> Network:
    """Return the decoder of a model from `for_export`. Raises ExportError."""

    def example(batch: int) -> dict[str, Tensor]:
        return {"z": torch.zeros(batch, submission.latent_dim), "labels": torch.arange(batch)}

    return _export(Decoder(submission), example, ["images"], half)


def _export(
    module: Encoder | Decoder,
    example: Callable[[int], dict[str, Tensor]],
    outputs: list[str],
    half: bool,
) -> Network:
    """Export for any batch size, or if that fails, for single images."""
    reason = ""
    for batch in (None, 1):
        inputs = example(batch or 2)
        dimension = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
        shapes = None if batch else tuple({0: dimension} for _ in inputs)
        try:
            with _quiet(), torch.no_grad():
                program = torch.export.export(
                    module, tuple(inputs.values()), dynamic_shapes=shapes, strict=False
                )
                converted = torch.onnx.export(
                    program,
                    dynamo=True,
                    input_names=list(inputs),
                    output_names=outputs,
                    verbose=False,
                )
        except Exception as error:  # torch and onnxscript raise errors of many types
            where = module.submission.path
            reason = reason or explain(error, where, "export").split(". ")[0]  # one sentence
            continue
        assert converted is not None
        model = converted.model_proto
        if half:
            _store_as_half(model)
        return Network(model.SerializeToString(), "fp16" if half else "fp32", batch)
    raise ExportError(reason)


def _store_as_half(model: Any) -> None:
    """Store the large weights of an ONNX model as float16, each with a cast to float32."""
    import numpy as np
    import onnx
    from onnx import numpy_helper

    graph, casts = model.graph, []
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size < SMALL:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
        float32 = onnx.TensorProto.FLOAT
        casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], to=float32))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])  # a node follows those whose outputs it uses


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporter tells its developers."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

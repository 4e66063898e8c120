"""A student's model, split at `decode`.

The three functions that the whole lab uses are methods of `Submission`:

    encode    images to codes: run `forward` up to the point where it calls `decode`, take `z`
    decode    codes and labels to images
    generate  labels and a seed to images: z ~ N(0, I), then decode

The codes are all that passes from encode to decode.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from data_utils import IMAGE_SIZE, MAX_LATENT_DIM, NUM_CLASSES, one_line, own_randomness
from lab.checkpoint import CheckpointError
from lab.loading import (
    CLASS_OF_TASK,
    ContractError,
    NotFiniteError,
    explained,
    load_module,
    set_options,
)

RANGE_TOLERANCE = 1e-3  # how far outside [0, 1] rounding may put a pixel
TRIAL_BATCH = 4  # images in a trial


class Submission:
    """A student's model of one task, on one device.

    Attributes:
        path: the submission file.
        task: "VAEwolabel" or "Genwithlabel".
        latent_dim: d, the width of a code, 1 to 784.
        variant: values of the class's own options, such as "depth=4,attention=True"; see
            `loading.class_options`.
        model: the student's nn.Module.
        vae_loss: the student's function, or None if the file has none.

    Raises ContractError when the file does not load, or the model cannot be built.
    """

    def __init__(self, path: str | Path, task: str, latent_dim: int, variant: str = "") -> None:
        self.path, self.task, self.latent_dim = Path(path), task, latent_dim
        self.variant = variant
        if task not in CLASS_OF_TASK:
            known = ", ".join(CLASS_OF_TASK)
            raise ContractError(f"unknown task {one_line(task)!r}; expected one of {known}.")
        if not 1 <= latent_dim <= MAX_LATENT_DIM:
            raise ContractError(
                f"latent_dim is {latent_dim}; expected 1 to {MAX_LATENT_DIM}, an image's pixels."
            )
        self.module = load_module(self.path)
        self.model = self._build()
        self.vae_loss: Callable[..., Any] | None = getattr(self.module, "vae_loss", None)

    def _build(self) -> nn.Module:
        build = getattr(self.module, self.class_name, None)
        if build is None:
            raise ContractError(
                f"{self.path.name} has no class {self.class_name}, which --task {self.task} trains."
            )
        set_options(build, self.variant, f"{self.class_name} in {self.path.name}")
        with self.explained(f"construction of {self.class_name}(latent_dim={self.latent_dim})"):
            model = build(latent_dim=self.latent_dim)
        if not isinstance(model, nn.Module):
            raise ContractError(
                f"{self.class_name} in {self.path.name} is not a torch.nn.Module; "
                f"write `class {self.class_name}(nn.Module):`."
            )
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise ContractError(
                f"{self.class_name} in {self.path.name} has no trainable parameters; "
                "make its layers in __init__ (TODO 2.2.1) and assign them to self."
            )
        return model

    def with_new_model(self) -> Submission:
        """Return the same submission with a newly built model; this submission keeps its own."""
        other = copy.copy(self)
        other.model = self._build()
        return other

    def load_weights(self, state: dict[str, Any], where: str | Path) -> None:
        """Load a checkpoint's weights into the model.

        where: names the checkpoint in messages. Raises CheckpointError when they do not fit.
        """
        try:
            self.model.load_state_dict(state["model_state_dict"])
        except (RuntimeError, TypeError, AttributeError) as error:
            reason = str(error).splitlines()[1 if "\n" in str(error) else 0].strip()
            raise CheckpointError(
                f"the weights in {where} do not fit {self.class_name} of {self.path} "
                f"({reason[:200]}); give the file they were trained from with --submission."
            ) from None

    # ------------------------------------------------------------ what the model offers

    @property
    def class_name(self) -> str:
        """Name of the task's class in the submission file."""
        return CLASS_OF_TASK[self.task]

    @property
    def device(self) -> torch.device:
        """The device of the model's parameters."""
        return next(self.model.parameters()).device

    @property
    def has_encoder(self) -> bool:
        """Whether the model reconstructs; a GAN, which has no encoder, only generates."""
        return hasattr(self.model, "encode")

    @property
    def has_loss(self) -> bool:
        """Whether a batch has one loss: vae_loss or compute_loss, without an own training_step."""
        has_one = self.compute_loss is not None or self.vae_loss is not None
        return has_one and self.training_step is None

    @property
    def uses_vae_loss(self) -> bool:
        """Whether the model is trained with the file's vae_loss, so that forward gives the KL."""
        return self.has_loss and self.compute_loss is None

    @property
    def compute_loss(self) -> Callable[..., Any] | None:
        """The model's optional compute_loss(x, labels, var), or None."""
        return getattr(self.model, "compute_loss", None)

    @property
    def training_step(self) -> Callable[..., Any] | None:
        """The model's optional training_step(x, labels, optimizers, step), or None."""
        return getattr(self.model, "training_step", None)

    @property
    def configure_optimizers(self) -> Callable[..., Any] | None:
        """The model's optional configure_optimizers(lr), or None."""
        return getattr(self.model, "configure_optimizers", None)

    @property
    def fit_prior(self) -> Callable[..., Any] | None:
        """The model's optional fit_prior(codes, labels), or None."""
        return getattr(self.model, "fit_prior", None)

    # ------------------------------------------------------------ the split at decode

    def visible(self, labels: Tensor) -> Tensor:
        """Return the labels that the task shows the model: true for GenModel, zeros for VAE."""
        return labels if self.task == "Genwithlabel" else torch.zeros_like(labels)

    @torch.no_grad()
    def encode(self, images: Tensor, labels: Tensor, seed: int | None = None) -> Tensor:
        """Return the codes at the posterior mean, float32 (B, latent_dim).

        images: float32 (B, 1, 28, 28) in [0, 1]; labels: int64 (B,), hidden from VAE.
        Torch's normal noise is zero meanwhile, so z is the mean even if `forward` always samples.
        With a seed there is noise, and the codes are what `forward` draws in evaluation.
        """

        def stop(z: Tensor, *_: object, **__: object) -> None:
            raise _CodesReached(z)

        replaced = self.replacing("decode", stop)
        noise = _WithoutNoise() if seed is None else nullcontext()
        with self._evaluating(seed or 0), replaced, self.explained("forward"), noise:
            try:
                self.model(images, self.visible(labels))
            except _CodesReached as reached:
                codes = reached.codes
            else:
                raise ContractError(
                    f"forward of {self.class_name} never called self.decode(z, labels); expected "
                    "one call, because it separates the encoder from the decoder (TODO 2.2.4)."
                )
        self.expect_codes("z, which forward gives to self.decode,", codes, len(images))
        return codes.float()

    @torch.no_grad()
    def decode(self, codes: Tensor, labels: Tensor) -> Tensor:
        """Return the images of codes (B, latent_dim) and labels (B,): float32 (B, 28, 28)."""
        decode: Callable[..., Any] = getattr(self.model, "decode")  # noqa: B009  not a Tensor
        with self._evaluating(), self.explained("decode"):
            images = decode(codes, self.visible(labels))
        return self.as_images("decode", images, len(codes))

    def generate(self, labels: Tensor, seed: int, chunk: int = 1000) -> Tensor:
        """Return one image per label from z ~ N(0, I): float32 (B, 28, 28)."""
        generator = torch.Generator().manual_seed(seed)
        codes = torch.randn(len(labels), self.latent_dim, generator=generator)  # (B, d)
        codes, labels = codes.to(self.device), labels.to(self.device)
        images = [self.decode(z, y) for z, y in zip(codes.split(chunk), labels.split(chunk))]
        return torch.cat(images)  # (B, 28, 28)

    @contextmanager
    def _evaluating(self, seed: int = 0) -> Iterator[None]:
        """Evaluation mode, and the same random numbers each time for a model that draws some."""
        was_training = self.model.training
        self.model.eval()
        try:
            with own_randomness(seed):
                yield
        finally:
            self.model.train(was_training)

    @contextmanager
    def replacing(self, name: str, method: Callable[..., Any]) -> Iterator[None]:
        """Replace a method of this one model for the duration of a `with` block."""
        if name in self.model._modules:
            raise ContractError(
                f"self.{name} of {self.class_name} is a layer; expected a method `def {name}`. "
                "Give the layer another name."
            )
        before = {name: vars(self.model)[name]} if name in vars(self.model) else {}
        vars(self.model)[name] = method
        try:
            yield
        finally:
            del vars(self.model)[name]
            vars(self.model).update(before)

    # ------------------------------------------------------------ trials

    def try_encode(self) -> None:
        """Encode a few images if the model has an encoder.

        Raises what the model raises, or ContractError.
        """
        if self.has_encoder:
            with own_randomness(0):
                self.encode(*self.trial_batch())

    def try_decode(self) -> None:
        """Decode a few codes; raises what the model raises, or ContractError."""
        with own_randomness(0):
            codes = torch.randn(TRIAL_BATCH, self.latent_dim)  # (B, d)
        labels = torch.arange(TRIAL_BATCH) % NUM_CLASSES
        self.decode(codes.to(self.device), labels.to(self.device))

    def trial_batch(self) -> tuple[Tensor, Tensor]:
        """Return random images (B, 1, 28, 28) and the labels (B,) that the model may see."""
        images = torch.rand(TRIAL_BATCH, 1, IMAGE_SIZE, IMAGE_SIZE)  # (B, 1, 28, 28)
        labels = self.visible(torch.arange(TRIAL_BATCH) % NUM_CLASSES)
        return images.to(self.device), labels.to(self.device)

    def make_optimizers(self, lr: float) -> list[torch.optim.Optimizer]:
        """Return what the model's configure_optimizers makes, as a list. Raises ContractError."""
        assert self.configure_optimizers is not None
        with self.explained("configure_optimizers"):
            made = self.configure_optimizers(lr)
        made = list(made) if isinstance(made, (list, tuple)) else [made]
        if not made or not all(isinstance(one, torch.optim.Optimizer) for one in made):
            came = ", ".join(type(one).__name__ for one in made) or "none"
            raise ContractError(
                f"configure_optimizers of {self.class_name} returned {came}; "
                "expected an optimizer of torch.optim or a list of them."
            )
        return made

    # ------------------------------------------------------------ what a model returns

    def expect_codes(self, what: str, tensor: object, batch: int) -> None:
        """Raise ContractError unless the tensor is (batch, latent_dim) and finite."""
        expected = (batch, self.latent_dim)
        came = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
        if not isinstance(tensor, Tensor) or came != expected:
            raise ContractError(
                f"{what} of {self.class_name} is {came}; expected {expected}, (batch, latent_dim). "
                "Look at the layers that make mu and log_var (TODO 2.2.1, 2.2.2)."
            )
        if not torch.isfinite(tensor).all():
            raise NotFiniteError(
                f"{what} of {self.class_name} has values that are not finite (nan or inf)."
            )

    def as_images(self, where: str, images: object, batch: int) -> Tensor:
        """Return the (B, 28, 28) view of a model's images.

        Raises ContractError unless shape and range are right, NotFiniteError for nan and inf.
        """
        size = IMAGE_SIZE
        allowed = [(batch, size, size), (batch, 1, size, size), (batch, size * size)]
        came = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        if not isinstance(images, Tensor) or came not in allowed:
            raise ContractError(
                f"the images of {where} in {self.class_name} are {came}; "
                f"expected {allowed[0]}, {allowed[1]} or {allowed[2]} (TODO 2.2.3)."
            )
        low, high = (value.item() for value in images.aminmax())  # nan where any pixel is
        if not (math.isfinite(low) and math.isfinite(high)):
            raise NotFiniteError(
                f"the images of {where} in {self.class_name} have pixels that are not finite."
            )
        if low < -RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE:
            raise ContractError(
                f"the images of {where} in {self.class_name} lie in [{low:.3g}, {high:.3g}]; "
                "expected [0, 1]: end the decoder with a sigmoid (TODO 2.2.3)."
            )
        return images.detach().float().reshape(batch, size, size)  # (B, 28, 28)

    def explained(self, action: str, only_theirs: bool = False) -> AbstractContextManager[None]:
        """Turn an exception of the student's code into a ContractError; see `loading.explained`."""
        return explained(action, self.path, only_theirs)


class _CodesReached(BaseException):
    """Carries z out of `forward`. Not an Exception, so that no student's `except` keeps it."""

    def __init__(self, codes: Tensor) -> None:
        self.codes = codes


class _WithoutNoise(TorchFunctionMode):
    """Makes torch's normal noise zero, so that mu + sigma * noise is mu anywhere in the model."""

    ZERO = (torch.randn, torch.randn_like)

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        drawn = function(*args, **(kwargs or {}))
        if function in self.ZERO:
            return torch.zeros_like(drawn)
        if function is torch.Tensor.normal_:
            return drawn.zero_()
        if function is torch.normal and args and isinstance(args[0], Tensor):
            return args[0].expand(drawn.shape)  # the mean
        return drawn

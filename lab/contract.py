"""Loads a submission file, checks its contract, and splits a model at `decode`.

The three functions that the whole project uses are methods of `Submission`:

    encode    images to codes: run `forward` up to the point where it calls `decode`, take `z`
    decode    codes and labels to images
    generate  labels and a seed to images: z ~ N(0, I), then decode

What passes from encode to decode is the codes and nothing else.
"""

from __future__ import annotations

import copy
import importlib.util
import math
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from data_utils import IMAGE_SIZE, NUM_CLASSES, own_randomness

TASKS = {"VAEwolabel": "VAE", "Genwithlabel": "GenModel"}
MAX_LATENT_DIM = IMAGE_SIZE**2  # a wider code than the image compresses nothing
RANGE_TOLERANCE = 1e-3  # how far outside [0, 1] rounding may put a pixel
CHECK_BATCH = 4


class ContractError(ValueError):
    """A submission breaks the contract; says what was expected, what came and where to look."""


class NotFiniteError(ContractError, ArithmeticError):
    """A model's output is nan or infinite. The Trainer, which knows no contract, catches it as
    ArithmeticError and goes back to the last good state."""


class _CodesReached(BaseException):
    """Carries z out of `forward`. Not an Exception, so that no student's `except` keeps it."""

    def __init__(self, codes: torch.Tensor) -> None:
        self.codes = codes


class Submission:
    """A student's model of one task, on one device.

    Attributes:
        path: the submission file.
        task: "VAEwolabel" or "Genwithlabel".
        latent_dim: d, the width of a code.
        variant: values for the class's own options, such as "depth=4,attention=True"; see
            `class_options`.
        model: the student's nn.Module.
        vae_loss: the student's function, or None if the model brings its own loss.

    Raises ContractError when the file does not load, or the model cannot be built.
    """

    def __init__(self, path: str | Path, task: str, latent_dim: int, variant: str = "") -> None:
        self.path, self.task, self.latent_dim = Path(path), task, latent_dim
        self.variant = variant
        if task not in TASKS:
            raise ContractError(f"unknown task {task!r}; expected one of {', '.join(TASKS)}.")
        if not 1 <= latent_dim <= MAX_LATENT_DIM:
            raise ContractError(
                f"latent_dim is {latent_dim}; expected 1 to {MAX_LATENT_DIM}, an image's pixels."
            )
        self.module = _load_module(self.path)
        self.model = self._build()
        self.vae_loss: Callable | None = getattr(self.module, "vae_loss", None)

    @property
    def class_name(self) -> str:
        """Name of the task's class in the submission file."""
        return TASKS[self.task]

    @property
    def has_encoder(self) -> bool:
        """Whether the model reconstructs; one that does not, as a GAN, only generates."""
        return hasattr(self.model, "encode")

    @property
    def device(self) -> torch.device:
        """Where the model's parameters lie."""
        return next(self.model.parameters()).device

    def _build(self) -> nn.Module:
        build = getattr(self.module, self.class_name, None)
        if build is None:
            raise ContractError(
                f"{self.path.name} has no class {self.class_name}, which --task {self.task} trains."
            )
        set_options(build, self.variant, f"{self.class_name} in {self.path.name}")
        with self.explained(f"building {self.class_name}(latent_dim={self.latent_dim})"):
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

    # ------------------------------------------------------------ the cut at decode

    def visible(self, labels: torch.Tensor) -> torch.Tensor:
        """Return the labels as the task shows them: true for GenModel, zeros for VAE."""
        return labels if self.task == "Genwithlabel" else torch.zeros_like(labels)

    @torch.no_grad()
    def encode(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the codes at the posterior mean, float32 (B, latent_dim).

        images: float32 (B, 1, 28, 28) in [0, 1]; labels: int64 (B,), hidden from VAE.
        Normal noise is zero meanwhile, so a `forward` that always samples is exact too.
        """

        def stop(z: torch.Tensor, *_, **__) -> None:
            raise _CodesReached(z)

        replaced = self._replacing("decode", stop)
        with self._evaluating(), replaced, self.explained("forward"), _WithoutNoise():
            try:
                self.model(images, self.visible(labels))
            except _CodesReached as reached:
                codes = reached.codes
            else:
                raise ContractError(
                    f"forward of {self.class_name} never called self.decode(z, labels); "
                    "it must, for that is where encoder and decoder are cut (TODO 2.2.4)."
                )
        self._expect_shape("z, which forward gives to self.decode,", codes, len(images))
        return codes.float()

    @torch.no_grad()
    def decode(self, codes: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the images of codes (B, latent_dim) and labels (B,): float32 (B, 28, 28)."""
        with self._evaluating(), self.explained("decode"):
            images = self.model.decode(codes, self.visible(labels))
        return self._as_images("decode", images, len(codes))

    def generate(self, labels: torch.Tensor, seed: int, chunk: int = 1000) -> torch.Tensor:
        """Return one image a label from z ~ N(0, I): float32 (B, 28, 28)."""
        generator = torch.Generator().manual_seed(seed)
        codes = torch.randn(len(labels), self.latent_dim, generator=generator)  # (B, d)
        codes, labels = codes.to(self.device), labels.to(self.device)
        images = [self.decode(z, y) for z, y in zip(codes.split(chunk), labels.split(chunk))]
        return torch.cat(images)  # (B, 28, 28)

    def try_encode(self) -> None:
        """Encode a few images, if the model can; raises what it raises, or ContractError."""
        if self.has_encoder:
            with own_randomness(0):
                self.encode(*self._check_batch())

    def try_decode(self) -> None:
        """Decode a few codes; raises what the model raises, or ContractError."""
        with own_randomness(0):
            codes = torch.randn(CHECK_BATCH, self.latent_dim)  # (B, d)
        labels = torch.arange(CHECK_BATCH) % NUM_CLASSES
        self.decode(codes.to(self.device), labels.to(self.device))

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Evaluation mode, and the same randomness each time for what still draws some."""
        was_training = self.model.training
        self.model.eval()
        try:
            with own_randomness(0):
                yield
        finally:
            self.model.train(was_training)

    @contextmanager
    def _replacing(self, name: str, method: Callable) -> Iterator[None]:
        """Replace a method of this one model for a while."""
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

    # ------------------------------------------------------------ the checks

    def check(self, device: torch.device | str = "cpu") -> None:
        """Try the contract on a small batch; raise ContractError.

        A second model is built for it, so that the one to be trained and the generators
        of random numbers stay as they are.
        """
        with own_randomness(0):
            trial = copy.copy(self)
            trial.model = self._build().to(device)
            trial._check_methods()
            if hasattr(trial.model, "training_step"):
                trial._check_training_step()
            else:
                trial._check_forward()
                trial._check_loss()
            trial.try_decode()

    def _check_methods(self) -> None:
        needed = {"decode": "decode(z, labels) (TODO 2.2.3)"}
        if not hasattr(self.model, "training_step"):
            needed["encode"] = "encode(x, labels) (TODO 2.2.2)"
        for name, what in needed.items():
            if not hasattr(self.model, name):
                raise ContractError(f"{self.class_name} has no method {what}.")
        if hasattr(self.model, "configure_optimizers"):
            self.make_optimizers(1e-3)

    def make_optimizers(self, lr: float) -> list[torch.optim.Optimizer]:
        """Return what the model's configure_optimizers makes, as a list."""
        with self.explained("configure_optimizers"):
            made = self.model.configure_optimizers(lr)
        made = list(made) if isinstance(made, (list, tuple)) else [made]
        if not made or not all(isinstance(one, torch.optim.Optimizer) for one in made):
            came = ", ".join(type(one).__name__ for one in made) or "none"
            raise ContractError(
                f"configure_optimizers of {self.class_name} returned {came}; "
                "expected an optimizer of torch.optim or a list of them."
            )
        return made

    def _check_training_step(self) -> None:
        images, labels = self._check_batch()
        if not hasattr(self.model, "configure_optimizers"):
            raise ContractError(
                f"{self.class_name} has training_step and no configure_optimizers(lr) for it."
            )
        optimizers = self.make_optimizers(1e-3)
        with self.explained("training_step"):
            parts = self.model.training_step(images, labels, optimizers, 0)
        if not isinstance(parts, dict) or not parts:
            raise ContractError(
                f"training_step of {self.class_name} returned {type(parts).__name__}; "
                "expected a dict of named parts, each one number."
            )

    def _check_batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.rand(CHECK_BATCH, 1, IMAGE_SIZE, IMAGE_SIZE)  # (B, 1, 28, 28)
        labels = self.visible(torch.arange(CHECK_BATCH) % NUM_CLASSES)
        return images.to(self.device), labels.to(self.device)

    def _check_forward(self) -> None:
        images, labels = self._check_batch()
        calls = []
        decode = self.model.decode

        def counting(z, *rest, **named):
            calls.append(z)
            return decode(z, *rest, **named)

        with self._replacing("decode", counting), self.explained("forward"):
            outputs = self.model(images, labels)
        if not isinstance(outputs, (tuple, list)) or len(outputs) != 3:
            came = type(outputs).__name__
            if isinstance(outputs, (tuple, list)):
                came = f"{len(outputs)} values"
            raise ContractError(
                f"forward of {self.class_name} returned {came}; "
                "expected three values, recon_x, mu, log_var (TODO 2.2.4)."
            )
        if len(calls) != 1:
            raise ContractError(
                f"forward of {self.class_name} called self.decode {len(calls)} times; "
                "expected self.decode(z, labels) once (TODO 2.2.4)."
            )
        recon_x, mu, log_var = outputs
        self._expect_shape("z, which forward gives to self.decode,", calls[0], CHECK_BATCH)
        self._expect_shape("mu, the second value of forward,", mu, CHECK_BATCH)
        self._expect_shape("log_var, the third value of forward,", log_var, CHECK_BATCH)
        self._as_images("forward", recon_x, CHECK_BATCH)
        self.encode(images, labels)

    def _check_loss(self) -> None:
        images, labels = self._check_batch()
        if hasattr(self.model, "compute_loss"):
            where = f"compute_loss of {self.class_name}"
            with self.explained("compute_loss"):
                parts = self.model.compute_loss(images, labels, 0.5)
            if not isinstance(parts, dict) or "loss" not in parts:
                raise ContractError(f"{where} must return a dict with a 'loss' and named parts.")
            loss = parts["loss"]
        elif self.vae_loss is None:
            raise ContractError(f"{self.path.name} has no function vae_loss (TODO 2.3).")
        else:
            where = "vae_loss"
            with self.explained("vae_loss"):
                recon_x, mu, log_var = self.model(images, labels)
                loss = self.vae_loss(recon_x, images, mu, log_var, var=0.5)
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            came = f"shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else repr(loss)
            raise ContractError(f"{where} returned {came}; expected one number, a 0-d tensor.")
        if not torch.isfinite(loss):
            raise ContractError(
                f"{where} is {loss.item()} on a random batch; expected a finite number. "
                "Look for a log or a division that can meet zero (TODO 2.3)."
            )
        if not loss.requires_grad:
            raise ContractError(
                f"{where} is cut off from the model's parameters; "
                "leave out .detach(), .item() and torch.no_grad()."
            )
        with self.explained(f"{where}, going backward"):
            loss.backward()

    def _expect_shape(self, what: str, tensor: object, batch: int) -> None:
        expected = (batch, self.latent_dim)
        came = tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
        if came != expected:
            raise ContractError(
                f"{what} of {self.class_name} is {came}; expected {expected}, (batch, latent_dim). "
                "Look at the layers that make mu and log_var (TODO 2.2.1, 2.2.2)."
            )
        if not torch.isfinite(tensor).all():
            raise NotFiniteError(f"{what} of {self.class_name} has values that are not finite.")

    def _as_images(self, where: str, images: object, batch: int) -> torch.Tensor:
        """Return the (B, 28, 28) view of a model's images after checking shape and range."""
        size = IMAGE_SIZE
        allowed = [(batch, size, size), (batch, 1, size, size), (batch, size * size)]
        came = tuple(images.shape) if isinstance(images, torch.Tensor) else type(images).__name__
        if came not in allowed:
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

    @contextmanager
    def explained(self, action: str, only_theirs: bool = False) -> Iterator[None]:
        """Turn an exception in the student's code into a ContractError with file and line.

        With `only_theirs`, one that did not come from the student's file passes as it is.
        """
        try:
            yield
        except (ContractError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            if only_theirs and _their_line(error, self.path) is None:
                raise
            raise ContractError(_explain(error, self.path, action)) from error


def submission_file(checkpoint_path: Path, state: dict) -> Path:
    """Return the file that a checkpoint was trained from: the run's own copy, else the original.

    The copy is there so that a submission edited since then does not spoil older checkpoints.
    Raises ContractError when neither is to be found.
    """
    candidates = [checkpoint_path.parent / "submission.py", Path(state.get("submission", ""))]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ContractError(
        f"the code that {checkpoint_path} was trained from is not beside it; "
        "give the file with --submission."
    )


class _WithoutNoise(TorchFunctionMode):
    """Makes torch's normal noise zero: mu + sigma * noise is then mu, wherever it is written."""

    ZERO = (torch.randn, torch.randn_like)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        drawn = function(*args, **(kwargs or {}))
        if function in self.ZERO:
            return torch.zeros_like(drawn)
        if function is torch.Tensor.normal_:
            return drawn.zero_()
        if function is torch.normal and args and isinstance(args[0], torch.Tensor):
            return args[0].expand(drawn.shape)  # the mean
        return drawn


def class_options(build: type) -> dict[str, bool | int | float | str]:
    """Return the options that a class offers: its plain class attributes, such as `depth = 3`."""
    found = {
        name: getattr(build, name)
        for base in getattr(build, "__mro__", ())
        for name in vars(base)
        if base not in (nn.Module, object) and not name.startswith("_")
    }
    kinds = (bool, int, float, str)
    return {name: value for name, value in found.items() if isinstance(value, kinds)}


def set_options(build: type, variant: str, where: str) -> None:
    """Set options of a class from "name=value,name=value". Raises ContractError."""
    offered = class_options(build)
    for pair in filter(None, variant.split(",")):
        name, _, text = pair.partition("=")
        if name not in offered:
            known = ", ".join(f"{name}={value}" for name, value in offered.items()) or "none"
            raise ContractError(
                f"{where} has no option {name!r}, which --variant sets; it has: {known}."
            )
        kind = type(offered[name])
        try:
            value = {"True": True, "False": False}[text] if kind is bool else kind(text)
        except (ValueError, KeyError):
            raise ContractError(
                f"--variant gives {name} the value {text!r}; expected {kind.__name__}, as "
                f"{name}={offered[name]} in {where}."
            ) from None
        setattr(build, name, value)


def _load_module(path: Path) -> ModuleType:
    """Run a submission file as a module of its own."""
    if not path.is_file():
        raise ContractError(f"{path} does not exist; give a submission file with --submission.")
    name = f"submission_{abs(hash(str(path.resolve())))}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ContractError(f"{path} is not a Python file; expected a name that ends in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up by name
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ContractError(_explain(error, path, "importing it")) from error
    return module


def _explain(error: Exception, path: Path, action: str) -> str:
    line = _their_line(error, path)
    place = f"{path.name}, line {line}" if line else path.name
    reason = " ".join(str(error).split()) or "no further words"
    return f"{place}, while {action}: {type(error).__name__}: {reason[:300]}"


def _their_line(error: Exception, path: Path) -> int | None:
    """Return the deepest line of the student's file on the way to the error."""
    if isinstance(error, SyntaxError):
        return error.lineno
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if Path(f.filename).resolve() == path.resolve()]
    return lines[-1] if lines else None

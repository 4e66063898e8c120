"""The experiments on a class, `VAE` or `GenModel`: each method by itself."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data_utils import NUM_CLASSES
from lab.checks.experiments import Experiments, largest_gradients
from lab.checks.recording import (
    DRAWS,
    FAR,
    IMAGE_SHAPES,
    LOG_VAR,
    NEAR_END,
    Recording,
    Setting,
)
from lab.loading import ContractError

METHODS = {"built": "__init__", **{name: name for name in ("encode", "decode", "forward")}}
PUSHES = 40  # training steps that try to move an output


class ModelRecorder(Experiments):
    """The experiments on one class."""

    def __init__(
        self, module: ModuleType, name: str, path: Path, setting: Setting, recording: Recording
    ) -> None:
        super().__init__(name, path, setting, recording)
        self.kind: Any = getattr(module, name, None)
        self.model: Any = None
        self.images: tuple[int, ...] | None = None  # the shape of an image that decode returns
        generator = torch.Generator().manual_seed(setting.seed)
        batch, d = setting.batch, setting.latent_dim
        self.x = torch.rand(batch, 1, 28, 28, generator=generator)  # (B, 1, 28, 28)
        self.z = torch.randn(batch, d, generator=generator)  # (B, d)
        labels = torch.randperm(NUM_CLASSES, generator=generator)
        self.labels = labels.repeat(1 + batch // NUM_CLASSES)[:batch]  # (B,)
        if name == "VAE":
            self.labels = torch.zeros_like(self.labels)
        self.mu = torch.randn(batch, d, generator=generator)  # (B, d), for the recorded encode
        signs = torch.where(torch.arange(d) % 2 == 0, 1.0, -1.0)  # (d,)
        self.log_var = (LOG_VAR * signs).repeat(batch, 1)  # (B, d)

    def record(self) -> None:
        """Run everything."""
        if not (isinstance(self.kind, type) and issubclass(self.kind, nn.Module)):
            what = "is not a torch.nn.Module" if self.kind else "is not in the file"
            self.recording.problems[f"{self.name}.built"] = f"class {self.name} {what}"
            return
        self.model = self._build("built", self.setting.latent_dim)
        if self.model is not None:
            self._decode()
        self._forward()
        if self.model is not None:
            self._encode()
            self._other_width()
            self._parameters()

    def _build(self, name: str, latent_dim: int) -> nn.Module | None:
        with self.experiment(name):
            model = self.kind(latent_dim=latent_dim)
            for method in ("encode", "reparameterize", "decode", "forward"):
                if method in model._modules:
                    raise ContractError(
                        f"self.{method} of {self.name} is a layer; expected a method "
                        f"`def {method}`. Give the layer another name"
                    )
            _perturb(model)
            trained = [one for one in model.parameters() if one.requires_grad]
            self.keep(name, float(len(trained)))
            return model.eval()
        return None

    def give_up(self, action: str, text: str) -> None:
        """Let the method raise this text from now on, so that it costs the time once."""

        def gives_up(*args: Any, **named: Any) -> None:
            raise ContractError(text)

        if method := METHODS.get(action):
            setattr(self.kind, method, gives_up)

    # ------------------------------------------------------------ decode

    def _decode(self) -> None:
        z, labels = self.z, self.labels
        with self.experiment("decode"), torch.no_grad():
            given = z.clone()
            self._keep_images("decode.images", self.model.decode(given, labels), remember=True)
            self.keep("decode.moved", (given - z).abs().max())
        with self.experiment("decode.again", seed=1), torch.no_grad():
            self._keep_images("decode.again", self.model.decode(z.clone(), labels))
        with self.experiment("decode.one", seed=2), torch.no_grad():
            self._keep_images("decode.one", self.model.decode(z[1:2].clone(), labels[1:2]))
        with self.experiment("decode.far"), torch.no_grad():
            self._keep_images("decode.far", self.model.decode(FAR * z, labels))
        with self.experiment("decode.labels"), torch.no_grad():
            same = z[:1].repeat(NUM_CLASSES, 1)  # (10, d)
            pictures = self.model.decode(same, torch.arange(NUM_CLASSES))
            self._keep_images("decode.labels", pictures)
        with self.experiment("decode.gradient"):
            given = z.clone().requires_grad_()
            self.keep(
                "decode.gradient", largest_gradients(self.model.decode(given, labels), [given])
            )
        far = self.recording.arrays.get(f"{self.name}.decode.far", np.zeros(1))
        ends = (
            ("decode.dark", 1.0, far.min(initial=1)),
            ("decode.bright", -1.0, 1 - far.max(initial=0)),
        )
        for name, sign, distance in ends:
            if distance < NEAR_END:
                continue  # such a pixel is there without training
            _import_optimizer()
            with self.experiment(name):
                model = copy.deepcopy(self.model)

                def brightness(model: Any = model, sign: float = sign) -> Tensor:
                    return sign * model.decode(z.clone(), labels).mean()

                self._push(model, brightness)
                with torch.no_grad():
                    shades = (sign * model.decode(z.clone(), labels)).flatten().sort().values
                    quarter = sign * shades[: max(len(shades) // 4, 1)]  # the nearest to the end
                    self.keep(name, quarter.mean())

    def _keep_images(self, name: str, images: object, remember: bool = False) -> None:
        if not isinstance(images, Tensor):
            raise ContractError(
                f"decode returned {type(images).__name__}; expected a tensor of images"
            )
        if remember and tuple(images.shape[1:]) in IMAGE_SHAPES:
            self.images = tuple(images.shape[1:])
        self.keep(name, images)

    # ------------------------------------------------------------ forward, with recorded parts

    def _forward(self) -> None:
        model = self.model if self.model is not None else self._bare()
        leaves = [self.mu.clone().requires_grad_(), self.log_var.clone().requires_grad_()]
        codes: list[Tensor] = []
        pictures: list[Tensor] = []
        seen: dict[str, Any] = {"encode": 0}
        shape = self.images or IMAGE_SHAPES[0]

        def encode(*args: Any, **named: Any) -> tuple[Tensor, Tensor]:
            seen["encode"] += 1
            return leaves[0] * 1, leaves[1] * 1  # copies, which forward may change in place

        def decode(*args: Any, **named: Any) -> Tensor:
            z, labels = _first_two(args, named)
            codes.append(z)
            seen["labels"] = labels
            shades = torch.sigmoid(z.float().flatten(1).mean(dim=1))  # (B,)
            pictures.append(shades.reshape(-1, *[1] * len(shape)).expand(-1, *shape))
            return pictures[-1]

        with self.experiment("forward"), _replaced(model.train(), encode=encode, decode=decode):
            outputs = model(self.x.clone(), self.labels)
            if not isinstance(outputs, (tuple, list)) or len(outputs) != 3:
                number = len(outputs) if isinstance(outputs, (tuple, list)) else 1
                raise ContractError(
                    f"forward returned {number} values; expected recon_x, mu, log_var"
                )
            self.keep("forward.given mu", self.mu)
            self.keep("forward.decoded", float(len(codes)))
            self.keep("forward.encoded", float(seen["encode"]))
            if codes:
                self._keep_forward(outputs, pictures[0], seen)
        if codes and f"{self.name}.forward" not in self.recording.problems:
            with self.experiment("forward.gradient"):
                self.keep("forward.gradient", largest_gradients(codes[0], leaves))
            with (
                self.experiment("forward.z", seed=3),
                _replaced(model, encode=encode, decode=decode),
                torch.no_grad(),
            ):
                codes.clear()
                for _ in range(DRAWS):
                    model(self.x.clone(), self.labels)
                self.keep("forward.z", torch.stack(codes[:DRAWS]))
            if self.model is not None:
                self._learned_prior(encode, decode, leaves, codes)
        model.eval()

    def _learned_prior(
        self,
        encode: Callable[..., Any],
        decode: Callable[..., Any],
        leaves: list[Tensor],
        codes: list[Tensor],
    ) -> None:
        """Keep what tells whether forward maps the draw with parameters and decode undoes the map.

        A learned prior does so. The images then depend on the draw, but not on the parameters of
        the map: with respect to these, the gradient through z and the direct one cancel.

        encode, decode, leaves: the recorded methods, mu and log_var. codes: filled by decode.
        """
        model, drawn, draw = self.model, torch.randn_like(self.mu).requires_grad_(), []
        with self.experiment("forward.undone"):
            codes.clear()
            given = {"encode": encode, "decode": decode}
            with _replaced(model, **given, reparameterize=lambda *_, **__: drawn * 1):
                model(self.x.clone(), self.labels)
            trained = [one for one in model.parameters() if one.requires_grad]
            sizes = largest_gradients(codes[0], trained)
            of_map = [one for one, size in zip(trained, sizes) if size]
            if not of_map:
                return
            both = model.decode(codes[0], self.labels), model.decode(codes[0].detach(), self.labels)
            cancelled, direct = (max(largest_gradients(images, of_map)) for images in both)
            inputs = largest_gradients(codes[0], [*leaves, drawn])
            self.keep("forward.undone", [cancelled, direct, *inputs])
            reparameterize = model.reparameterize

            def recorded(*args: Any, **named: Any) -> Any:
                draw.append(reparameterize(*args, **named))
                return draw[-1]

            with _replaced(model, **given, reparameterize=recorded), torch.no_grad():
                for _ in range(DRAWS):
                    model(self.x.clone(), self.labels)
            self.keep("forward.draw", torch.stack(draw[:DRAWS]))

    def _keep_forward(
        self, outputs: list[Any] | tuple[Any, ...], picture: Tensor, seen: dict[str, Any]
    ) -> None:
        recorded = {"recon_x": picture, "mu": self.mu, "log_var": self.log_var}
        for place, output in zip(("recon_x", "mu", "log_var"), outputs):
            same = [
                float(
                    isinstance(output, Tensor)
                    and output.numel() == other.numel()
                    and torch.equal(output.reshape(-1), other.reshape(-1))
                )
                for other in recorded.values()
            ]
            self.keep(f"forward.{place} is", same)
        labels = seen["labels"]
        if isinstance(labels, Tensor):
            whole = labels.argmax(1) if labels.dim() == 2 and labels.shape[1] > 1 else labels
            if whole.numel() == len(self.labels):
                self.keep("forward.labels", (whole.reshape(-1) == self.labels).float().mean())

    def _bare(self) -> Any:
        """Return a model without layers, for a class whose __init__ fails."""
        bare: Any = self.kind.__new__(self.kind)
        nn.Module.__init__(bare)
        bare.latent_dim = self.setting.latent_dim
        return bare

    # ------------------------------------------------------------ encode

    def _encode(self) -> None:
        x, labels = self.x, self.labels
        other = labels if self.name == "VAE" else (labels + 3) % NUM_CLASSES
        with self.experiment("encode"), torch.no_grad():
            given = x.clone()
            mu, log_var = self._encoded(self.model, given, labels)
            self.keep("encode.mu", mu)
            self.keep("encode.log_var", log_var)
            self.keep("encode.moved", (given - x).abs().max())
        with self.experiment("encode.again", seed=1), torch.no_grad():
            both = self._encoded(self.model, x.clone(), labels)
            self.keep("encode.again", torch.cat(both, dim=-1))
        with self.experiment("encode.one", seed=2), torch.no_grad():
            both = self._encoded(self.model, x[1:2].clone(), labels[1:2])
            self.keep("encode.one", torch.cat(both, dim=-1))
        with self.experiment("encode.labels"), torch.no_grad():
            both = self._encoded(self.model, x.clone(), other)
            self.keep("encode.labels", torch.cat(both, dim=-1))
        with self.experiment("encode.gradient"):
            parameters = [one for one in self.model.parameters() if one.requires_grad]
            gradients = [
                max(largest_gradients(part, parameters), default=0.0)
                for part in self._encoded(self.model, x.clone(), labels)
            ]
            self.keep("encode.gradient", gradients)
        for place, name in enumerate(("mu", "log_var")):
            values = self.recording.arrays.get(f"{self.name}.encode.{name}", np.zeros(0))
            if (values < 0).any():
                continue
            name = f"encode.low_{name}"
            _import_optimizer()
            with self.experiment(name):
                model = copy.deepcopy(self.model)

                def mean(model: Any = model, place: int = place) -> Tensor:
                    return self._encoded(model, x.clone(), labels)[place].mean()

                self._push(model, mean)
                with torch.no_grad():
                    self.keep(name, self._encoded(model, x.clone(), labels)[place].min())

    def _encoded(self, model: Any, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and log_var of images, with the inputs that forward gives to encode."""
        args, named = self._inputs_of_encode(model, x, labels)
        outputs = model.encode(*args, **named)
        if not isinstance(outputs, (tuple, list)) or len(outputs) != 2:
            came = type(outputs).__name__
            if isinstance(outputs, (tuple, list)):
                came = f"{len(outputs)} values"
            raise ContractError(f"encode returned {came}; expected mu and log_var")
        mu, log_var = outputs
        if not (isinstance(mu, Tensor) and isinstance(log_var, Tensor)):
            raise ContractError(
                "encode returned something that is not a tensor; expected mu, log_var"
            )
        return mu, log_var

    def _inputs_of_encode(
        self, model: Any, x: Tensor, labels: Tensor
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return what forward gives to encode; the images and labels if forward does not call it.

        A submission may flatten the images in forward, or leave the labels out.
        """

        def encode(*args: Any, **named: Any) -> None:
            raise _Reached(args, named)

        try:
            with _replaced(model, encode=encode):
                model(x, labels)
        except _Reached as reached:
            return reached.args_given, reached.named
        except Exception:  # a fault of forward, which is another TODO
            pass
        takes = len(inspect.signature(model.encode).parameters)
        return ((x, labels) if takes > 1 else (x,)), {}

    # ------------------------------------------------------------ layers

    def _other_width(self) -> None:
        """Build the model with another latent_dim and see which width its codes have."""
        d = self.setting.other_dim
        other = self._build("other", d)
        if other is None:
            return
        with self.experiment("other.encode"), torch.no_grad():
            mu, _ = self._encoded(other, self.x.clone(), self.labels)
            self.keep("other.encode", mu.shape[-1])
        with self.experiment("other.decode"), torch.no_grad():
            method: Callable[..., Any] = getattr(other, "decode")  # noqa: B009  not a Tensor
            method(self.z[:, :1].repeat(1, d), self.labels)
            self.keep("other.decode", 1.0)

    def _parameters(self) -> None:
        """Count parameters that are made in a call, and those that no output depends on."""
        made: list[str] = []

        def note(module: nn.Module, name: str, parameter: object) -> None:
            made.append(name)

        registration = nn.modules.module.register_module_parameter_registration_hook(note)
        try:
            with self.experiment("layers"):
                outputs = self._all_outputs()
        finally:
            registration.remove()
        self.keep("layers.made", float(len(made)))
        if f"{self.name}.layers" in self.recording.problems:
            return
        with self.experiment("layers"):
            parameters = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
            total = sum((output.float().square().sum() for output in outputs), torch.zeros(()))
            found = largest_gradients(total, list(parameters.values()))
            unused = [name for name, size in zip(parameters, found) if not size]
            self.keep("layers.unused", float(len(unused)))
            if unused:
                more = " ..." if len(unused) > 3 else ""
                names = ", ".join(unused[:3]) + more
                self.recording.problems[f"{self.name}.layers.unused"] = names

    def _all_outputs(self) -> list[Tensor]:
        count = 2 * NUM_CLASSES  # each label, because a layer may serve one of them
        labels = torch.arange(count) % NUM_CLASSES
        labels = labels if self.name == "GenModel" else torch.zeros_like(labels)
        x = self.x.repeat(count, 1, 1, 1)[:count].flip(2)
        z = torch.randn(count, self.setting.latent_dim)
        outputs = [*self._encoded(self.model, x, labels), self.model.decode(z, labels)]
        if hasattr(self.model, "compute_loss"):
            outputs.append(self.model.compute_loss(x, labels, 0.5)["loss"])
        return outputs

    def _push(self, model: Any, goal: Callable[[], Tensor]) -> None:
        """Train a copy of the model a little, so that a quantity becomes small."""
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(PUSHES):
            optimizer.zero_grad()
            value = goal()
            if not value.requires_grad:
                return
            value.backward()
            optimizer.step()


@functools.cache
def _import_optimizer() -> None:
    """Import what Adam needs when it is first used: seconds, which no experiment should pay."""
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])


def _perturb(model: nn.Module) -> None:
    """Move parameters that are all equal, such as zeros, a little.

    A layer that starts at zero has no effect before training, and that is no mistake.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.numel() and (parameter == parameter.flatten()[0]).all():
                parameter.add_(0.05 * torch.randn_like(parameter))


class _Reached(BaseException):
    """Carries the inputs of encode out of forward. No `except Exception` of a student keeps it."""

    def __init__(self, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        self.args_given, self.named = args, named


@contextmanager
def _replaced(model: Any, **methods: Callable[..., Any]) -> Iterator[None]:
    """Replace methods of one model for the duration of a `with` block."""
    before = {name: vars(model)[name] for name in methods if name in vars(model)}
    vars(model).update(methods)
    try:
        yield
    finally:
        for name in methods:
            del vars(model)[name]
        vars(model).update(before)


def _first_two(args: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
    """Return z and labels of a call of decode; labels may be missing."""
    named = dict(named)
    given = [*args, *(named.pop(name) for name in ("z", "labels") if name in named)]
    given += named.values()
    return given[0], given[1] if len(given) > 1 else None

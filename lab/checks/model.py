"""Judge what a class returned, `VAE` or `GenModel`, from its recording alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lab.checks.found import Problem, raised, untested
from lab.checks.recording import DRAWS, IMAGE_SHAPES, LOG_VAR, NEAR_END, Recording, Setting

Checked = dict[str, "Problem | None"]
ROUNDING = 1e-3  # two results that should be equal may differ by this
IN_RANGE = 1e-3  # how far outside [0, 1] a pixel may lie
SPREAD = 0.2  # how far the measured spread of z may be from the expected one
AMOUNT = 0.93  # correlation of labels' distances and images' distances, if labels are amounts
NO_GRADIENT, CONSTANT_MU, CONSTANT_IMAGES = "no gradient", "constant mu", "constant images"
NUMBERS = {  # of the TODOs of each class: layers, encode, decode, forward
    "VAE": ("2.2.1", "2.2.2", "2.2.3", "2.2.4"),
    "GenModel": ("3.1", "3.2", "3.3", "3.4"),
}


class ModelJudge:
    """Judges one class.

    Args:
        name: "VAE" or "GenModel".
        recording: what the class returned.
        setting: the sizes of the recording.
    """

    def __init__(self, name: str, recording: Recording, setting: Setting) -> None:
        self.name, self.recording, self.setting = name, recording, setting
        self.layers, self.encoding, self.decoding, self.forwarding = NUMBERS[name]

    def judge(self) -> dict[str, Checked]:
        """Return what is wrong by TODO and check; None where nothing is."""
        checks: dict[str, dict[str, Callable[[], Problem | None]]] = {
            self.layers: {
                "builds": self.builds,
                "latent_dim": self.follows_latent_dim,
                "layers": self.layers_are_used,
            },
            self.encoding: {
                "shapes": self.shapes_of_codes,
                "rows": self.rows_of_codes,
                "signs": self.signs,
                "repeats": self.encode_repeats,
            },
            self.decoding: {
                "shapes": self.shapes_of_images,
                "range": self.range,
                "rows": self.rows_of_images,
                "repeats": self.decode_repeats,
            },
            self.forwarding: {
                "returns": self.returns,
                "draw": self.draw,
                "gradient": self.gradient,
            },
        }
        if self.name == "GenModel":
            del checks[self.decoding]["range"]  # is part of the first
            checks[self.decoding]["shapes"] = self.shapes_and_range
            checks[self.decoding] |= {"label": self.label, "category": self.category}
        return {
            todo: {name: check() for name, check in of_todo.items()}
            for todo, of_todo in checks.items()
        }

    # ------------------------------------------------------------ the recording

    def _array(self, name: str) -> np.ndarray | None:
        return self.recording.arrays.get(f"{self.name}.{name}")

    def _shape(self, name: str) -> tuple[int, ...] | None:
        found = self._array(f"{name} shape")
        return None if found is None else tuple(int(size) for size in found)

    def _missing(self, name: str) -> Problem:
        """Return the problem of an experiment that has no result."""
        built = self._array("built") is not None
        for place in (name, name.split(".")[0]):
            text = self.recording.problems.get(f"{self.name}.{place}")
            # Without layers, forward may miss what __init__ has not made.
            if text is not None and (built or "has no attribute" not in text):
                return raised(text)
        return untested(f"TODO {self.layers}")

    # ------------------------------------------------------------ layers

    def builds(self) -> Problem | None:
        """The class is built, and has something to train."""
        count = self._array("built")
        if count is None:
            if text := self.recording.problems.get("file"):
                return raised(text)
            return self._missing("built")
        if not count:
            return Problem(
                "no layers",
                f"{self.name} has no parameters to train",
                "make the layers in __init__ and assign them to self",
            )
        return None

    def follows_latent_dim(self) -> Problem | None:
        """Codes have the width that was asked for, and decode takes this width."""
        if self.builds():
            return untested(f"TODO {self.layers}, that the model is built,")
        wanted = ((self.setting.latent_dim, "encode.mu"), (self.setting.other_dim, "other.encode"))
        for d, name in wanted:
            width = self._shape(name) if name == "encode.mu" else self._array(name)
            if width is None or np.size(width) == 0:
                continue  # a fault of encode, which is another TODO
            came = int(np.ravel(width)[-1])
            if came != d:
                return Problem(
                    "latent_dim ignored",
                    f"built with latent_dim={d}, mu has {came} values",
                    "use latent_dim in the layers instead of a number",
                )
        if self._array("decode.images") is not None and self._array("other.decode") is None:
            return Problem(
                "latent_dim ignored",
                f"built with latent_dim={self.setting.other_dim}, decode does not take its codes",
                "use latent_dim in the decoder's first layer instead of a number",
            )
        if text := self.recording.problems.get(f"{self.name}.other"):
            return raised(text)
        return None

    def layers_are_used(self) -> Problem | None:
        """No layer is made during a call, and each has an effect."""
        made = self._array("layers.made")
        if made is None:
            return untested(f"TODO {self.layers}, that the model is built,")
        if made:
            return Problem(
                "layers made in a call",
                "a layer is made anew in each call of encode, decode or forward",
                "make layers in __init__; a new layer has random weights, which never train",
            )
        unused = self._array("layers.unused")
        if unused is not None and unused and not self._stops():
            names = self.recording.problems[f"{self.name}.layers.unused"]
            return Problem(
                "unused layers",
                f"no gradient reaches {names}",
                "a layer that encode and decode do not use, a .detach() after it, or dead ReLUs",
            )
        return None

    def _stops(self) -> bool:
        """Return whether another check finds that gradients or values do not pass."""
        found = [self.encode_repeats(), self.decode_repeats(), self.rows_of_codes()]
        kinds = {problem.kind for problem in [*found, self.rows_of_images()] if problem}
        return bool(kinds & {NO_GRADIENT, CONSTANT_MU, CONSTANT_IMAGES})

    # ------------------------------------------------------------ encode

    def shapes_of_codes(self) -> Problem | None:
        """mu and log_var are (B, d), and finite."""
        width = self._width()
        for name in ("mu", "log_var"):
            shape = self._shape(f"encode.{name}")
            if shape is None:
                return self._missing("encode")
            if shape != (self.setting.batch, width):
                return Problem(
                    f"shape of {name}",
                    f"{name} of {self.setting.batch} images is {shape}; "
                    f"expected {(self.setting.batch, width)}",
                    "both are (B, latent_dim): flatten the features, then two linear layers",
                )
            values = self._array(f"encode.{name}")
            if values is None or not np.isfinite(values).all():
                return Problem(
                    f"{name} not finite",
                    f"{name} has values that are not finite",
                    "look for a division by zero, a logarithm, or an exp of a large number",
                )
        one = self._shape("encode.one")
        if one != (1, 2 * width):
            if one is None:
                problem = self._missing("encode.one")
                return Problem(problem.kind, f"for one image: {problem.text}", problem.hint)
            return Problem(
                "encode of one image",
                f"mu and log_var of one image have the shape {one}; expected {(1, width)} each",
                "avoid squeeze() and fixed batch sizes",
            )
        return None

    def _width(self) -> int:
        """Return the width of the codes; a wrong one is a fault of the layers, not of encode."""
        shape = self._shape("encode.mu")
        return shape[-1] if shape and self._is_latent_dim_ignored() else self.setting.latent_dim

    def _is_latent_dim_ignored(self) -> bool:
        problem = self.follows_latent_dim()
        return problem is not None and problem.kind == "latent_dim ignored"

    def rows_of_codes(self) -> Problem | None:
        """mu depends on the image, and not on the other images."""
        mu, one = self._array("encode.mu"), self._array("encode.one")
        if mu is None:
            return self._missing("encode")
        if len(np.atleast_1d(mu)) != self.setting.batch:
            return None  # counted by shapes_of_codes
        mu = mu.reshape(self.setting.batch, -1)
        if np.abs(mu - mu[:1]).max() < 1e-7:
            return Problem(
                CONSTANT_MU,
                "all images have the same mu",
                "mu must depend on x: does x reach the last layer?",
            )
        if self._differs("encode") or one is None or one.size != 2 * mu.shape[1]:
            return None  # counted by encode_repeats and shapes_of_codes
        if not _near(mu[1], one.ravel()[: mu.shape[1]]):
            return Problem(
                "codes mixed",
                "the code of an image depends on the other images in the batch",
                "nothing may mix the rows of a batch (dim 0); keep B first: x.flatten(1)",
            )
        return None

    def signs(self) -> Problem | None:
        """Both outputs can be below zero, as a mean and a logarithm can."""
        for name in ("mu", "log_var"):
            values = self._array(f"encode.{name}")
            low = self._array(f"encode.low_{name}")
            if values is None:
                return self._missing("encode")
            if (values >= 0).all() and low is not None and low >= 0:
                if name == "mu":
                    return Problem(
                        "mu never negative",
                        "mu is never negative, even after training that pushes it down",
                        "no ReLU, sigmoid or exp after the layer of mu",
                    )
                return Problem(
                    "log_var never negative",
                    "log_var is never negative, even after training that pushes it down",
                    "return the logarithm itself: reparameterize takes exp(0.5 * log_var), so no "
                    "exp, ReLU or softplus in encode",
                )
        return None

    def encode_repeats(self) -> Problem | None:
        """The same images give the same codes, x is unchanged, and gradients reach the layers."""
        if self._shape("encode.mu") is None:
            return self._missing("encode")
        if problem := self._moved("encode", "x"):
            return problem
        if self._differs("encode") and not self._makes_layers():
            return Problem(
                "encode draws",
                "two calls with the same images give different mu, in evaluation mode",
                "draw noise in reparameterize only; use nn.Dropout, which knows model.eval()",
            )
        gradient = self._array("encode.gradient")
        if gradient is None:
            return self._missing("encode.gradient")
        for name, size in zip(("mu", "log_var"), gradient):
            if not size:
                return Problem(
                    NO_GRADIENT,
                    f"no gradient flows from {name} to the layers",
                    "remove .detach(), .item(), .data and torch.no_grad()",
                )
        return None

    # ------------------------------------------------------------ decode

    def shapes_of_images(self) -> Problem | None:
        """Images have one of the allowed shapes, for many codes and for one."""
        for name, count in (("decode.images", self.setting.batch), ("decode.one", 1)):
            shape = self._shape(name)
            if shape is None:
                problem = self._missing("decode" if name == "decode.images" else name)
                words = "" if count > 1 else "for one code: "
                return Problem(problem.kind, words + problem.text, problem.hint)
            allowed = [(count, *one) for one in IMAGE_SHAPES]
            if shape not in allowed:
                return Problem(
                    "shape of images",
                    f"decode gives {shape} for {count} codes; expected "
                    f"{allowed[0]}, {allowed[1]} or {allowed[2]}",
                    "one image per code; avoid squeeze() and fixed batch sizes",
                )
        if self._array("decode.far") is None:
            return self._missing("decode.far")
        return None

    def range(self) -> Problem | None:
        """Pixels lie in [0, 1], and training can bring them near 0 and near 1."""
        images, far = self._array("decode.images"), self._array("decode.far")
        if images is None or far is None:
            return self._missing("decode")
        both = np.concatenate([images.ravel(), far.ravel()])
        if not np.isfinite(both).all():
            return Problem(
                "images not finite",
                "pixels are not finite",
                "look for a division by zero or an exp of a large number",
            )
        low, high = float(both.min()), float(both.max())
        if low < -IN_RANGE or high > 1 + IN_RANGE:
            return Problem(
                "images out of range",
                f"pixels lie in [{low:.3g}, {high:.3g}]; expected [0, 1]",
                "end the decoder with a sigmoid",
            )
        dark, bright = self._array("decode.dark"), self._array("decode.bright")
        darkest = low if dark is None else float(dark)
        brightest = high if bright is None else float(bright)
        if darkest > NEAR_END or brightest < 1 - NEAR_END:
            return Problem(
                "images confined",
                f"training moves pixels only between {darkest:.2f} and {brightest:.2f}; they must "
                "come near 0 and 1",
                "one sigmoid at the end is enough: two leave pixels between 0.5 and 0.73",
            )
        return None

    def shapes_and_range(self) -> Problem | None:
        """Both of the above."""
        return self.shapes_of_images() or self.range()

    def rows_of_images(self) -> Problem | None:
        """The image of a code depends on this code alone."""
        images, one = self._array("decode.images"), self._array("decode.one")
        far = self._array("decode.far")
        if images is None or far is None:
            return self._missing("decode")
        if not len(np.atleast_1d(images)) == len(np.atleast_1d(far)) == self.setting.batch:
            return None  # counted by shapes_of_images
        images, far = (array.reshape(self.setting.batch, -1) for array in (images, far))
        if np.abs(far - far[:1]).max() < 1e-6 and np.abs(images - images[:1]).max() < 1e-6:
            return Problem(
                CONSTANT_IMAGES,
                "all codes have the same image",
                "the image must depend on z: does z reach the last layer?",
            )
        if self._differs("decode") or one is None or one.size != images.shape[1]:
            return None  # counted by decode_repeats and shapes_of_images
        if not _near(images[1], one.ravel()):
            return Problem(
                "images mixed",
                "the image of a code depends on the other codes in the batch",
                "in decode, nothing may mix the rows of a batch (dim 0)",
            )
        return None

    def decode_repeats(self) -> Problem | None:
        """The same codes give the same images, z is unchanged, and gradients flow."""
        if self._shape("decode.images") is None:
            return self._missing("decode")
        if problem := self._moved("decode", "z"):
            return problem
        if self._differs("decode") and not self._makes_layers():
            return Problem(
                "decode draws",
                "two calls with the same codes give different images, in evaluation mode",
                "decode draws nothing; use nn.Dropout, which knows model.eval()",
            )
        gradient = self._array("decode.gradient")
        if gradient is None:
            return self._missing("decode.gradient")
        if not gradient.any() and not self._is_constant("decode.far"):
            return Problem(
                NO_GRADIENT,
                "no gradient flows from the images to z",
                "remove .detach(), .item(), .data and torch.no_grad()",
            )
        return None

    def label(self) -> Problem | None:
        """One code has different images for different labels."""
        images = self._array("decode.labels")
        if images is None:
            return self._missing("decode.labels")
        if np.abs(images - images[:1]).max() < 1e-6:
            return Problem(
                "label ignored",
                "decode gives the same image for every label",
                "append the label, one-hot or embedded, to z",
            )
        return None

    def category(self) -> Problem | None:
        """Labels that are near as numbers are not more alike than others."""
        images = self._array("decode.labels")
        if images is None:
            return self._missing("decode.labels")
        if self.label():
            return None  # counted by `label`
        rows = images.reshape(len(images), -1)
        first, second = np.triu_indices(len(rows), 1)
        distances = np.linalg.norm(rows[first] - rows[second], axis=1)
        if np.corrcoef(distances, second - first)[0, 1] > AMOUNT:
            return Problem(
                "label as an amount",
                "images of labels that are near as numbers are alike: 3 and 4 more than 3 and 8",
                "a label is a category: use F.one_hot(labels, 10) or an embedding",
            )
        return None

    # ------------------------------------------------------------ forward

    def returns(self) -> Problem | None:
        """The three outputs are what decode and encode gave, in this order."""
        if self._array("forward.decoded") is None:
            return self._missing("forward")
        if not self._array("forward.encoded"):
            return Problem(
                "encode not called",
                "forward does not call self.encode",
                "write mu, log_var = self.encode(x, labels)",
            )
        if not self._array("forward.decoded"):
            return Problem(
                "decode not called",
                "forward does not call self.decode",
                "write recon_x = self.decode(z, labels)",
            )
        places = ("recon_x", "mu", "log_var")
        for place, name in enumerate(places):
            same = self._array(f"forward.{name} is")
            if same is None or not same[place]:
                came = "something else"
                if same is not None and same.any():
                    came = places[int(same.argmax())]
                return Problem(
                    "outputs of forward",
                    f"the output in the place of {name} is {came}",
                    "return recon_x, mu, log_var in this order, unchanged",
                )
        return None

    def draw(self) -> Problem | None:
        """decode is called once, with z = mu + sigma * noise (and the labels)."""
        calls = self._array("forward.decoded")
        if calls is None:
            return self._missing("forward")
        if calls != 1:
            return Problem(
                "calls of decode",
                f"forward calls self.decode {int(calls)} times; expected once",
                "write recon_x = self.decode(z, labels) once",
            )
        if not self._array("forward.encoded"):
            return None  # counted by `returns`; its mu and log_var are not known
        batch, d = self.setting.batch, self.setting.latent_dim
        z = self._array("forward.z")
        if z is None:
            return self._missing("forward.z")
        if z.shape != (DRAWS, batch, d):
            return Problem(
                "shape of z",
                f"z of {batch} images is {z.shape[1:]}; expected {(batch, d)}",
                "z has the shape of mu",
            )
        if self.name == "GenModel":
            right = self._array("forward.labels")
            if right is None or right < 1:
                return Problem(
                    "labels not passed",
                    "forward does not give its labels to decode",
                    "write self.decode(z, labels)",
                )
        return self._spread(z)

    def _spread(self, z: np.ndarray) -> Problem | None:
        """Return what is wrong with the noise in z (draws, B, d)."""
        noise = z - z.mean(axis=0)  # without mu
        if np.abs(noise).max() < 1e-6:
            apart = np.abs(z[0] - self._recorded_mu()).max()
            if apart < ROUNDING:
                return Problem(
                    "no noise",
                    "z is mu, without noise",
                    "write z = self.reparameterize(mu, log_var)",
                )
            return Problem(
                "same noise",
                "z has the same noise in each call",
                "draw new noise in each call: torch.randn_like(sigma) in reparameterize",
            )
        high, low = noise[..., 0::2].std(), noise[..., 1::2].std()
        sigma = np.exp(0.5 * LOG_VAR), np.exp(-0.5 * LOG_VAR)
        if _about(high, sigma[0]) and _about(low, sigma[1]):
            if np.abs(noise - noise[:, :1]).max() < 1e-6:
                return Problem(
                    "shared noise",
                    "all images of a batch have the same noise",
                    "draw noise of the shape of mu",
                )
            if np.abs(z.mean(axis=0) - self._recorded_mu()).mean() > 0.5:
                return Problem(
                    "mean of z",
                    "the mean of z is not mu",
                    "z = mu + sigma * noise, with noise ~ N(0, I)",
                )
            return None
        hint = "z = mu + sigma * noise with sigma = exp(0.5 * log_var)"
        kinds = {
            "sigma is exp(log_var), which is the variance": (sigma[0] ** 2, sigma[1] ** 2),
            "log_var itself multiplies the noise": (LOG_VAR, LOG_VAR),
            "the noise is not multiplied by sigma": (1.0, 1.0),
            "sigma is exp(-0.5 * log_var)": (sigma[1], sigma[0]),
        }
        for words, (a, b) in kinds.items():
            if _about(high, a) and _about(low, b):
                return Problem("spread of z", words, hint)
        return Problem(
            "spread of z",
            f"for log_var = {LOG_VAR} the spread of z is {high:.2f}; expected {sigma[0]:.2f}",
            hint,
        )

    def _recorded_mu(self) -> Any:
        found = self._array("forward.given mu")
        return 0.0 if found is None else found

    def gradient(self) -> Problem | None:
        """Gradients flow from z to mu and log_var."""
        if self._array("forward.decoded") is None:
            return self._missing("forward")
        if not self._array("forward.encoded") or not self._array("forward.decoded"):
            return None  # counted by `returns`
        found = self._array("forward.gradient")
        if found is None:
            return self._missing("forward.gradient")
        problem = self.draw()
        without_sigma = problem is not None and problem.kind in ("no noise", "spread of z")
        for name, size in zip(("mu", "log_var"), found):
            if not size and not (name == "log_var" and without_sigma):
                return Problem(
                    "no gradient in forward",
                    f"no gradient flows from z to {name}",
                    "remove .detach(), .item(), .data and torch.no_grad()",
                )
        return None

    # ------------------------------------------------------------ shared

    def _moved(self, method: str, what: str) -> Problem | None:
        moved = self._array(f"{method}.moved")
        if moved is not None and moved > 0:
            return Problem(
                f"{method} in place",
                f"{method} changes {what} in place",
                f"write {what} = ... instead of {what}[...] = ..., {what} -= ... or a method_()",
            )
        return None

    def _differs(self, method: str) -> bool:
        """Return whether two calls with the same inputs and other random numbers differ."""
        again = self._array(f"{method}.again")
        if method == "encode":
            mu, log_var = self._array("encode.mu"), self._array("encode.log_var")
            if mu is None or log_var is None or mu.ndim != log_var.ndim:
                return False
            first = np.concatenate([mu, log_var], axis=-1) if mu.ndim else mu
        else:
            found = self._array("decode.images")
            if found is None:
                return False
            first = found
        return again is not None and not (again.shape == first.shape and _near(again, first))

    def _makes_layers(self) -> bool:
        """Return whether calls make layers, which layers_are_used counts."""
        made = self._array("layers.made")
        return made is not None and bool(made)

    def _is_constant(self, name: str) -> bool:
        found = self._array(name)
        return found is not None and len(found) > 0 and np.abs(found - found[:1]).max() < 1e-6


def notes(recording: Recording) -> list[str]:
    """Return what is allowed in a submission but may surprise its author."""
    arrays = recording.arrays
    names = ("mu", "log_var", "labels")
    found = [arrays.get(f"GenModel.encode.{name}") for name in names]
    mu, log_var, changed = found
    if mu is None or log_var is None or changed is None or mu.ndim != log_var.ndim:
        return []
    if _near(changed, np.concatenate([mu, log_var], axis=-1)):
        return ["encode of GenModel does not use the label; that is allowed"]
    return []


def _near(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and np.allclose(a, b, rtol=ROUNDING, atol=1e-4)


def _about(a: float, b: float) -> bool:
    return abs(a - b) < SPREAD * b

"""Judge what encode returned."""

from __future__ import annotations

import numpy as np

from lab.checks.found import Problem
from lab.checks.seen import CONSTANT_MU, NO_GRADIENT, Checked, Seen, near


class EncodeJudge(Seen):
    """Judges the TODO of encode, 2.2.2 and 3.2."""

    def judge(self) -> Checked:
        """Return what is wrong, by check; None where nothing is."""
        return {
            "shapes": self.attempt(self.shapes_of_codes),
            "rows": self.attempt(self.rows_of_codes),
            "signs": self.attempt(self.signs),
            "repeats": self.attempt(self.encode_repeats),
        }

    def shapes_of_codes(self) -> Problem | None:
        """mu and log_var are (B, d), and finite."""
        width = self._width()
        for name in ("mu", "log_var"):
            shape = self.shape(f"encode.{name}")
            if shape is None:
                return self.missing("encode")
            if shape != (self.setting.batch, width):
                return Problem(
                    f"shape of {name}",
                    f"{name} of {self.setting.batch} images is {shape}; "
                    f"expected {(self.setting.batch, width)}",
                    "both are (B, latent_dim): flatten the features, then two linear layers",
                )
            values = self.array(f"encode.{name}")
            if values is None or not np.isfinite(values).all():
                return Problem(
                    f"{name} not finite",
                    f"{name} has values that are not finite",
                    "look for a division by zero, a logarithm, or an exp of a large number",
                )
        one = self.shape("encode.one")
        if one != (1, 2 * width):
            if one is None:
                problem = self.missing("encode.one")
                return Problem(problem.kind, f"for one image: {problem.text}", problem.hint)
            return Problem(
                "encode of one image",
                f"mu and log_var of one image have the shape {one}; expected {(1, width)} each",
                "avoid squeeze() and fixed batch sizes",
            )
        return None

    def _width(self) -> int:
        """Return the expected width of the codes.

        A model that ignores latent_dim has the same width for each; that is a fault of the layers.
        """
        shape, other = self.shape("encode.mu"), self.array("other.encode")
        if shape and other is not None and other.size and shape[-1] == int(other.ravel()[-1]):
            return shape[-1]
        return self.setting.latent_dim

    def rows_of_codes(self) -> Problem | None:
        """mu depends on the image, and not on the other images."""
        mu, one = self.array("encode.mu"), self.array("encode.one")
        if mu is None:
            return self.missing("encode")
        if len(np.atleast_1d(mu)) != self.setting.batch:
            return None  # counted by shapes_of_codes
        mu = mu.reshape(self.setting.batch, -1)
        if np.abs(mu - mu[:1]).max() < 1e-7:
            return Problem(
                CONSTANT_MU,
                "all images have the same mu",
                "mu must depend on x: does x reach the last layer?",
            )
        if self.differs("encode"):
            return None  # counted by encode_repeats
        if one is None or one.size != 2 * mu.shape[1]:
            return None if self.shapes_of_codes() else self.missing("encode.one")
        if not near(mu[1], one.ravel()[: mu.shape[1]]):
            return Problem(
                "codes mixed",
                "the code of an image depends on the other images in the batch",
                "nothing may mix the rows of a batch (dim 0); keep B first: x.flatten(1)",
            )
        return None

    def signs(self) -> Problem | None:
        """Both outputs can be below zero, as a mean and a logarithm can."""
        for name in ("mu", "log_var"):
            values = self.array(f"encode.{name}")
            low = self.array(f"encode.low_{name}")
            if values is None:
                return self.missing("encode")
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
        if self.shape("encode.mu") is None:
            return self.missing("encode")
        if problem := self.moved("encode", "x"):
            return problem
        if self.array("encode.again") is None:
            return self.missing("encode.again")
        if self.differs("encode") and not self.makes_layers():
            return Problem(
                "encode draws",
                "two calls with the same images give different mu, in evaluation mode",
                "draw noise in reparameterize only; use nn.Dropout, which knows model.eval()",
            )
        gradient = self.array("encode.gradient")
        if gradient is None or not np.isfinite(gradient).all():
            return self.missing("encode.gradient")
        for name, size in zip(("mu", "log_var"), gradient):
            if not size:
                return Problem(
                    NO_GRADIENT,
                    f"no gradient flows from {name} to the layers",
                    "remove .detach(), .item(), .data and torch.no_grad()",
                )
        return None

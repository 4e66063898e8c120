"""Judge what forward did with a recorded encode and decode."""

from __future__ import annotations

from typing import Any

import numpy as np

from lab.checks.found import Problem
from lab.checks.recording import DRAWS, LOG_VAR
from lab.checks.seen import ROUNDING, Checked, Seen, about

MEAN, SPREAD_OF_Z = "mean of z", "spread of z"  # kinds of a problem
CANCELS = 1e-3  # what rounding may leave of two gradients that cancel
SPREAD = 0.2  # how far the measured spread of z may be from the expected one


class ForwardJudge(Seen):
    """Judges the TODO of forward, 2.2.4 and 3.4."""

    def judge(self) -> Checked:
        """Return what is wrong, by check; None where nothing is."""
        return {
            "returns": self.attempt(self.returns),
            "draw": self.attempt(self.draw),
            "gradient": self.attempt(self.gradient),
        }

    def returns(self) -> Problem | None:
        """The three outputs are what decode and encode gave, in this order."""
        if self.array("forward.decoded") is None:
            return self.missing("forward")
        if not self.array("forward.encoded"):
            return Problem(
                "encode not called",
                "forward does not call self.encode",
                "write mu, log_var = self.encode(x, labels)",
            )
        if not self.array("forward.decoded"):
            return Problem(
                "decode not called",
                "forward does not call self.decode",
                "write recon_x = self.decode(z, labels)",
            )
        places = ("recon_x", "mu", "log_var")
        for place, name in enumerate(places):
            same = self.array(f"forward.{name} is")
            if same is None or same[place] != 1:
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
        calls = self.array("forward.decoded")
        if calls is None:
            return self.missing("forward")
        if calls != 1:
            return Problem(
                "calls of decode",
                f"forward calls self.decode {int(calls)} times; expected once",
                "write recon_x = self.decode(z, labels) once",
            )
        if not self.array("forward.encoded"):
            return None  # counted by `returns`; its mu and log_var are not known
        batch, d = self.setting.batch, self.setting.latent_dim
        z = self.array("forward.z")
        if z is None:
            return self.missing("forward.z")
        if z.shape != (DRAWS, batch, d):
            return Problem(
                "shape of z",
                f"z of {batch} images is {z.shape[1:]}; expected {(batch, d)}",
                "z has the shape of mu",
            )
        if self.name == "GenModel":
            right = self.array("forward.labels")
            if right is None or right < 1:
                return Problem(
                    "labels not passed",
                    "forward does not give its labels to decode",
                    "write self.decode(z, labels)",
                )
        problem = self._spread(z)
        if problem is not None and problem.kind in (MEAN, SPREAD_OF_Z) and self._is_undone():
            draw = self.array("forward.draw")
            return problem if draw is None or draw.shape != z.shape else self._spread(draw)
        return problem

    def _is_undone(self) -> bool:
        """Return whether z is a map of what reparameterize returned, and decode undoes the map.

        A fixed factor beside the map is not seen: with a learned scale, it is a part of the scale.
        """
        measured = self.array("forward.undone")
        if measured is None or measured.shape != (5,):
            return False
        cancelled, direct, from_mu, from_log_var, from_draw = measured
        return bool(cancelled < CANCELS * direct and from_draw and not (from_mu or from_log_var))

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
        if about(high, sigma[0], SPREAD) and about(low, sigma[1], SPREAD):
            if np.abs(noise - noise[:, :1]).max() < 1e-6:
                return Problem(
                    "shared noise",
                    "all images of a batch have the same noise",
                    "draw noise of the shape of mu",
                )
            if np.abs(z.mean(axis=0) - self._recorded_mu()).mean() > 0.5:
                return Problem(
                    MEAN,
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
            if about(high, a, SPREAD) and about(low, b, SPREAD):
                return Problem(SPREAD_OF_Z, words, hint)
        return Problem(
            SPREAD_OF_Z,
            f"for log_var = {LOG_VAR} the spread of z is {high:.2f}; expected {sigma[0]:.2f}",
            hint,
        )

    def _recorded_mu(self) -> Any:
        found = self.array("forward.given mu")
        return 0.0 if found is None else found

    def gradient(self) -> Problem | None:
        """Gradients flow from z to mu and log_var."""
        if self.array("forward.decoded") is None:
            return self.missing("forward")
        if not self.array("forward.encoded") or not self.array("forward.decoded"):
            return None  # counted by `returns`
        found = self.array("forward.gradient")
        if found is None or not np.isfinite(found).all():
            return self.missing("forward.gradient")
        problem = self.draw()
        without_sigma = problem is not None and problem.kind in ("no noise", SPREAD_OF_Z)
        for name, size in zip(("mu", "log_var"), found):
            if not size and not (name == "log_var" and without_sigma):
                return Problem(
                    "no gradient in forward",
                    f"no gradient flows from z to {name}",
                    "remove .detach(), .item(), .data and torch.no_grad()",
                )
        return None

"""Judge the layers of a class: its __init__."""

from __future__ import annotations

import numpy as np

from lab.checks.decode import DecodeJudge
from lab.checks.encode import EncodeJudge
from lab.checks.found import UNFINISHED, Problem, raised, untested
from lab.checks.seen import CONSTANT_IMAGES, CONSTANT_MU, NO_GRADIENT, Checked, Seen


class LayersJudge(Seen):
    """Judges the TODO of the layers, 2.2.1 and 3.1."""

    def judge(self) -> Checked:
        """Return what is wrong, by check; None where nothing is."""
        return {
            "builds": self.attempt(self.builds),
            "latent_dim": self.attempt(self.follows_latent_dim),
            "layers": self.attempt(self.layers_are_used),
        }

    def builds(self) -> Problem | None:
        """The class is built, and has something to train."""
        count = self.array("built")
        if count is None:
            if text := self.recording.problems.get("file"):
                return raised(text)
            return self.missing("built")
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
            return untested(f"TODO {self.todo}")
        wanted = ((self.setting.latent_dim, "encode.mu"), (self.setting.other_dim, "other.encode"))
        for d, name in wanted:
            width = self.shape(name) if name == "encode.mu" else self.array(name)
            if width is None or np.size(width) == 0:
                continue  # a fault of encode, which is another TODO
            came = int(np.ravel(width)[-1])
            if came != d:
                return Problem(
                    "latent_dim ignored",
                    f"built with latent_dim={d}, mu has {came} values",
                    "use latent_dim in the layers instead of a number",
                )
        if self.array("encode.mu") is not None and self.array("other.encode") is None:
            return Problem(
                "latent_dim ignored",
                f"built with latent_dim={self.setting.other_dim}, encode does not run",
                "use latent_dim in the layers instead of a number",
            )
        if self.array("decode.images") is not None and self.array("other.decode") is None:
            stopped = self.recording.problems.get(f"{self.name}.other.decode", "")
            if UNFINISHED in stopped:
                return raised(stopped)
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
        made = self.array("layers.made")
        if made is None:
            return untested(f"TODO {self.todo}")
        if made:
            return Problem(
                "layers made in a call",
                "each call of encode, decode or forward makes a new layer",
                "make layers in __init__; a new layer has random weights, which never train",
            )
        unused = self.array("layers.unused")
        if unused is None and f"{self.name}.layers" not in self.recording.problems:
            return self.missing("layers.unused")
        if unused is not None and unused and not self._stops():
            names = self.recording.problems[f"{self.name}.layers.unused"]
            return Problem(
                "unused layers",
                f"no gradient reaches {names}",
                "a layer that encode and decode do not use, a .detach() after it, or dead ReLUs",
            )
        if self.name == "GenModel" and self._ignores_the_label():
            return Problem(
                "no layer takes the label",
                "neither encode nor decode uses the label",
                "make layers that also take the label: 10 more numbers, one-hot, or an embedding",
            )
        return None

    def _ignores_the_label(self) -> bool:
        known = self.name, self.recording, self.setting
        problem = DecodeJudge(*known).judge()["label"]
        ignored = problem is not None and problem.kind == "label ignored"
        return ignored and self.encode_ignores_the_label()

    def _stops(self) -> bool:
        """Return whether another check finds that gradients or values do not pass."""
        known = self.name, self.recording, self.setting
        found = [*EncodeJudge(*known).judge().values(), *DecodeJudge(*known).judge().values()]
        kinds = {problem.kind for problem in found if problem}
        return bool(kinds & {NO_GRADIENT, CONSTANT_MU, CONSTANT_IMAGES})

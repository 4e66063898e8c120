"""The experiments on vae_loss: on tensors, without a model."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from lab.checks.experiments import Experiments, largest_gradients
from lab.checks.recording import LINE, VARS, Recording, Setting, loss_inputs
from lab.loading import ContractError


class LossRecorder(Experiments):
    """The experiments on vae_loss."""

    def __init__(
        self,
        module: ModuleType,
        path: Path,
        setting: Setting,
        recording: Recording,
        images: tuple[int, ...],
    ) -> None:
        super().__init__("vae_loss", path, setting, recording)
        self.loss: Any = getattr(module, "vae_loss", None)
        self.images = images  # the shape of an image of recon_x
        inputs = loss_inputs(setting)
        self.x, self.recon = torch.from_numpy(inputs["x"]), torch.from_numpy(inputs["recon"])
        self.kl = [(torch.from_numpy(m), torch.from_numpy(v)) for m, v in zip(*inputs["kl"])]
        self.zero = torch.zeros(setting.batch, setting.latent_dim)  # (B, d)

    def record(self) -> None:
        """Run everything."""
        if self.loss is None:
            self.recording.problems["vae_loss.value"] = "the file has no function vae_loss"
            return
        with self.experiment("value"):
            value = self._call(self.recon[0], self.x, *self.kl[0])
            if not isinstance(value, Tensor):
                raise ContractError(f"vae_loss returned {type(value).__name__}; expected a tensor")
            self.keep("value", value)
            inputs = [part.clone().requires_grad_() for part in (self.recon[0], *self.kl[0])]
            recon_x, mu, log_var = (part * 1 for part in inputs)  # may be changed in place
            self.keep(
                "gradient", largest_gradients(self._call(recon_x, self.x, mu, log_var), inputs)
            )
        if "vae_loss.value" in self.recording.problems:
            return
        x, recon, zero = self.x, self.recon, self.zero
        two = [torch.cat([part, part]) for part in (x, recon[0], zero, *self.kl[0])]
        with self.experiment("terms"), torch.no_grad():
            self.keep("zero", self._mean(x, x, zero, zero))
            self.keep("distance", [self._mean(some, x, zero, zero) for some in recon])
            line = [x + t * (recon[0] - x) for t in LINE]
            self.keep("line", [self._mean(some, x, zero, zero) for some in line])
            by_var = [(self._mean(recon[0], x, zero, zero, v), v) for v in VARS]
            self.keep("by_var", [loss - self._mean(x, x, zero, zero, v) for loss, v in by_var])
            self.keep("kl", [self._mean(x, x, mu, log_var) for mu, log_var in self.kl])
            self.keep("distance twice", self._mean(two[1], two[0], two[2], two[2]))
            self.keep("zero twice", self._mean(two[0], two[0], two[2], two[2]))
            self.keep("kl twice", self._mean(two[0], two[0], two[3], two[4]))

    def _call(self, recon: Tensor, x: Tensor, mu: Tensor, log_var: Tensor, var: float = 0.5) -> Any:
        return self.loss(recon.reshape(-1, *self.images), x.clone(), mu, log_var, var=var)

    def _mean(self, *inputs: Any) -> float:
        """Return the loss; of a loss per image, the mean."""
        return float(self._call(*inputs).double().mean())

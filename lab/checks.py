"""The public checks of a submission, each with a hint for the student whose model fails it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from data_utils import set_seed
from lab.contract import check_contract
from lab.loading import ContractError
from lab.split_model import Submission

OVERFIT_STEPS = 300
OVERFIT_SHARE = 0.5  # of the squared error of the best constant picture


class CheckFailed(Exception):
    """A check found an error: what is wrong, and a hint on where to look."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem)
        self.hint = hint


class Skipped(Exception):
    """A check does not apply to this model; the message says why."""


class Checks:
    """The public checks of one task, in the order in which they run.

    Args:
        path: the submission file.
        task: "VAEwolabel" or "Genwithlabel".
        latent_dim: width of a code.
    """

    def __init__(self, path: Path, task: str, latent_dim: int) -> None:
        self.path, self.task, self.latent_dim = path, task, latent_dim

    def run(self) -> Iterator[tuple[str, CheckFailed | Skipped | None]]:
        """Yield the name of each check and what it found. Stops when the contract fails."""
        for name, check in self._all().items():
            found = _attempt(check)
            yield name, found
            if found and check == self.contract:
                return

    def _all(self) -> dict[str, Callable[[], None]]:
        checks = {
            "the contract: methods, shapes, ranges": self.contract,
            "gradients reach every parameter": self.gradients,
            "KL term agrees with torch.distributions": self.kl_divergence,
            "loss does not depend on the batch size": self.batch_size,
            "one batch can be memorised": self.overfit,
            "decode works for one code and for many": self.decode_any_number,
            "evaluation gives the same result twice": self.deterministic,
        }
        if self.task == "Genwithlabel":
            checks["the label changes the picture"] = self.uses_label
        return checks

    # ------------------------------------------------------------ the checks

    def contract(self) -> None:
        """The file loads, the model is built, and forward, decode and loss fit the contract."""
        set_seed(0)
        try:
            self.submission = Submission(self.path, self.task, self.latent_dim)
            check_contract(self.submission)
        except ContractError as error:
            raise CheckFailed(str(error), "fix this first; the other checks need it.") from None

    def gradients(self) -> None:
        """Backpropagation of the loss gives every trainable parameter a nonzero gradient."""
        self._needs_forward()
        model = self.submission.model
        model.train().zero_grad()
        self._loss(*self._digits(64)).backward()
        silent = [
            name
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())
        ]
        if silent:
            raise CheckFailed(
                f"no gradient reaches {', '.join(silent[:4])}{' ...' if len(silent) > 4 else ''}",
                "a layer that forward does not use, a .detach(), or ReLUs that are all dead.",
            )

    def kl_divergence(self) -> None:
        """vae_loss for N(mu, sigma^2), minus vae_loss for N(0, I), is the KL divergence."""
        self._needs_vae_loss()
        x, recon_x = self._noise(16)
        mu, log_var = torch.randn(2, 16, self.latent_dim)  # (B, d) each
        zero = torch.zeros_like(mu)
        loss = self._vae_loss
        measured = loss(recon_x, x, mu, log_var, var=0.5) - loss(recon_x, x, zero, zero, var=0.5)
        posterior, prior = Normal(mu, (0.5 * log_var).exp()), Normal(zero, 1.0)
        expected = kl_divergence(posterior, prior).sum(dim=1).mean()
        if not torch.isclose(measured, expected, rtol=1e-3):
            ratio = (measured / expected).item()
            hint = "sum over the latent dimensions, mean over the batch; check the factor 1/2."
            if math.isclose(ratio, len(x), rel_tol=1e-3):
                hint = "it is summed over the batch; divide by the batch size."
            elif math.isclose(ratio, 1 / self.latent_dim, rel_tol=1e-3):
                hint = "it is averaged over the latent dimensions; sum over them."
            raise CheckFailed(
                f"the KL term of vae_loss is {measured.item():.3f} where "
                f"torch.distributions gives {expected.item():.3f}",
                hint,
            )

    def batch_size(self) -> None:
        """A batch repeated twice has the same loss as the batch itself."""
        self._needs_vae_loss()
        x, recon_x = self._noise(8)
        once = (recon_x, x, *torch.randn(2, 8, self.latent_dim))
        twice = [torch.cat([part, part]) for part in once]
        loss = self._vae_loss
        one, two = loss(*once, var=0.5).item(), loss(*twice, var=0.5).item()
        if not math.isclose(one, two, rel_tol=1e-4):
            raise CheckFailed(
                f"vae_loss is {one:.3f} for 8 images and {two:.3f} for the same 8 twice",
                "take the mean over the batch, so that --lr means the same at any batch size.",
            )

    def overfit(self) -> None:
        """A few hundred steps on one batch reconstruct it better than the mean picture."""
        self._needs_forward()
        model = self.submission.model.train()
        x, labels = self._digits(64)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        constant = (x - x.mean(dim=0)).square().mean().item()
        error = math.inf
        for step in range(OVERFIT_STEPS):
            optimizer.zero_grad()
            self._loss(x, labels, var=0.02).backward()
            optimizer.step()
            if step % 25 == 24:
                recon = self.submission.decode(self.submission.encode(x, labels), labels)
                error = (recon - x.squeeze(1)).square().mean().item()
                if error < OVERFIT_SHARE * constant:
                    return
        raise CheckFailed(
            f"after {OVERFIT_STEPS} steps on 64 images their mse is {error:.4f}; "
            f"the mean picture alone has {constant:.4f}",
            "does z reach the decoder? is the squared error in the loss, divided by 2 var?",
        )

    def decode_any_number(self) -> None:
        """decode works for a batch of one, and the picture of a code is the same in any batch."""
        codes = torch.randn(5, self.latent_dim)  # (B, d)
        labels = torch.arange(5)
        try:
            many = self.submission.decode(codes, labels)  # (5, 28, 28)
            one = self.submission.decode(codes[:1], labels[:1])  # (1, 28, 28)
        except ContractError as error:
            raise CheckFailed(str(error), "avoid squeeze() and fixed batch sizes.") from None
        if not torch.allclose(one[0], many[0], atol=1e-4):
            raise CheckFailed(
                "the picture of a code depends on the other codes in the batch",
                "in decode, nothing may mix the rows of a batch (dim 0).",
            )

    def deterministic(self) -> None:
        """In evaluation mode, two calls with the same images return the same mu."""
        self._needs_forward()
        x, labels = self._digits(16)
        model = self.submission.model.eval()
        with torch.no_grad():
            first, second = (model(x, labels)[1] for _ in range(2))  # mu, (B, d)
        if not torch.equal(first, second):
            raise CheckFailed(
                "in evaluation mode, two calls with the same images return different mu",
                "draw noise in reparameterize only; use nn.Dropout, which knows model.eval().",
            )

    def uses_label(self) -> None:
        """The pictures of one code differ between labels."""
        codes = torch.randn(1, self.latent_dim).repeat(10, 1)  # (10, d)
        pictures = self.submission.decode(codes, torch.arange(10))  # (10, 28, 28)
        if (pictures - pictures[0]).abs().max() < 1e-6:
            raise CheckFailed(
                "decode draws the same picture for every label",
                "in decode, append the label, one-hot or embedded, to z (TODO 3.3).",
            )

    # ------------------------------------------------------------ shared by the checks

    def _needs_vae_loss(self) -> None:
        self._needs_forward()
        if self.submission.compute_loss is not None:
            raise Skipped("the model has its own compute_loss")

    def _needs_forward(self) -> None:
        if self.submission.training_step is not None:
            raise Skipped("the model has its own training_step")

    def _loss(self, x: Tensor, labels: Tensor, var: float = 0.5) -> Tensor:
        if self.submission.compute_loss is not None:
            return self.submission.compute_loss(x, labels, var)["loss"]
        recon_x, mu, log_var = self.submission.model(x, labels)
        return self._vae_loss(recon_x, x, mu, log_var, var=var)

    @property
    def _vae_loss(self) -> Callable[..., Tensor]:
        assert self.submission.vae_loss is not None  # the contract was checked first
        return self.submission.vae_loss

    def _noise(self, count: int) -> tuple[Tensor, Tensor]:
        """Return random x (count, 1, 28, 28) and a recon_x in the shape that forward gives it."""
        x = torch.rand(count, 1, 28, 28)
        with torch.no_grad():
            shape = self.submission.model(x, torch.zeros(count, dtype=torch.long))[0].shape
        return x, (0.9 * x).reshape(shape)

    def _digits(self, count: int) -> tuple[Tensor, Tensor]:
        """Return simple drawings of two strokes: x (count, 1, 28, 28) and labels (count,)."""
        generator = torch.Generator().manual_seed(0)
        corners = torch.randint(2, 16, (count, 2, 2), generator=generator).tolist()
        x = torch.zeros(count, 1, 28, 28)
        for image, ((top, left), (low, right)) in zip(x, corners):
            image[0, top : top + 10, left : left + 3] = 1
            image[0, low : low + 3, right : right + 10] = 1
        return x, self.submission.visible(torch.arange(count) % 10)


def _attempt(check: Callable[[], None]) -> CheckFailed | Skipped | None:
    """Run one check; an exception of the student's code is a failure."""
    try:
        check()
    except (CheckFailed, Skipped) as found:
        return found
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        return CheckFailed(
            f"{type(error).__name__}: {reason}", "the message names the operation that failed."
        )
    return None

"""Fast training and samples that have their labels: `quick.py` with a mixture as its prior.

The codes of a label do not follow one Gaussian, and one that is fitted to them gives many samples
that are no digit. Here the codes of each label are divided into groups, each with a Gaussian.

python -m benchmarks.headline
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PIXEL_MEAN, PIXEL_STD = 0.13, 0.31  # of the training images
STEEPNESS = 3.0


def mlp(inputs: int, hidden: int, bias: Tensor, scale: float) -> nn.Sequential:
    """Return inputs - hidden - outputs with GELU, and initial weights that keep the signal's size.

    Args:
        inputs, hidden: widths.
        bias: initial bias of the last layer, (outputs,).
        scale: factor on the initial weights of the last layer.
    """
    first, last = nn.Linear(inputs, hidden), nn.Linear(hidden, len(bias))
    for layer in (first, last):
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
    with torch.no_grad():
        last.weight *= scale
        last.bias.copy_(bias)
    return nn.Sequential(first, nn.GELU(), last)


class GenModel(nn.Module):
    """784 - hidden - latent_dim - hidden - 784 with labels, and a mixture for each label."""

    hidden = 400
    splits = 4  # the codes of each label are halved so many times: 2^splits Gaussians

    fitted: Tensor  # (), bool: whether fit_prior has run
    # The codes of each group have this mean, and covariance factor factor^T.
    mean: Tensor  # (10, groups, latent_dim)
    factor: Tensor  # (10, groups, latent_dim, latent_dim); its columns are orthogonal

    def __init__(self, latent_dim: int = 20) -> None:
        super().__init__()
        narrow = torch.cat([torch.zeros(latent_dim), torch.full((latent_dim,), -2.0)])  # log_var -2
        dark = torch.full((784,), -2.0)
        self.encoder = mlp(784 + 10, self.hidden, narrow, scale=0.5)
        self.decoder = mlp(latent_dim + 10, self.hidden, dark, scale=0.3)
        self.groups = 2**self.splits
        self.register_buffer("fitted", torch.tensor(False))
        self.register_buffer("mean", torch.zeros(10, self.groups, latent_dim))
        self.register_buffer("factor", torch.eye(latent_dim).repeat(10, self.groups, 1, 1))

    def encode(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and log_var of q(latent|x, label), each (B, latent_dim)."""
        pixels = (x.flatten(1) - PIXEL_MEAN) / PIXEL_STD  # (B, 784)
        mu, log_var = self.encoder(with_label(pixels, labels)).chunk(2, dim=1)
        return mu, log_var

    def decode(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return images in [0, 1], (B, 784)."""
        latent = self.from_standard(z, labels) if self.fitted else z
        return torch.sigmoid(STEEPNESS * self.decoder(with_label(latent, labels)))

    def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the reconstructions of x, mu and log_var."""
        mu, log_var = self.encode(x, labels)
        latent = mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)  # (B, latent_dim)
        z = self.to_standard(latent.float(), labels) if self.fitted else latent
        return self.decode(z, labels), mu, log_var

    # ------------------------------------------------------------ the prior

    def from_standard(self, z: Tensor, labels: Tensor) -> Tensor:
        """Map z ~ N(0, I) to latents of the labels, both (B, latent_dim).

        The quantile of the first number of z, times the number of groups, chooses the group by its
        integer part. Its fraction is the quantile of the first number within the group.
        """
        quantile = self.groups * torch.special.ndtr(z[:, 0])  # (B,)
        group = quantile.long().clamp(max=self.groups - 1)
        first = torch.special.ndtri((quantile - group).clamp(*self.bounds()))
        z = torch.cat([first[:, None], z[:, 1:]], dim=1)
        factor = self.factor[labels, group]  # (B, latent_dim, latent_dim)
        return self.mean[labels, group] + (factor @ z[:, :, None]).squeeze(2)

    def to_standard(self, latent: Tensor, labels: Tensor) -> Tensor:
        """Invert from_standard, in the group that gives the latent the highest density."""
        factor = self.factor[labels]  # (B, groups, latent_dim, latent_dim)
        variance = factor.square().sum(dim=2)  # (B, groups, latent_dim), of each column
        centred = latent[:, None] - self.mean[labels]  # (B, groups, latent_dim)
        white = (centred[:, :, None] @ factor).squeeze(2) / variance  # (B, groups, latent_dim)
        group = (white.square() + variance.log()).sum(dim=2).argmin(dim=1)  # (B,)
        z = white[torch.arange(len(white)), group]  # (B, latent_dim)
        share = torch.special.ndtr(z[:, 0]).clamp(*self.bounds())
        first = torch.special.ndtri((group + share) / self.groups)
        return torch.cat([first[:, None], z[:, 1:]], dim=1)

    def bounds(self) -> tuple[float, float]:
        """Return the least and the largest share of a group's quantiles.

        Codes are stored in float16: a number at the edge of a group may be rounded into the next.
        """
        return 3e-4 * self.groups, 1 - 3e-4 * self.groups

    def fit_prior(self, codes: Tensor, labels: Tensor) -> None:
        """Fit a Gaussian to each group of the codes (N, latent_dim) of each label (N,)."""
        for label in range(10):
            for index, chosen in enumerate(halved(codes[labels == label].double(), self.splits)):
                covariance = torch.cov(chosen.T) + 1e-6 * torch.eye(chosen.shape[1]).to(chosen)
                # Ascending: rounding errors of the first number of z matter least.
                variance, directions = torch.linalg.eigh(covariance)
                self.mean[label, index] = chosen.mean(dim=0)
                self.factor[label, index] = directions * variance.sqrt()
        self.fitted.fill_(True)


def halved(codes: Tensor, splits: int) -> list[Tensor]:
    """Divide codes (N, latent_dim) into 2^splits groups of equal size.

    Each split is at the median, in the direction in which the codes vary most.
    """
    if splits == 0:
        return [codes]
    _, directions = torch.linalg.eigh(torch.cov(codes.T))
    order = (codes @ directions[:, -1]).argsort()
    middle = len(codes) // 2
    halves = (codes[order[:middle]], codes[order[middle:]])
    return [group for half in halves for group in halved(half, splits - 1)]


def with_label(values: Tensor, labels: Tensor) -> Tensor:
    """Append the one-hot label to the values: (B, n) to (B, n + 10)."""
    return torch.cat([values, F.one_hot(labels, 10).to(values.dtype)], dim=1)


def vae_loss(recon_x: Tensor, x: Tensor, mu: Tensor, log_var: Tensor, var: float = 0.5) -> Tensor:
    """Mean over the batch of ||x - recon_x||^2 / (2 var) + KL(q(z|x) || N(0, I))."""
    squared_error = (recon_x - x.flatten(1)).square().sum(dim=1)  # (B,)
    kl_divergence = 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(dim=1)  # (B,)
    return (squared_error / (2 * var) + kl_divergence).mean()

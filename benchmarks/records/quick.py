"""The submission of the record: MLPs of one hidden layer, initialized for fast learning.

Pixels are centred and scaled. Initial weights keep the size of the signal (He et al., ICCV 2015).
Initial posteriors are narrow, so that the decoder gets information about the image from the first
step. Initial pixels are dark, as most pixels are, and their sigmoid is three times as steep.
Samples are drawn from a wider distribution than the codes.

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


class VAE(nn.Module):
    """784 - hidden - latent_dim - hidden - 784."""

    hidden = 400
    label_dim = 0

    def __init__(self, latent_dim: int = 20) -> None:
        super().__init__()
        narrow = torch.cat([torch.zeros(latent_dim), torch.full((latent_dim,), -2.0)])  # log_var -2
        dark = torch.full((784,), -2.0)
        self.encoder = mlp(784 + self.label_dim, self.hidden, narrow, scale=0.5)
        self.decoder = mlp(latent_dim + self.label_dim, self.hidden, dark, scale=0.3)

    def encode(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and log_var of q(z|x), each (B, latent_dim)."""
        pixels = (x.flatten(1) - PIXEL_MEAN) / PIXEL_STD  # (B, 784)
        mu, log_var = self.encoder(self.with_label(pixels, labels)).chunk(2, dim=1)
        return mu, log_var

    def decode(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return images in [0, 1], (B, 784)."""
        return torch.sigmoid(STEEPNESS * self.decoder(self.with_label(z, labels)))

    def with_label(self, values: Tensor, labels: Tensor) -> Tensor:
        """Append the one-hot label to the values, (B, D) to (B, D + 10), in a conditional model."""
        if not self.label_dim:
            return values
        return torch.cat([values, F.one_hot(labels, 10).to(values.dtype)], dim=1)

    def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the reconstructions of x, mu and log_var."""
        mu, log_var = self.encode(x, labels)
        z = mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)  # (B, latent_dim)
        return self.decode(z, labels), mu, log_var


class GenModel(VAE):
    """The same with labels; after training, a Gaussian is fitted to the codes of each label."""

    label_dim = 10
    # Standard deviation of the latents behind samples, over that of the codes. Codes are posterior
    # means, which vary less than the latents in training, and a decoder after one epoch blurs: at
    # 1.0, samples vary a quarter less than real images. Larger values stray more: see README.md.
    spread = 1.2

    mean: Tensor  # (10, latent_dim), of the codes of each label
    factor: Tensor  # (10, latent_dim, latent_dim), Cholesky factors of their covariances

    def __init__(self, latent_dim: int = 20) -> None:
        super().__init__(latent_dim)
        self.register_buffer("mean", torch.zeros(10, latent_dim))
        self.register_buffer("factor", torch.eye(latent_dim).repeat(10, 1, 1))

    def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the reconstructions of x, mu and log_var."""
        mu, log_var = self.encode(x, labels)
        latent = mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)  # (B, latent_dim)
        if not self.training:  # `decode` applies the prior then; undo it here
            centred = (latent.float() - self.mean[labels]).unsqueeze(2)  # (B, latent_dim, 1)
            factor = self.factor[labels]  # (B, latent_dim, latent_dim)
            latent = torch.linalg.solve_triangular(factor, centred, upper=False).squeeze(2)
        return self.decode(latent, labels), mu, log_var

    def decode(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return images in [0, 1], (B, 784)."""
        if not self.training:
            z = self.mean[labels] + (self.factor[labels] @ z.unsqueeze(2)).squeeze(2)
        return super().decode(z, labels)

    def fit_prior(self, codes: Tensor, labels: Tensor) -> None:
        """Compute mean and covariance of the codes (N, latent_dim) of each label."""
        for label in range(10):
            chosen = codes[labels == label].double()  # (n, latent_dim)
            covariance = torch.cov(chosen.T) + 1e-6 * torch.eye(chosen.shape[1]).to(chosen)
            self.mean[label] = chosen.mean(dim=0)
            self.factor[label] = self.spread * torch.linalg.cholesky(covariance).float()


def vae_loss(recon_x: Tensor, x: Tensor, mu: Tensor, log_var: Tensor, var: float = 0.5) -> Tensor:
    """Mean over the batch of ||x - recon_x||^2 / (2 var) + KL(q(z|x) || N(0, I))."""
    squared_error = (recon_x - x.flatten(1)).square().sum(dim=1)  # (B,)
    kl_divergence = 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(dim=1)  # (B,)
    return (squared_error / (2 * var) + kl_divergence).mean()

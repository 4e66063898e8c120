"""Convolutional conditional VAE: as conv_vae.py, told the label beside the features and the code.

Once trained, it measures mean and covariance of the codes of each label and samples from these, for
codes follow N(0, I) only roughly (Ghosh et al., From Variational to Deterministic Autoencoders,
ICLR 2020, who fit a density after training).
Sohn, Lee and Yan, Learning Structured Output Representation using Deep Conditional Generative
Models, NeurIPS 2015. Variants: as of conv_vae.py.

Expected: ssim 0.9117, mse 0.00834, fid 2.194, raw 30.642 (test split; 73 s)
Command:  python train.py --task Genwithlabel --submission zoo/conv_cvae.py --var 0.05
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDES = (28, 14, 7, 4, 2)  # of the maps after each layer
CHANNELS = (1, 32, 64, 128, 256)


class Attention(nn.Module):
    """Let each place of the maps look at all others (Vaswani et al. 2017), added to what it is."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(channels, num_heads=4, batch_first=True)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the same shape (B, C, H, W)."""
        places = maps.flatten(2).transpose(1, 2)  # (B, H W, C)
        looked, _ = self.attention(places, places, places, need_weights=False)
        return maps + looked.transpose(1, 2).reshape(maps.shape)


class GenModel(nn.Module):
    """depth convolutions down, depth transposed convolutions up; depth 0 is one dense layer."""

    depth = 3
    attention = False

    def __init__(self, latent_dim: int = 20) -> None:
        super().__init__()
        channels, side = CHANNELS[self.depth], SIDES[self.depth]
        down, up = [], []
        for i in range(self.depth):
            layer = nn.Conv2d(CHANNELS[i], CHANNELS[i + 1], 3, stride=2, padding=1)
            down += [keep_the_signal(layer), nn.LeakyReLU(0.2)]
        for i in reversed(range(self.depth)):
            # An even side is twice the one below it, an odd one is one less.
            even = 1 - SIDES[i] % 2
            layer = nn.ConvTranspose2d(CHANNELS[i + 1], CHANNELS[i], 3, 2, 1, output_padding=even)
            # The last one makes the image, and does well to begin near grey.
            up += [nn.LeakyReLU(0.2), keep_the_signal(layer) if i else layer]
        if self.attention:
            down += [Attention(channels)]
            up = [Attention(channels), *up]
        if self.depth == 0:
            width = 400
            down = [nn.Flatten(), nn.Linear(784, width), nn.LeakyReLU(0.2)]
            up = [nn.LeakyReLU(0.2), nn.Linear(width, 784), nn.Unflatten(1, (1, 28, 28))]
        else:
            width = channels * side * side
            down = [*down, nn.Flatten()]
            up = [nn.Unflatten(1, (channels, side, side)), *up]
        self.to_features = nn.Sequential(*down)
        self.to_mu = nn.Linear(width + 10, latent_dim)
        self.to_log_var = nn.Linear(width + 10, latent_dim)
        # The codes of each label follow N(mean, factor factor^T), as fit_prior measures it.
        self.register_buffer("mean", torch.zeros(10, latent_dim))
        self.register_buffer("factor", torch.eye(latent_dim).repeat(10, 1, 1))
        self.to_image = nn.Sequential(nn.Linear(latent_dim + 10, width), *up, nn.Sigmoid())

    def encode(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and log_var of q(z|x, label), each (B, latent_dim)."""
        features = beside_label(self.to_features(x), labels)  # (B, width + 10)
        return self.to_mu(features), self.to_log_var(features)

    def reparameterize(self, mu: Tensor, log_var: Tensor) -> Tensor:
        """Return z = mu + sigma * noise."""
        return mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)  # (B, latent_dim)

    def decode(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return the images of codes z (B, latent_dim) and labels (B,), in [0, 1]."""
        latent = self.from_standard(z, labels)  # (B, latent_dim)
        return self.to_image(beside_label(latent, labels))  # (B, 1, 28, 28)

    def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the reconstructions of x, mu and log_var."""
        mu, log_var = self.encode(x, labels)
        z = self.to_standard(self.reparameterize(mu, log_var), labels)
        return self.decode(z, labels), mu, log_var

    def fit_prior(self, codes: Tensor, labels: Tensor) -> None:
        """Measure the codes (N, latent_dim) of each label."""
        latent = self.from_standard(codes, labels)
        for label in labels.unique():
            chosen = latent[labels == label].double()  # (n, latent_dim)
            covariance = torch.cov(chosen.T).reshape(2 * chosen.shape[1:])
            covariance += 1e-6 * torch.eye(len(covariance)).to(covariance)  # invertible in any case
            self.mean[label] = chosen.mean(dim=0).to(self.mean)
            self.factor[label] = torch.linalg.cholesky(covariance).to(self.factor)

    def to_standard(self, latent: Tensor, labels: Tensor) -> Tensor:
        """Move the codes of each label to mean 0 and covariance I."""
        centred = (latent.float() - self.mean[labels]).unsqueeze(2)  # (B, latent_dim, 1)
        return torch.linalg.solve_triangular(self.factor[labels], centred, upper=False).squeeze(2)

    def from_standard(self, z: Tensor, labels: Tensor) -> Tensor:
        """Undo to_standard."""
        return self.mean[labels] + (self.factor[labels] @ z.unsqueeze(2)).squeeze(2)


def beside_label(values: Tensor, labels: Tensor) -> Tensor:
    """Put ten one-hot numbers beside the values: (B, n) to (B, n + 10)."""
    return torch.cat([values, F.one_hot(labels, 10).to(values.dtype)], dim=1)


def keep_the_signal(layer: nn.Conv2d | nn.ConvTranspose2d) -> nn.Module:
    """Draw first weights with which a signal is as large after the layer as before it.

    He et al., Delving Deep into Rectifiers, ICCV 2015. torch's own shrink it: after four layers
    the image hardly moves the output, and training stands still for epochs.
    """
    upward = isinstance(layer, nn.ConvTranspose2d)
    mode = "fan_out" if upward else "fan_in"  # torch swaps the two where it is transposed
    nn.init.kaiming_normal_(layer.weight, a=0.2, mode=mode)
    nn.init.zeros_(layer.bias)
    if upward:  # with stride 2 a pixel meets a quarter of the kernel
        layer.weight.data *= 2
    return layer


def vae_loss(recon_x: Tensor, x: Tensor, mu: Tensor, log_var: Tensor, var: float = 0.5) -> Tensor:
    """Return ||x - recon_x||^2 / (2 var) + KL(q(z|x) || N(0, I)), a mean over the batch."""
    squared_error = (x - recon_x).square().flatten(1).sum(dim=1)  # (B,)
    kl_divergence = 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(dim=1)  # (B,)
    return (squared_error / (2 * var) + kl_divergence).mean()

"""Your file: a variational autoencoder (VAE), its loss, and a conditional VAE.

Fill in each TODO, then check the file and train:

    python check.py
    python train.py --task VAEwolabel
    python train.py --task Genwithlabel

Images x are float32 (B, 1, 28, 28) in [0, 1]; labels are int64 (B,), 0 to 9.
The names follow Kingma and Welling 2014, https://arxiv.org/abs/1312.6114: the encoder returns the
mean `mu` and the log variance `log_var` of the posterior q(z|x); the decoder turns a code z into
an image.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class VAE(nn.Module):
    """A variational autoencoder of images, without labels.

    latent_dim: the number of values in a code. A smaller code earns a higher compression bonus.
    """

    def __init__(self, latent_dim: int = 20) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        # TODO 2.2.1: make the layers of encoder and decoder and assign them to self.
        # Hint: the encoder ends in two layers with latent_dim outputs, for mu and for log_var;
        # the decoder mirrors the encoder and ends in a sigmoid, because pixels are in [0, 1].
        ### BEGIN SOLUTION
        self.image_to_features = nn.Sequential(
            nn.Conv2d(1, 32, 4, stride=2, padding=1),  # (B, 32, 14, 14)
            nn.GELU(),
            nn.Conv2d(32, 64, 4, stride=2, padding=1),  # (B, 64, 7, 7)
            nn.GELU(),
            nn.Flatten(),  # (B, 3136)
        )
        self.features_to_hidden = nn.Linear(64 * 7 * 7, 512)  # (B, 512)
        self.hidden_to_mu = nn.Linear(512, latent_dim)  # (B, latent_dim)
        self.hidden_to_log_var = nn.Linear(512, latent_dim)  # (B, latent_dim)

        self.code_to_hidden = nn.Linear(latent_dim, 512)  # (B, 512)
        self.hidden_to_image = nn.Sequential(
            nn.GELU(),
            nn.Linear(512, 64 * 7 * 7),  # (B, 3136)
            nn.GELU(),
            nn.Unflatten(1, (64, 7, 7)),  # (B, 64, 7, 7)
            nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1),  # (B, 32, 14, 14)
            nn.GELU(),
            nn.ConvTranspose2d(32, 1, 4, stride=2, padding=1),  # (B, 1, 28, 28)
            nn.Sigmoid(),
        )
        ### END SOLUTION

    def encode(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and log_var of q(z|x), each (B, latent_dim)."""
        # TODO 2.2.2: run x through the encoder. This model does not use the labels.
        ### BEGIN SOLUTION
        hidden = F.gelu(self.features_to_hidden(self.image_to_features(x)))  # (B, 512)
        return self.hidden_to_mu(hidden), self.hidden_to_log_var(hidden)
        ### END SOLUTION

    def reparameterize(self, mu: Tensor, log_var: Tensor) -> Tensor:
        """Return z = mu + sigma * noise, a sample of q(z|x) that gradients flow through."""
        sigma = torch.exp(0.5 * log_var)  # (B, latent_dim)
        return mu + sigma * torch.randn_like(sigma)  # (B, latent_dim)

    def decode(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return the images of codes z (B, latent_dim): (B, 1, 28, 28) or (B, 784), in [0, 1]."""
        # TODO 2.2.3: run z through the decoder. This model does not use the labels.
        ### BEGIN SOLUTION
        return self.hidden_to_image(self.code_to_hidden(z))  # (B, 1, 28, 28)
        ### END SOLUTION

    def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return recon_x, mu and log_var."""
        # TODO 2.2.4: encode x, draw z with self.reparameterize, decode z with self.decode.
        ### BEGIN SOLUTION
        mu, log_var = self.encode(x, labels)  # (B, latent_dim) each
        z = self.reparameterize(mu, log_var)  # (B, latent_dim)
        return self.decode(z, labels), mu, log_var
        ### END SOLUTION


def vae_loss(recon_x: Tensor, x: Tensor, mu: Tensor, log_var: Tensor, var: float = 0.5) -> Tensor:
    """Return the negative evidence lower bound without its constant: a tensor of one number.

    The mean over the batch of  ||x - recon_x||^2 / (2 var) + KL(q(z|x) || N(0, I)).
    Each term is a sum, over the pixels and over the latent dimensions.

    Args:
        recon_x: what forward returned, (B, 1, 28, 28) or (B, 784).
        x: images (B, 1, 28, 28).
        mu, log_var: (B, latent_dim) each.
        var: the fixed variance of the decoder.
    """
    # TODO 2.3: compute both terms; KL of two Gaussians is in Kingma and Welling 2014, appendix B.
    # Hint: recon_x and x may differ in shape; reshape both to (B, 784).
    ### BEGIN SOLUTION
    squared_error = (x.flatten(1) - recon_x.flatten(1)).square().sum(dim=1)  # (B,)
    # Kingma and Welling 2014, appendix B: KL = -1/2 sum(1 + log sigma^2 - mu^2 - sigma^2).
    kl_divergence = 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(dim=1)  # (B,)
    return (squared_error / (2 * var) + kl_divergence).mean()
    ### END SOLUTION


class GenModel(VAE):
    """A conditional VAE: encoder and decoder also see the label, so it can draw a chosen digit.

    To sample, the lab draws z ~ N(0, I) and calls decode(z, labels).
    """

    def __init__(self, latent_dim: int = 20) -> None:
        super().__init__(latent_dim)
        # TODO 3.1: make layers that also take the label; add new ones or replace those of VAE.
        # Hint: append a one-hot label (10 numbers) to the features of the image, and to z.
        ### BEGIN SOLUTION
        self.features_to_hidden = nn.Linear(64 * 7 * 7 + 10, 512)  # (B, 512)
        self.code_to_hidden = nn.Linear(latent_dim + 10, 512)  # (B, 512)
        # The codes of each label are modelled as N(mean, factor factor^T), which is N(0, I)
        # until fit_prior has measured them.
        self.register_buffer("prior_mean", torch.zeros(10, latent_dim))
        self.register_buffer("prior_factor", torch.eye(latent_dim).repeat(10, 1, 1))
        ### END SOLUTION

    def encode(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and log_var of q(z|x, label), each (B, latent_dim)."""
        # TODO 3.2: encode as in VAE, with the labels.
        ### BEGIN SOLUTION
        features = self.with_label(self.image_to_features(x), labels)  # (B, 3146)
        hidden = F.gelu(self.features_to_hidden(features))  # (B, 512)
        return self.hidden_to_mu(hidden), self.hidden_to_log_var(hidden)
        ### END SOLUTION

    def decode(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return the images of codes z (B, latent_dim) and labels (B,), in [0, 1]."""
        # TODO 3.3: decode as in VAE, with the labels.
        ### BEGIN SOLUTION
        latent = self.with_label(self.from_standard(z, labels), labels)  # (B, latent_dim + 10)
        return self.hidden_to_image(self.code_to_hidden(latent))  # (B, 1, 28, 28)
        ### END SOLUTION

    def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return recon_x, mu and log_var."""
        # TODO 3.4: as forward in VAE, with the labels.
        ### BEGIN SOLUTION
        mu, log_var = self.encode(x, labels)  # (B, latent_dim) each
        z = self.to_standard(self.reparameterize(mu, log_var), labels)  # (B, latent_dim)
        return self.decode(z, labels), mu, log_var
        ### END SOLUTION

    # Optional: the codes of real digits follow N(0, I) only roughly, which makes samples worse. If
    # the class has a method fit_prior(codes, labels), it is called after training. It can measure
    # the codes and store the result in buffers, so that decode turns z ~ N(0, I) into digits.
    ### BEGIN SOLUTION
    prior_mean: Tensor  # (10, latent_dim)
    prior_factor: Tensor  # (10, latent_dim, latent_dim), lower triangular

    def with_label(self, values: Tensor, labels: Tensor) -> Tensor:
        """Append the one-hot label to the values: (B, n) to (B, n + 10)."""
        return torch.cat([values, F.one_hot(labels, 10).to(values.dtype)], dim=1)

    def fit_prior(self, codes: Tensor, labels: Tensor) -> None:
        """Measure mean and covariance of the codes (N, latent_dim) of each label (N,)."""
        latent = self.from_standard(codes, labels)  # (N, latent_dim)
        unit = torch.eye(self.latent_dim, dtype=torch.float64)
        for label in labels.unique():
            chosen = latent[labels == label].cpu().double()  # (n, latent_dim)
            if len(chosen) > 1:
                covariance = torch.cov(chosen.T).reshape(unit.shape)  # (latent_dim, latent_dim)
                # Without a small number on the diagonal, the factor may not exist.
                covariance += (1e-6 * covariance.trace() / self.latent_dim + 1e-12) * unit
                self.prior_mean[label] = chosen.mean(dim=0).to(self.prior_mean)
                self.prior_factor[label] = torch.linalg.cholesky(covariance).to(self.prior_factor)

    def to_standard(self, latent: Tensor, labels: Tensor) -> Tensor:
        """Move the codes of each label to mean 0 and covariance I: factor^-1 (latent - mean)."""
        centred = (latent.float() - self.prior_mean[labels]).unsqueeze(2)  # (B, latent_dim, 1)
        factor = self.prior_factor[labels]  # (B, latent_dim, latent_dim)
        return torch.linalg.solve_triangular(factor, centred, upper=False).squeeze(2)

    def from_standard(self, z: Tensor, labels: Tensor) -> Tensor:
        """Invert to_standard, so that z ~ N(0, I) follows the distribution of real codes."""
        stretched = self.prior_factor[labels] @ z.unsqueeze(2)  # (B, latent_dim, 1)
        return self.prior_mean[labels] + stretched.squeeze(2)  # (B, latent_dim)

    ### END SOLUTION

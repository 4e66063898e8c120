"""Your file: a variational autoencoder, its loss, and a generative model that knows labels.

Fill in each TODO, then try it and train it:

    python check.py
    python train.py --task VAEwolabel
    python train.py --task Genwithlabel

Images x are float32 (B, 1, 28, 28) in [0, 1]; labels are int64 (B,), 0 to 9.
Names as in Kingma and Welling 2014, https://arxiv.org/abs/1312.6114: the encoder gives the mean
`mu` and log variance `log_var` of the posterior q(z|x); the decoder gives the image of a code z.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class VAE(nn.Module):
    """A variational autoencoder of images, without labels.

    latent_dim: d, the number of values in a code. Fewer earn a higher compression bonus.
    """

    def __init__(self, latent_dim: int = 20) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        # TODO 2.2.1: make the layers of encoder and decoder and assign them to self.
        # Hint: the encoder ends in two layers of latent_dim outputs, for mu and for log_var;
        # the decoder mirrors it and ends in a sigmoid, because pixels lie in [0, 1].
        ### BEGIN SOLUTION
        self.image_to_features = nn.Sequential(
            nn.Conv2d(1, 32, 4, stride=2, padding=1),  # (B, 32, 14, 14)
            nn.GELU(),
            nn.Conv2d(32, 64, 4, stride=2, padding=1),  # (B, 64, 7, 7)
            nn.GELU(),
            nn.Flatten(),  # (B, 3136)
        )
        self.features_to_hidden = nn.Linear(64 * 7 * 7, 512)
        self.hidden_to_mu = nn.Linear(512, latent_dim)
        self.hidden_to_log_var = nn.Linear(512, latent_dim)

        self.code_to_hidden = nn.Linear(latent_dim, 512)
        self.hidden_to_image = nn.Sequential(
            nn.GELU(),
            nn.Linear(512, 64 * 7 * 7),
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
        # TODO 2.2.2: run x through the encoder. This model makes no use of the labels.
        ### BEGIN SOLUTION
        hidden = F.gelu(self.features_to_hidden(self.image_to_features(x)))  # (B, 512)
        return self.hidden_to_mu(hidden), self.hidden_to_log_var(hidden)
        ### END SOLUTION

    def reparameterize(self, mu: Tensor, log_var: Tensor) -> Tensor:
        """Return z = mu + sigma * noise, a sample of q(z|x) through which gradients flow."""
        sigma = torch.exp(0.5 * log_var)
        return mu + sigma * torch.randn_like(sigma)  # (B, latent_dim)

    def decode(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return the images of codes z (B, latent_dim), in [0, 1]."""
        # TODO 2.2.3: run z through the decoder. This model makes no use of the labels.
        ### BEGIN SOLUTION
        return self.hidden_to_image(self.code_to_hidden(z))  # (B, 1, 28, 28)
        ### END SOLUTION

    def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the reconstructions of x, mu and log_var."""
        # TODO 2.2.4: encode x, draw z with self.reparameterize, decode z with self.decode.
        ### BEGIN SOLUTION
        mu, log_var = self.encode(x, labels)
        z = self.reparameterize(mu, log_var)
        return self.decode(z, labels), mu, log_var
        ### END SOLUTION


def vae_loss(recon_x: Tensor, x: Tensor, mu: Tensor, log_var: Tensor, var: float = 0.5) -> Tensor:
    """Return the negative evidence lower bound, up to a constant, as one number.

    Mean over the batch of  ||x - recon_x||^2 / (2 var) + KL(q(z|x) || N(0, I)),
    with sums over pixels and over latent dimensions. var is the decoder's fixed variance.
    """
    # TODO 2.3: compute both terms; KL of two Gaussians is in Kingma and Welling 2014, appendix B.
    # Hint: recon_x may have another shape than x; bring both to (B, 784).
    ### BEGIN SOLUTION
    squared_error = (x.flatten(1) - recon_x.flatten(1)).square().sum(dim=1)  # (B,)
    kl_divergence = 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(dim=1)  # (B,)
    return (squared_error / (2 * var) + kl_divergence).mean()
    ### END SOLUTION


class GenModel(VAE):
    """A conditional VAE: encoder and decoder are told the label, so it can draw a chosen digit.

    To sample, the lab draws z ~ N(0, I) and calls decode(z, label).
    """

    def __init__(self, latent_dim: int = 20) -> None:
        super().__init__(latent_dim)
        # TODO 3.1: make room for the label, in layers of your own or in place of the VAE's.
        # Hint: ten one-hot numbers beside the image's features, and ten beside z.
        ### BEGIN SOLUTION
        self.features_to_hidden = nn.Linear(64 * 7 * 7 + 10, 512)
        self.code_to_hidden = nn.Linear(latent_dim + 10, 512)
        # The codes of each label are taken to follow N(mean, factor factor^T); until
        # fit_prior has measured them, that is N(0, I).
        self.register_buffer("prior_mean", torch.zeros(10, latent_dim))
        self.register_buffer("prior_factor", torch.eye(latent_dim).repeat(10, 1, 1))
        ### END SOLUTION

    def encode(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and log_var of q(z|x, label), each (B, latent_dim)."""
        # TODO 3.2: as in VAE, with the labels.
        ### BEGIN SOLUTION
        features = self.with_label(self.image_to_features(x), labels)  # (B, 3146)
        hidden = F.gelu(self.features_to_hidden(features))  # (B, 512)
        return self.hidden_to_mu(hidden), self.hidden_to_log_var(hidden)
        ### END SOLUTION

    def decode(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return the images of codes z (B, latent_dim) and their labels (B,), in [0, 1]."""
        # TODO 3.3: as in VAE, with the labels.
        ### BEGIN SOLUTION
        latent = self.with_label(self.from_standard(z, labels), labels)  # (B, latent_dim + 10)
        return self.hidden_to_image(self.code_to_hidden(latent))  # (B, 1, 28, 28)
        ### END SOLUTION

    def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the reconstructions of x, mu and log_var."""
        # TODO 3.4: as in VAE, with the labels.
        ### BEGIN SOLUTION
        mu, log_var = self.encode(x, labels)
        z = self.to_standard(self.reparameterize(mu, log_var), labels)
        return self.decode(z, labels), mu, log_var
        ### END SOLUTION

    # Optional: the codes of real digits do not quite follow N(0, I), and samples show it. A method
    # fit_prior(codes, labels), if there is one, is called once after training: it can measure
    # the codes and keep what it finds in buffers, so that decode makes digits of z ~ N(0, I).
    ### BEGIN SOLUTION
    def with_label(self, values: Tensor, labels: Tensor) -> Tensor:
        """Put ten one-hot numbers beside the values: (B, n) to (B, n + 10)."""
        return torch.cat([values, F.one_hot(labels, 10).to(values.dtype)], dim=1)

    def fit_prior(self, codes: Tensor, labels: Tensor) -> None:
        """Measure mean and covariance of the codes of each label; codes (N, latent_dim)."""
        latent = self.from_standard(codes, labels)  # (N, latent_dim)
        unit = torch.eye(self.latent_dim, dtype=torch.float64)
        for label in labels.unique():
            chosen = latent[labels == label].cpu().double()  # (n, latent_dim)
            if len(chosen) > 1:
                covariance = torch.cov(chosen.T).reshape(unit.shape)  # (latent_dim, latent_dim)
                # A little is added to each variance, so that the factor exists in any case.
                covariance += (1e-6 * covariance.trace() / self.latent_dim + 1e-12) * unit
                self.prior_mean[label] = chosen.mean(dim=0).to(self.prior_mean)
                self.prior_factor[label] = torch.linalg.cholesky(covariance).to(self.prior_factor)

    def to_standard(self, latent: Tensor, labels: Tensor) -> Tensor:
        """Move the codes of each label to mean 0 and covariance I: factor^-1 (latent - mean)."""
        centred = (latent.float() - self.prior_mean[labels]).unsqueeze(2)  # (B, latent_dim, 1)
        factor = self.prior_factor[labels]  # (B, latent_dim, latent_dim)
        return torch.linalg.solve_triangular(factor, centred, upper=False).squeeze(2)

    def from_standard(self, z: Tensor, labels: Tensor) -> Tensor:
        """Undo to_standard, so that z ~ N(0, I) becomes a code such as real digits have."""
        stretched = self.prior_factor[labels] @ z.unsqueeze(2)  # (B, latent_dim, 1)
        return self.prior_mean[labels] + stretched.squeeze(2)

    ### END SOLUTION

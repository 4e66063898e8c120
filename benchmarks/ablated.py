"""zoo/record.py with options for what was tried and is not in it; see benchmarks.ablation."""

import torch
from torch import Tensor, nn

from zoo.record import GenModel as Record


class GenModel(Record):
    """The record, with changes that can be switched on by --variant."""

    convolutional_encoder = False
    blocks = 0  # residual blocks of dense layers, in the encoder and in the decoder
    muon = False  # instead of Adam, for the dense matrices
    anneal_until = 0  # steps in which var falls geometrically from 10 var to var; 0: never

    def __init__(self, latent_dim: int = 20) -> None:
        super().__init__(latent_dim)
        if self.convolutional_encoder:
            self.image_to_hidden = nn.Sequential(ConvolutionalEncoder(self.encoder_width))
        if self.blocks:
            blocks = [Residual(self.encoder_width) for _ in range(self.blocks)]
            self.image_to_hidden = nn.Sequential(*self.image_to_hidden, *blocks)
            first, activation, *rest = self.latent_to_image
            blocks = [Residual(512) for _ in range(self.blocks)]
            self.latent_to_image = nn.Sequential(first, activation, *blocks, *rest)

    def compute_loss(self, x: Tensor, labels: Tensor, var: float) -> dict[str, Tensor]:
        """Return the loss and its parts, with the var of this step."""
        if self.training and self.steps < self.anneal_until:
            var = var * 10 ** (1 - int(self.steps) / self.anneal_until)
        return super().compute_loss(x, labels, var)

    def configure_optimizers(self, lr: float) -> list[torch.optim.Optimizer]:
        """Return Adam alone, or Muon for the dense matrices between other layers, and Adam."""
        if not self.muon:
            return super().configure_optimizers(lr)
        # Muon is meant for the hidden layers of a network, not for the first and the last.
        names = ("image_to_hidden.2.weight", "latent_to_image.2.weight")
        dense = [self.get_parameter(name) for name in names]
        (adam,) = super().configure_optimizers(lr)
        for group in adam.param_groups:
            group["params"] = [
                parameter
                for parameter in group["params"]
                if all(parameter is not matrix for matrix in dense)
            ]
        # The steps of Muon are scaled to the size of Adam's, so that both can have the same rate.
        scaling = "match_rms_adamw"
        muon = torch.optim.Muon(dense, lr=lr, weight_decay=0.0, adjust_lr_fn=scaling)
        return [muon, adam]


class ConvolutionalEncoder(nn.Module):
    """The encoder of the former record: values (B, 784 + 10) of image and label to (B, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.image_to_features = nn.Sequential(
            nn.Unflatten(1, (1, 28, 28)),  # (B, 1, 28, 28)
            nn.Conv2d(1, 32, 3, stride=2, padding=1),  # (B, 32, 14, 14)
            nn.GELU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),  # (B, 64, 7, 7)
            nn.GELU(),
            nn.Conv2d(64, 64, 3, padding=1),  # (B, 64, 7, 7)
            nn.GELU(),
            nn.Flatten(),  # (B, 3136)
        )
        self.features_to_hidden = nn.Sequential(nn.Linear(3136 + 10, width), nn.GELU())

    def forward(self, values: Tensor) -> Tensor:
        """Return the hidden values, (B, width)."""
        features = self.image_to_features(values[:, :784])  # (B, 3136)
        return self.features_to_hidden(torch.cat([features, values[:, 784:]], dim=1))


class Residual(nn.Module):
    """hidden + a small network of hidden, (B, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.change = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the sum, (B, width)."""
        return hidden + self.change(hidden)

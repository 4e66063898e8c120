"""Measure epochs of known libraries on the same model, data, batch size and learning rate.

    python -m benchmarks.libraries pythae zoo/conv_vae.py --epochs 3
    python -m benchmarks.libraries lightning model.py

The images are tensors in memory and the precision is fp32; everything else is the library's
default. Prints a line of JSON at the end. Needs requirements/bench.txt.
"""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path
from types import ModuleType

import torch

from benchmarks.commands import make_parser
from benchmarks.usual import BATCH, LATENT_DIM, LR, VAR, load_model, print_json
from data_utils import MNISTDataset, to_float


def pythae_epochs(
    models: ModuleType, images: torch.Tensor, epochs: int, folder: str
) -> list[float]:
    """Train the encoder and decoder of models.VAE in pythae; return the seconds per epoch."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback

    model = models.VAE(LATENT_DIM)

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.vae = model

        def forward(self, x):
            mu, log_var = self.vae.encode(x, None)
            return ModelOutput(embedding=mu, log_covariance=log_var)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.vae = model

        def forward(self, z):
            return ModelOutput(reconstruction=self.vae.decode(z, None).reshape(-1, 1, 28, 28))

    class Clock(TrainingCallback):
        def on_epoch_begin(self, *_, **__) -> None:
            self.started = time.perf_counter()

        def on_epoch_end(self, *_, **__) -> None:
            seconds.append(time.perf_counter() - self.started)

    seconds: list[float] = []
    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT_DIM, reconstruction_loss="mse")
    training = BaseTrainerConfig(
        output_dir=folder,
        num_epochs=epochs,
        learning_rate=LR,
        per_device_train_batch_size=BATCH,
        keep_best_on_train=True,  # pythae needs this where there are no validation images
    )
    labels = torch.zeros(len(images))
    trainer = BaseTrainer(
        VAE(config, Encoder(), Decoder()),
        BaseDataset(images, labels),
        training_config=training,
        callbacks=[Clock()],
    )
    trainer.train()
    return seconds


def lightning_epochs(
    models: ModuleType, images: torch.Tensor, epochs: int, folder: str
) -> list[float]:
    """Train models.VAE in Lightning's Trainer; return the seconds per epoch."""
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = models.VAE(LATENT_DIM)

        def training_step(self, batch, number):
            x, labels = batch
            recon_x, mu, log_var = self.model(x, labels)
            loss = models.vae_loss(recon_x, x, mu, log_var, VAR)
            self.log("loss", loss, prog_bar=True)
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=LR)

        def on_train_epoch_start(self) -> None:
            self.started = time.perf_counter()

        def on_train_epoch_end(self) -> None:
            seconds.append(time.perf_counter() - self.started)

    seconds: list[float] = []
    dataset = torch.utils.data.TensorDataset(images, torch.zeros(len(images), dtype=torch.long))
    loader = torch.utils.data.DataLoader(dataset, BATCH, shuffle=True)
    trainer = lightning.Trainer(
        max_epochs=epochs, default_root_dir=folder, enable_model_summary=False
    )
    trainer.fit(Module(), loader)
    return seconds


def main() -> None:
    """Train in the given library and print the seconds per epoch."""
    parser = make_parser("benchmarks.libraries", __doc__)
    parser.add_argument("library", choices=("pythae", "lightning"))
    parser.add_argument("submission", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.manual_seed(42)
    images = to_float(torch.from_numpy(MNISTDataset("dataset/train").images))
    train = {"pythae": pythae_epochs, "lightning": lightning_epochs}[args.library]
    with tempfile.TemporaryDirectory() as folder:
        print_json(epochs=train(load_model(args.submission), images, args.epochs, folder))


if __name__ == "__main__":
    main()

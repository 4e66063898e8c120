"""Train with settings and models far outside the usual, and judge how it ends.

Training must end with finite weights and an honest report, or with one clear sentence.
"""

from __future__ import annotations

import io
import json
import math
import random
import tempfile
import warnings
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import train
from data_utils import DataError, MNISTDataset
from lab.checkpoint import CheckpointError
from lab.contract import check_contract
from lab.loading import ContractError
from lab.metrics import TASKS, score_task
from lab.settings import Settings, SettingsError
from lab.split_model import Submission
from lab.stages import InferenceError, decode_codes, encode_images, generate_samples
from trainer import Trainer, TrainingError

ERRORS = (SettingsError, DataError, ContractError, CheckpointError, TrainingError, InferenceError)
MESSAGE = 700  # characters of a clear sentence at most
GEN_NUM = 3

# The model has an option for each way in which its numbers may go wrong.
MODEL = """
import torch
import torch.nn.functional as F
from torch import nn


class VAE(nn.Module):
    log_var_gain = 1.0   # log_var grows with it
    dead = False         # every hidden unit is 0 for every image
    scale = 1.0          # of the weights at the start
    output = "sigmoid"
    loss = "squared"
    normed = False
    fails_from = 0       # the codes of this step and of all later ones are nan
    fails_every = 0      # the codes of every n-th step are nan

    def __init__(self, latent_dim=20, label_dim=0):
        super().__init__()
        self.steps = 0
        self.hidden = nn.Linear(784 + label_dim, 16)
        self.norm = nn.BatchNorm1d(16) if self.normed else nn.Identity()
        self.mu, self.log_var = nn.Linear(16, latent_dim), nn.Linear(16, latent_dim)
        self.out = nn.Linear(latent_dim + label_dim, 784)
        with torch.no_grad():
            for value in self.parameters():
                value *= self.scale
            if self.dead:
                self.hidden.bias.fill_(-1e4)

    def encode(self, x, labels):
        hidden = F.relu(self.norm(self.hidden(x.flatten(1))))
        return self.mu(hidden), self.log_var_gain * self.log_var(hidden)

    def reparameterize(self, mu, log_var):
        return mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)

    def decode(self, z, labels):
        out = self.out(z)
        return {"sigmoid": torch.sigmoid, "exp": torch.exp, "clamp": lambda v: v.clamp(0, 1),
                "tanh": torch.tanh, "softmax": lambda v: v.softmax(1)}[self.output](out)

    def forward(self, x, labels):
        mu, log_var = self.encode(x, labels)
        self.steps += self.training
        if self.fails_every and self.training and self.steps % self.fails_every == 0:
            mu = mu * float("nan")
        if self.training and 0 < self.fails_from <= self.steps:
            mu = mu * float("nan")
        return self.decode(self.reparameterize(mu, log_var), labels), mu, log_var


class GenModel(VAE):
    def __init__(self, latent_dim=20):
        super().__init__(latent_dim, 10)

    def encode(self, x, labels):
        return super().encode(torch.cat([x.flatten(1), F.one_hot(labels, 10)], 1), labels)

    def decode(self, z, labels):
        return super().decode(torch.cat([z, F.one_hot(labels, 10)], 1), labels)


def vae_loss(recon_x, x, mu, log_var, var=0.5):
    x, kind = x.flatten(1), VAE.loss if GenModel.loss == "squared" else GenModel.loss
    kl = 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(1).mean()
    if kind == "logarithm":  # without care for log(0)
        return -(x * recon_x.log() + (1 - x) * (1 - recon_x).log()).sum(1).mean() + kl
    if kind == "ratio":
        return ((x - recon_x).square().sum(1) / recon_x.var(1)).mean() / var + kl
    if kind == "root":
        return (x - recon_x).square().sum(1).sqrt().mean() / var + kl
    error = (x - recon_x).square() / (2 * var)
    return (error.sum() if kind == "sum" else error.sum(1).mean()) + kl
"""


@dataclass(frozen=True)
class Case:
    """The settings of a training, its model's options, and its data."""

    settings: dict[str, Any]
    task: str
    latent_dim: int
    variant: str
    data: str


def case_of(seed: str) -> Case:
    """Return the case of a seed: most options unusual, some extreme."""
    draw = random.Random(seed)

    def log_uniform(low: float, high: float) -> float:
        return float(f"{math.exp(draw.uniform(math.log(low), math.log(high))):.3g}")

    settings = {
        "epochs": draw.choice((1, 2, 3)),
        "batch_size": int(log_uniform(1, 50_000)),
        "lr": log_uniform(1e-6, 10),
        "lr_schedule": draw.choice(("cosine", "constant")),
        "var": log_uniform(1e-6, 1e3),
        "grad_clip": draw.choice((0.0, 1e-6, 2.0, 2.0, 1e6)),
        "pred_step": draw.choice((0, 0, 0, 7)),
        "eval_num": draw.choice((1, 7, 5000)),
        "seed": draw.choice((0, 42, 2**32 - 1)),
        "precision": draw.choice(("auto", "fp32", "fp32", "bf16")),
        "convolutions": "torch",
        "device": "cpu",
    }
    options = {
        "log_var_gain": draw.choice((1.0,) * 5 + (-1.0, 30.0, 1e4)),
        "dead": draw.random() < 0.1,
        "scale": draw.choice((1.0,) * 9 + (0.0, 1e-20, 3.0, 30.0, 1e20)),
        "output": draw.choice(("sigmoid",) * 8 + ("clamp", "softmax", "exp", "tanh")),
        "loss": draw.choice(("squared",) * 6 + ("sum", "logarithm", "ratio", "root")),
        "normed": draw.random() < 0.3,
        "fails_from": draw.choice((0,) * 6 + (4, 9, 30)),
        "fails_every": draw.choice((0,) * 6 + (1, 2, 4, 9, 40)),
    }
    variant = ",".join(f"{name}={value}" for name, value in options.items())
    data = draw.choice(("digits", "digits", "black", "white", "one class", "one", "two", "noise"))
    latent_dim = round(log_uniform(1, 512))
    return Case(settings, draw.choice(TASKS), latent_dim, variant, data)


def dataset_of(name: str, digits: MNISTDataset) -> MNISTDataset:
    """Return a small dataset of this kind, made of real digits and labels where it can be."""
    images, labels = digits.images[:40].copy(), digits.labels[:40].copy()
    if name in ("black", "white"):
        images[:] = {"black": 0, "white": 255}[name]
    elif name == "noise":
        images = np.random.default_rng(0).integers(0, 256, images.shape, dtype=np.uint8)
    elif name == "one class":
        images, labels = digits.images[digits.labels == 3][:20], np.full(20, 3)
    elif name in ("one", "two"):
        count = {"one": 1, "two": 2}[name]
        images, labels = images[:count], labels[:count]
    dataset = object.__new__(MNISTDataset)
    dataset.path, dataset.images, dataset.labels = Path(name), images, labels
    return dataset


def outcome_of(case: Case, digits: MNISTDataset) -> tuple[str, str]:
    """Train, infer and grade. Returns "finished", "refused" or "defect", and what was said."""
    said: list[str] = []
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file = Path(folder) / "submission.py"
            file.write_text(MODEL, encoding="utf-8")
            with redirect_stdout(io.StringIO()):
                return "finished", _expect_honest(case, file, digits, said)
    except ERRORS as error:
        text = str(error)
        if not 10 <= len(text) <= MESSAGE or not text.isprintable():
            return "defect", f"this message is not one clear sentence: {text[:300]!r}"
        return "refused", text
    except AssertionError as error:
        return "defect", str(error)
    except Exception as error:
        return "defect", f"{type(error).__name__}: {str(error)[:300]}"


def _expect_honest(case: Case, file: Path, digits: MNISTDataset, said: list[str]) -> str:
    dataset = dataset_of(case.data, digits)
    settings = Settings(**case.settings)
    torch.manual_seed(settings.seed)
    submission = Submission(file, case.task, case.latent_dim, case.variant)
    check_contract(submission)
    trainer = Trainer(submission, settings, dataset, dataset, say=said.append, progress=False)
    trainer.prepare()
    assert train.fit(trainer, None, resumed=False), "training stopped without a reason"
    for name, value in trainer.model.state_dict().items():
        assert torch.isfinite(value).all(), f"training ended well, but {name} is not finite"
    _expect_honest_history(trainer, said)
    codes = encode_images(submission, dataset.images, dataset.labels)
    recon = decode_codes(submission, codes, dataset.labels)
    samples = generate_samples(submission, GEN_NUM, seed=0)
    latent_dim, given = codes.shape[1], samples if case.task == "Genwithlabel" else None
    scores = score_task(case.task, recon, dataset.images, dataset.labels, latent_dim, samples=given)
    json.dumps(scores, allow_nan=False)  # raises ValueError
    assert -1 <= scores["ssim"] <= 1 and 0 <= scores["mse"] <= 1
    assert scores["score"] <= scores["cap"], f"the score is {scores['score']}"
    return " ".join(said)


def _expect_honest_history(trainer: Trainer, said: list[str]) -> None:
    """Numbers that are not finite are named when they occur, and are no success."""
    state = trainer.state
    last = state.history[-1]
    bad = [name for name, value in last.items() if not math.isfinite(value)]
    assert not bad or said, f"{bad} of the last row are not finite, and nothing was said"
    assert state.best_epoch > 0, "no epoch was good, but training ended as if it had succeeded"
    assert math.isfinite(state.best_loss), "the best loss is not finite"
    assert state.skipped_steps < state.step, "no step was taken, but training ended well"

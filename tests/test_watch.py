"""Faults that stop no training are said once, in one line, and training ends with its scores."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from conftest import ROOT, SUBMISSIONS

from data_utils import set_seed
from lab.settings import Settings
from lab.split_model import Submission
from lab.watch import Watch
from trainer import Trainer

MODEL = (ROOT / "model.py").read_text(encoding="utf-8")
LOSS = "(squared_error / (2 * var) + kl_divergence)"


def watched(tiny_set, path: Path, task: str = "VAEwolabel", **changes) -> tuple[Trainer, Watch]:
    """Return a Trainer that keeps what is said in `said`, and its Watch."""
    quick = {"epochs": 3, "batch_size": 15, "lr": 2e-3, "eval_num": 40, "device": "cpu"}
    settings = Settings(**{**quick, **changes})
    set_seed(settings.seed)
    watch, said = Watch(), []
    submission = Submission(path, task, latent_dim=4)
    trainer = Trainer(submission, settings, tiny_set, tiny_set, [watch], said.append, False)
    trainer.said = said
    trainer.prepare()
    return trainer, watch


def expect(trainer: Trainer, watch: Watch, name: str, *words: str) -> None:
    """Train, and check that the fault is said once, and found to the end."""
    assert trainer.fit()
    assert list(watch.found) == [name]
    *faults, scores = trainer.said
    assert len(faults) == 1 and "\n" not in faults[0]
    assert watch.found[name].split(" (")[0] in faults[0]  # the loss in brackets is another by now
    for word in words:
        assert word in faults[0]
    assert scores.startswith("best validation, epoch ")


@pytest.mark.parametrize("task, todo", [("VAEwolabel", "2.2.2"), ("Genwithlabel", "3.2")])
def test_posterior_collapse(tiny_set, task, todo):
    trainer, watch = watched(tiny_set, ROOT / "model.py", task, var=1e4, epochs=12)
    expect(trainer, watch, "posterior collapse", "lower --var", f"TODO {todo}")


def test_a_kl_term_of_the_wrong_sign(tmp_path, tiny_set):
    assert LOSS in MODEL
    file = tmp_path / "wrong.py"
    file.write_text(MODEL.replace(LOSS, LOSS.replace("+", "-")), encoding="utf-8")
    trainer, watch = watched(tiny_set, file, var=50.0, epochs=8, lr=2e-4)
    expect(trainer, watch, "negative loss", "TODO 2.3", "sign")
    trainer.state.history[-1] |= {"train_loss": 1.0, "valid_loss": 1.0}  # as after a recovery
    watch.on_epoch_end(trainer)
    assert "negative loss" in watch.found


def test_a_negative_loss_before_a_failure_in_the_first_epoch(tiny_set):
    trainer, watch = watched(tiny_set, ROOT / "model.py")
    for sums, said in (({}, 0), ({"steps": 2, "loss": 8.0}, 0), ({"steps": 2, "loss": -8.0}, 1)):
        trainer.state.sums = sums
        watch.on_failure(trainer)
        assert len(trainer.said) == said
    assert "before that, the loss is negative (-4)" in trainer.said[0]


def test_a_dead_output(tiny_set):
    trainer, watch = watched(tiny_set, ROOT / "model.py")
    with torch.no_grad():
        trainer.model.decoder[2].bias.fill_(-1e4)  # before the sigmoid
    expect(trainer, watch, "dead output", "TODO 2.2.3", "ReLU")


def test_a_healthy_run_ends_with_its_scores(tiny_set):
    trainer, watch = watched(tiny_set, ROOT / "model.py", pred_step=5)
    assert trainer.fit() and not watch.found
    (line,) = trainer.said
    found = re.fullmatch(r"best validation, epoch (\d) of 3: loss (.+), ssim (.+), mse (.+)", line)
    best = [row for row in trainer.state.history if row["step"] == 8 * int(found[1])]
    assert len(best) == 1
    for value, name in zip(found.groups()[1:], ("loss", "ssim", "mse")):
        assert float(value) == pytest.approx(best[0][f"valid_{name}"], rel=1e-2)
    assert float(found[2]) == pytest.approx(trainer.state.best_loss, rel=1e-4)


@pytest.mark.parametrize("name", ["own_loss", "adversarial"])
def test_a_loss_of_its_own_may_be_negative(tiny_set, name):
    trainer, watch = watched(tiny_set, SUBMISSIONS / f"{name}.py", "Genwithlabel")
    if name == "own_loss":
        original = trainer.model.compute_loss
        trainer.model.compute_loss = lambda *words: {
            part: value - 1e3 for part, value in original(*words).items()
        }
    assert trainer.fit() and not watch.found
    assert len(trainer.said) == (name == "own_loss")  # the other has no score to say
    assert not {"valid_kl_divergence", "valid_reconstruction_loss"} & set(trainer.state.history[-1])


def test_the_history_has_both_terms_of_the_loss(tiny_set):
    trainer, _ = watched(tiny_set, ROOT / "model.py", "Genwithlabel", epochs=1)
    assert trainer.fit()
    row = trainer.state.history[-1]
    x = torch.from_numpy(tiny_set.images[:40]).unsqueeze(1) / 255
    mu, log_var = trainer.model.encode(x, torch.from_numpy(tiny_set.labels[:40]))
    prior = torch.distributions.Normal(torch.zeros(4), torch.ones(4))
    posterior = torch.distributions.Normal(mu, (0.5 * log_var).exp())
    kl = torch.distributions.kl_divergence(posterior, prior).sum(1).mean().item()
    assert row["valid_kl_divergence"] == pytest.approx(kl, rel=1e-4)
    for part in ("train", "valid"):
        terms = row[f"{part}_reconstruction_loss"] + row[f"{part}_kl_divergence"]
        assert row[f"{part}_reconstruction_loss"] > 0
        assert terms == pytest.approx(row[f"{part}_loss"])

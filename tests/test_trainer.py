"""The Trainer: exact resume, steps that are not finite, precision, schedule, optional methods."""

from __future__ import annotations

import functools
import math
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from conftest import ROOT, SUBMISSIONS
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from data_utils import set_seed
from lab import checkpoint
from lab.callbacks import Callback
from lab.device import native_bf16, pick_device
from lab.gradients import clip_gradients
from lab.prior import fit_prior
from lab.recovery import MAX_ROLLBACKS
from lab.schedule import learning_rate_factor
from lab.settings import Settings, SettingsError
from lab.split_model import Submission
from trainer import Trainer, TrainingError

IS_X86 = torch.cpu.get_capabilities().get("architecture") == "x86_64"
QUICK = {"epochs": 3, "batch_size": 15, "lr": 2e-3, "eval_num": 40, "device": "cpu"}


def make_trainer(tiny_set, path: Path, task="VAEwolabel", callbacks=(), **changes) -> Trainer:
    settings = Settings(**{**QUICK, **changes})
    set_seed(settings.seed)
    submission = Submission(path, task, latent_dim=4)
    said = []
    trainer = Trainer(
        submission, settings, tiny_set, tiny_set, callbacks, said.append, progress=False
    )
    trainer.said = said
    trainer.prepare()
    return trainer


def numbers(history):
    """Return the history without the times."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


def assert_same_state(a, b):
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            if key != "seconds":
                assert_same_state(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b):
            assert_same_state(x, y)
    else:
        assert a == b


class InterruptAt(Callback):
    """Sends SIGINT when a step is validated, and saves the state on interruption."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_validation(self, trainer, row):
        if row["step"] == self.step:
            os.kill(os.getpid(), signal.SIGINT)

    def on_interrupt(self, trainer):
        checkpoint.save(self.path, trainer.state_dict())


EXACT = [
    (ROOT / "submission.py", "Genwithlabel"),
    (ROOT / "model.py", "VAEwolabel"),
    (SUBMISSIONS / "convolutional.py", "Genwithlabel"),
    (SUBMISSIONS / "own_loss.py", "Genwithlabel"),
    (SUBMISSIONS / "adversarial.py", "Genwithlabel"),
]


@functools.cache
def undisturbed(tiny_set, path, task) -> Trainer:
    """Return the Trainer of an uninterrupted run, the same for all steps of an interruption."""
    whole = make_trainer(tiny_set, path, task, pred_step=1)
    assert whole.fit()
    return whole


@pytest.mark.parametrize("path, task", EXACT, ids=[path.stem for path, _ in EXACT])
@pytest.mark.parametrize("step", [5, 8, 12])  # in the first epoch, at its end, in the second
def test_resume_is_exact(tmp_path, tiny_set, path, task, step):
    """A run that is interrupted, saved and resumed equals an uninterrupted one, bit for bit."""
    whole, pred_step = undisturbed(tiny_set, path, task), {"pred_step": 1}
    file = tmp_path / "interrupted.pth"
    first = make_trainer(tiny_set, path, task, [InterruptAt(step, file)], **pred_step)
    assert not first.fit()
    assert first.state.step == step
    torch.rand(17)  # another process would have drawn other numbers by now

    second = make_trainer(tiny_set, path, task, **pred_step)
    second.load_state_dict(checkpoint.load(file))
    assert second.fit()
    assert_same_state(second.state_dict(), whole.state_dict())
    assert numbers(second.state.history) == numbers(whole.state.history)


def test_validation_does_not_change_training(tiny_set):
    """Validating at every step or never gives the same weights."""
    often = make_trainer(tiny_set, SUBMISSIONS / "convolutional.py", pred_step=1)
    assert often.fit()
    seldom = make_trainer(tiny_set, SUBMISSIONS / "convolutional.py")
    assert seldom.fit()
    assert_same_state(often.model.state_dict(), seldom.model.state_dict())
    assert len(often.state.history) == 24 and len(seldom.state.history) == 3


def test_a_finished_run_can_train_more_epochs(tiny_set):
    short = make_trainer(tiny_set, ROOT / "model.py", epochs=1)
    short.fit()
    longer = make_trainer(tiny_set, ROOT / "model.py", epochs=2)
    longer.load_state_dict(short.state_dict())
    assert longer.fit() and longer.state.epoch == 2 and longer.state.step == 16


def test_training_lowers_loss_and_error(tiny_set):
    trainer = make_trainer(tiny_set, ROOT / "submission.py", epochs=15, var=0.02)
    trainer.fit()
    first, last = trainer.state.history[0], trainer.state.history[-1]
    assert last["valid_mse"] < 0.6 * first["valid_mse"]
    assert last["train_loss"] < first["train_loss"]
    assert trainer.state.best_loss == min(row["valid_loss"] for row in trainer.state.history)


# ---------------------------------------------------------------- steps that are not finite


def gone_bad(tmp_path, first_bad, bad_steps) -> Path:
    text = (SUBMISSIONS / "goes_bad.py").read_text(encoding="utf-8")
    file = tmp_path / "goes_bad.py"
    file.write_text(
        text.replace(
            "first_bad, bad_steps = 3, 10**9", f"first_bad, bad_steps = {first_bad}, {bad_steps}"
        ),
        encoding="utf-8",
    )
    return file


def finite(trainer) -> bool:
    return all(torch.isfinite(value).all() for value in trainer.model.state_dict().values())


def test_a_bad_step_is_skipped_and_counted(tmp_path, tiny_set):
    trainer = make_trainer(tiny_set, gone_bad(tmp_path, 3, 2), precision="fp32")
    assert trainer.fit()
    assert trainer.state.skipped_steps == 2 and trainer.state.lr_scale == 1 and not trainer.said
    assert trainer.state.history[-1]["skipped_steps"] == 2
    assert finite(trainer), "BatchNorm's statistics must not keep the bad batch"


def test_several_bad_steps_go_back_to_the_last_good_state(tmp_path, tiny_set):
    trainer = make_trainer(tiny_set, gone_bad(tmp_path, 10, 7), precision="fp32")
    assert trainer.fit()
    assert trainer.state.skipped_steps == 7 and trainer.state.lr_scale == 0.5
    assert len(trainer.said) == 1 and "learning rate 0.001" in trainer.said[0]
    assert finite(trainer)


class Events(Callback):
    def __init__(self) -> None:
        self.seen = []

    def on_failure(self, trainer):
        self.seen.append(("failure", trainer.state.epoch, finite(trainer)))


def test_training_gives_up_with_the_last_good_state(tmp_path, tiny_set):
    events, good = Events(), {}
    path = gone_bad(tmp_path, 10, 10**9)
    callbacks = [events, KeepAt(1, good)]
    trainer = make_trainer(tiny_set, path, callbacks=callbacks, epochs=9, precision="fp32")
    with pytest.raises(TrainingError, match="gave up at step 30.*lower --lr"):
        trainer.fit()
    assert len(events.seen) == 1 and events.seen[0][2]
    assert trainer.state.lr_scale == 1 / 8 and trainer.state.rollbacks == MAX_ROLLBACKS
    assert_same_state(dict(trainer.model.state_dict()), good)


class KeepAt(Callback):
    def __init__(self, epoch, into) -> None:
        self.epoch, self.into = epoch, into

    def on_epoch_end(self, trainer):
        if trainer.state.epoch == self.epoch:
            self.into.update({k: v.clone() for k, v in trainer.model.state_dict().items()})


@pytest.mark.parametrize("lr", [0.05, 1e12])
def test_too_high_learning_rates_end_with_finite_weights(tiny_set, lr):
    """At rates far above those at which the original reports' training exploded."""
    trainer = make_trainer(tiny_set, ROOT / "submission.py", lr=lr, var=0.02, epochs=12)
    before = trainer.validate()["valid_mse"]
    try:
        assert trainer.fit()
        assert trainer.validate()["valid_mse"] < before
    except TrainingError as error:
        assert lr == 1e12 and "not finite" in str(error)
    assert finite(trainer)


def test_an_epoch_that_ends_in_nan_is_rolled_back(tiny_set):
    """Weights that become nan in the last step of an epoch are found only by validation."""
    trainer = make_trainer(tiny_set, ROOT / "model.py")
    spoil_at(trainer, step=8)
    assert trainer.fit()
    assert trainer.state.lr_scale == 0.5 and "epoch ended" in trainer.said[0] and finite(trainer)
    assert math.isnan(trainer.state.history[0]["valid_loss"])
    assert math.isfinite(trainer.state.history[-1]["valid_loss"])


def spoil_at(trainer: Trainer, step: int) -> None:
    """Make the weights nan in a step whose loss is finite."""
    original = trainer.training_step

    def spoiling(x, labels):
        parts = original(x, labels)
        if trainer.state.step + 1 == step:
            with torch.no_grad():
                trainer.parameters[0].fill_(math.nan)
        return parts

    trainer.training_step = spoiling


def test_resume_is_exact_after_a_rollback(tmp_path, tiny_set):
    """The checkpoint also has lr_scale, the last good state and the mean of the gradient norm."""
    path = gone_bad(tmp_path, 10, 7)
    options = {"precision": "fp32", "pred_step": 1, "epochs": 4}
    whole = make_trainer(tiny_set, path, **options)
    assert whole.fit() and whole.state.lr_scale == 0.5

    file = tmp_path / "interrupted.pth"
    first = make_trainer(tiny_set, path, callbacks=[InterruptAt(21, file)], **options)
    assert not first.fit() and first.state.lr_scale == 0.5
    second = make_trainer(tiny_set, gone_bad(tmp_path, 10**9, 0), **options)
    second.load_state_dict(checkpoint.load(file))
    assert second.fit()
    assert_same_state(second.state_dict(), whole.state_dict())


def test_a_non_persistent_buffer_survives_a_bad_step(tmp_path, tiny_set):
    file = gone_bad(tmp_path, 3, 2)
    text = file.read_text(encoding="utf-8")
    line = "        self.dec = nn.Linear(latent_dim, 784)\n"
    mask = 'self.register_buffer("mask", torch.full((2,), -torch.inf), persistent=False)\n'
    file.write_text(text.replace(line, f"{line}        {mask}"), encoding="utf-8")
    trainer = make_trainer(tiny_set, file, precision="fp32")
    assert trainer.fit() and trainer.state.skipped_steps == 2
    assert torch.isinf(trainer.model.mask).all()


# ---------------------------------------------------------------- precision and settings


@pytest.mark.parametrize(
    "capabilities, native",
    [({"avx2": True}, False), ({"avx512_bf16": True}, True), ({"amx_bf16": True}, True)],
)
def test_bf16_where_it_is_native(monkeypatch, capabilities, native):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert native_bf16(torch.device("cpu")) == native
    assert not native_bf16(torch.device("mps"))


def test_trial_steps_leave_the_model_unchanged(tiny_set, tmp_path):
    text = (ROOT / "submission.py").read_text(encoding="utf-8")
    first = "            nn.Conv2d(1, 32, 4, stride=2, padding=1),"
    file = tmp_path / "with_norm.py"
    norm = "            nn.BatchNorm2d(1),\n            nn.Dropout(0.1),\n"
    file.write_text(text.replace(first, norm + first), encoding="utf-8")
    set_seed(7)
    submission = Submission(file, "VAEwolabel", 4)
    before = {name: value.clone() for name, value in submission.model.state_dict().items()}
    Trainer(submission, Settings(**QUICK, seed=7, precision="bf16"), tiny_set, tiny_set).prepare()
    randomness = torch.get_rng_state()
    after = submission.model.state_dict()
    assert list(before) == list(after) and "image_to_features.0.running_mean" in before
    for name, value in after.items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in submission.model.parameters())
    set_seed(7)
    assert torch.equal(torch.get_rng_state(), randomness)


def test_a_step_clears_the_gradients_of_all_tensors_of_an_optimizer(tiny_set):
    """A student's configure_optimizers may add a tensor that is not in the model."""
    trainer = make_trainer(tiny_set, ROOT / "model.py")
    outside = torch.ones(3, requires_grad=True)
    trainer.optimizers[0].add_param_group({"params": [outside], "initial_lr": 1e-3})
    outside.grad = torch.ones(3)
    assert trainer.training_step(*next(trainer.batches.epoch(0)))
    assert outside.grad is None and outside.tolist() == [1, 1, 1]


def test_fp32_and_bf16_train_alike(tiny_set):
    fp32 = make_trainer(tiny_set, ROOT / "model.py", precision="fp32")
    assert fp32.fit() and not fp32.precision.bf16
    bf16 = make_trainer(tiny_set, ROOT / "model.py", precision="bf16")
    assert bf16.fit() and bf16.precision.bf16
    losses = [trainer.state.history[-1]["valid_loss"] for trainer in (fp32, bf16)]
    assert losses[0] != losses[1] and math.isclose(*losses, rel_tol=0.02)


def test_loss_and_evaluation_are_fp32(tiny_set):
    trainer = make_trainer(tiny_set, ROOT / "model.py", precision="bf16")
    seen = []
    original = trainer.submission.vae_loss

    def spy(recon_x, x, mu, log_var, var):
        seen.append({recon_x.dtype, x.dtype, mu.dtype, log_var.dtype})
        assert not torch.is_autocast_enabled("cpu")
        return original(recon_x, x, mu, log_var, var=var)

    trainer.submission.vae_loss = spy
    trainer.fit()
    assert seen and all(dtypes == {torch.float32} for dtypes in seen)

    inside = []
    trainer.model.register_forward_pre_hook(
        lambda *_: inside.append(torch.is_autocast_enabled("cpu"))
    )
    trainer.validate()
    assert inside and not any(inside)


def test_fallback_to_fp32_is_said_in_one_line(tiny_set):
    trainer = make_trainer(tiny_set, SUBMISSIONS / "no_bf16.py", precision="bf16")
    assert not trainer.precision.bf16 and len(trainer.said) == 1
    assert "trains in fp32" in trainer.said[0] and "\n" not in trainer.said[0]
    assert trainer.fit()


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"batch_size": -1},
        {"lr": 0},
        {"lr": math.nan},
        {"var": -0.5},
        {"var": math.inf},
        {"lr_schedule": "linear"},
        {"precision": "fp16"},
        {"eval_num": 0},
        {"grad_clip": -1},
    ],
)
def test_settings_have_ranges(change):
    (name,) = change
    with pytest.raises(SettingsError, match=f"{name} is"):
        Settings(**change)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has the device")
def test_a_missing_device_is_an_error():
    with pytest.raises(SettingsError, match="no cuda device"):
        pick_device("cuda")


def test_schedule_warms_up_and_decays():
    factors = [learning_rate_factor(step, 800, "cosine") for step in range(800)]
    peak = factors.index(max(factors))
    assert peak == 39 or peak == 40  # 5 % of the steps
    assert factors[:peak] == sorted(factors[:peak])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert factors[0] < 0.05 and factors[-1] < 1e-4
    assert {learning_rate_factor(step, 24, "constant") for step in range(24)} == {1.0}


def test_the_schedule_reaches_the_optimizer(tiny_set):
    trainer = make_trainer(tiny_set, ROOT / "model.py", epochs=1, pred_step=1)
    trainer.fit()
    rates = [row["lr"] for row in trainer.state.history]
    factors = [learning_rate_factor(step, 8, "cosine") for step in range(8)]
    assert rates == [trainer.settings.lr * factor for factor in factors]
    assert trainer.optimizers[0].param_groups[0]["lr"] == rates[-1]


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
def test_clipping_does_not_depend_on_the_scale_of_the_loss(scale, norm):
    """Gradients of a loss times any number are clipped at that number times the bound."""
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    weight.grad = torch.tensor([norm * scale], dtype=torch.float64)
    clip_gradients([weight], norm * scale, mean_norm=scale, factor=2.0)
    assert weight.grad.item() == pytest.approx(scale * min(norm, 2.0), rel=1e-5, abs=1e-5)


def test_the_constructor_runs_no_student_code(tiny_set, monkeypatch):
    """Building a Trainer calls no method of the model; prepare does."""
    submission = Submission(SUBMISSIONS / "own_loss.py", "Genwithlabel", latent_dim=4)
    called = []
    for name in ("forward", "encode", "decode", "compute_loss", "configure_optimizers"):
        original = getattr(submission.model, name)
        spy = lambda *words, name=name, original=original: called.append(name) or original(*words)  # noqa: E731
        monkeypatch.setattr(submission.model, name, spy)
    trainer = Trainer(submission, Settings(**QUICK), tiny_set, tiny_set)
    assert not called
    trainer.prepare()
    assert "configure_optimizers" in called


@pytest.mark.parametrize("convolutions", ["fast", "torch"])
def test_fast_convolutions_can_be_switched_off(tiny_set, convolutions):
    path = SUBMISSIONS / "convolutional.py"
    trainer = make_trainer(tiny_set, path, convolutions=convolutions, precision="fp32")
    kinds = {type(layer) for layer in trainer.model.modules() if isinstance(layer, nn.Conv2d)}
    assert (kinds == {nn.Conv2d}) == (convolutions == "torch" or not IS_X86)


# ---------------------------------------------------------------- optional methods


def test_own_loss_and_optimizer(tiny_set):
    path = SUBMISSIONS / "own_loss.py"
    trainer = make_trainer(tiny_set, path, "Genwithlabel")
    assert isinstance(trainer.optimizers[0], torch.optim.SGD)
    assert trainer.fit()
    assert {"train_loss", "train_recon", "train_weight", "valid_recon"} <= set(
        trainer.state.history[-1]
    )
    codes_mean = trainer.model.mean.clone()
    fit_prior(trainer.submission, trainer.batches, trainer.settings.seed)
    assert trainer.model.fits == 1 and not torch.equal(trainer.model.mean, codes_mean)


def test_a_vae_sees_no_labels_in_fit_prior_either(tmp_path, tiny_set):
    text = (SUBMISSIONS / "own_loss.py").read_text(encoding="utf-8")
    file = tmp_path / "mine.py"
    file.write_text(text.replace("class GenModel", "class VAE"), encoding="utf-8")
    trainer = make_trainer(tiny_set, file)
    seen = []
    trainer.model.fit_prior = lambda codes, labels: seen.append(labels)
    fit_prior(trainer.submission, trainer.batches, trainer.settings.seed)
    assert len(seen[0]) == len(tiny_set) and not seen[0].any()


def test_fit_prior_that_adds_a_buffer(tiny_set):
    """Its checkpoint could not be loaded, so the error comes after training, not in inference."""
    trainer = make_trainer(tiny_set, SUBMISSIONS / "own_loss.py", "Genwithlabel")
    model = trainer.model
    model.fit_prior = lambda codes, labels: model.register_buffer("late", torch.zeros(3))
    with pytest.raises(TrainingError, match="late.*in __init__ with register_buffer"):
        fit_prior(trainer.submission, trainer.batches, trainer.settings.seed)


def test_named_parts_may_be_plain_numbers(tiny_set):
    trainer = make_trainer(tiny_set, SUBMISSIONS / "own_loss.py", "Genwithlabel", epochs=1)
    original = trainer.model.compute_loss
    trainer.model.compute_loss = lambda *words: {**original(*words), "answer": 42}
    assert trainer.fit() and trainer.state.history[-1]["train_answer"] == 42


def test_a_part_named_mse_does_not_replace_the_score(tiny_set):
    """valid_mse is that of the reconstructions, not the part that the model names mse."""
    trainer = make_trainer(tiny_set, SUBMISSIONS / "own_loss.py", "Genwithlabel", epochs=1)
    original = trainer.model.compute_loss
    trainer.model.compute_loss = lambda *words: {**original(*words), "mse": 42}
    assert trainer.fit()
    row = trainer.state.history[-1]
    assert row["train_mse"] == 42 and row["valid_mse"] < 1 and "valid_ssim" in row


def test_adversarial_training(tiny_set):
    trainer = make_trainer(tiny_set, SUBMISSIONS / "adversarial.py", "Genwithlabel")
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    assert trainer.fit()
    assert {"train_critic", "train_generator"} <= set(trainer.state.history[-1])
    assert trainer.state.best_epoch == trainer.state.epoch
    after = trainer.model.state_dict()
    # The critic's bias cancels in the difference of its two means.
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == set(before) - {"critic.bias"}


def test_prior_of_the_reference_standardises_codes(tiny_set):
    """After fit_prior the codes of each label have mean 0, covariance I; decode undoes it."""
    trainer = make_trainer(tiny_set, ROOT / "submission.py", "Genwithlabel", epochs=5, var=0.02)
    trainer.fit()
    x = torch.from_numpy(tiny_set.images).unsqueeze(1) / 255
    labels = torch.from_numpy(tiny_set.labels)
    before = trainer.reconstruct(x, labels)
    for _ in range(2):  # fitting again, on codes that are standard already, changes nothing
        fit_prior(trainer.submission, trainer.batches, trainer.settings.seed)
        codes = trainer.submission.encode(x, labels)
        for label in range(10):
            chosen = codes[labels == label]
            assert chosen.mean(0).abs().max() < 1e-2
            assert (torch.cov(chosen.T) - torch.eye(4)).abs().max() < 0.05
        assert torch.allclose(trainer.reconstruct(x, labels), before, atol=1e-3)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler here")
def test_a_compiled_model_trains_like_an_uncompiled_one(tiny_set):
    counts = torch._dynamo.utils.counters["frames"]
    losses = {}
    for compiled in ("no", "yes"):  # a model without noise, which a compiler draws in its own way
        before = counts["ok"]
        trainer = make_trainer(
            tiny_set, ROOT / "zoo" / "mlp_ae.py", compile=compiled, epochs=1, precision="fp32"
        )
        assert trainer.fit()
        losses[compiled] = trainer.state.history[-1]["train_loss"]
        assert (counts["ok"] > before) == (compiled == "yes")
    assert losses["yes"] == pytest.approx(losses["no"], rel=1e-4)

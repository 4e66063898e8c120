"""Every submission of the contract runs unmodified; each breach is explained."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, SUBMISSIONS
from hypothesis import given, settings
from hypothesis import strategies as st

from data_utils import set_seed, to_float
from lab.contract import check_contract
from lab.loading import ContractError, load_module
from lab.split_model import Submission

GOOD = [
    (ROOT / "submission.py", "VAEwolabel"),
    (ROOT / "submission.py", "Genwithlabel"),
    (ROOT / "model.py", "VAEwolabel"),
    (ROOT / "model.py", "Genwithlabel"),
    (SUBMISSIONS / "encode_without_labels.py", "VAEwolabel"),
    (SUBMISSIONS / "encode_without_labels.py", "Genwithlabel"),
    (SUBMISSIONS / "convolutional.py", "VAEwolabel"),
    (SUBMISSIONS / "convolutional.py", "Genwithlabel"),
    (SUBMISSIONS / "inline_noise.py", "VAEwolabel"),
    (SUBMISSIONS / "no_bf16.py", "VAEwolabel"),
    (SUBMISSIONS / "own_loss.py", "Genwithlabel"),
    (SUBMISSIONS / "inline_noise.py", "Genwithlabel"),
]
each_good = pytest.mark.parametrize(
    "path, task", GOOD, ids=[f"{path.stem}-{task}" for path, task in GOOD]
)


@pytest.fixture
def digits(tiny_set):
    images = to_float(torch.from_numpy(tiny_set.images[::6]))  # (20, 1, 28, 28)
    return images, torch.from_numpy(tiny_set.labels[::6])


@each_good
def test_encode_decode_and_generate(path, task, digits):
    submission = Submission(path, task, latent_dim=6)
    check_contract(submission)
    codes = submission.encode(*digits)
    assert codes.shape == (20, 6) and codes.dtype == torch.float32
    assert torch.equal(codes, submission.encode(*digits))
    recon = submission.decode(codes, digits[1])
    assert recon.shape == (20, 28, 28) and recon.min() >= 0 and recon.max() <= 1
    samples = submission.generate(torch.arange(10), seed=3)
    assert samples.shape == (10, 28, 28)
    assert torch.equal(samples, submission.generate(torch.arange(10), seed=3))
    assert not torch.equal(samples, submission.generate(torch.arange(10), seed=4))


@each_good
def test_check_leaves_the_model_and_the_generators_alone(path, task):
    set_seed(5)
    submission = Submission(path, task, latent_dim=4)
    before = {k: v.clone() for k, v in submission.model.state_dict().items()}
    drawn = torch.get_rng_state()
    check_contract(submission)
    assert torch.equal(drawn, torch.get_rng_state())
    assert all(torch.equal(v, before[k]) for k, v in submission.model.state_dict().items())


@pytest.mark.parametrize("name", ["encode_without_labels", "inline_noise", "model"])
def test_codes_are_the_posterior_mean_even_of_a_forward_that_samples(name, digits):
    path = ROOT / "model.py" if name == "model" else SUBMISSIONS / f"{name}.py"
    submission = Submission(path, "VAEwolabel", latent_dim=5)
    images, labels = digits
    _, mu, _ = submission.model.eval()(images, labels)
    assert torch.allclose(submission.encode(images, labels), mu)


def test_encode_then_decode_is_forward_at_the_mean(digits):
    submission = Submission(SUBMISSIONS / "convolutional.py", "Genwithlabel", latent_dim=5)
    images, labels = digits
    recon_x, _, _ = submission.model.eval()(images, labels)  # in eval this one takes the mean
    halves = submission.decode(submission.encode(images, labels), labels)
    assert torch.allclose(halves, recon_x, atol=1e-6)


def test_the_vae_sees_no_labels(digits):
    images, labels = digits
    seen = []
    submission = Submission(ROOT / "model.py", "VAEwolabel", latent_dim=4)
    original = submission.model.encode
    submission.model.encode = lambda x, labels: seen.append(labels) or original(x, labels)
    submission.encode(images, labels)
    assert labels.any() and not torch.cat(seen).any()


@settings(max_examples=15)
@given(seed=st.integers(0, 2**31), count=st.integers(1, 30), chunk=st.integers(1, 30))
def test_samples_do_not_depend_on_the_chunks(seed, count, chunk):
    submission = Submission(ROOT / "model.py", "Genwithlabel", latent_dim=3)
    labels = torch.arange(count) % 10
    whole = submission.generate(labels, seed)
    assert torch.allclose(whole, submission.generate(labels, seed, chunk), atol=1e-6)


def test_encode_leaves_the_model_unchanged(digits):
    submission = Submission(ROOT / "model.py", "VAEwolabel", latent_dim=4)
    submission.model.train()
    submission.encode(*digits)
    assert submission.model.training
    assert "decode" not in vars(submission.model)
    assert torch.randn(5).any()


# ---------------------------------------------------------------- breaches

MODEL = (ROOT / "model.py").read_text(encoding="utf-8")

BREACHES = {
    "syntax": ("import torch\n", "import torch(\n", r"line 7, during import: SyntaxError"),
    "no class": ("class VAE(", "class Vae(", "NameError: name 'VAE'"),
    "no loss": ("def vae_loss", "def vae_lose", "no function vae_loss"),
    "import": ("import torch\n", "import torch\nimport no_such_module\n", "ModuleNotFoundError"),
    "not a module": ("class VAE(nn.Module)", "class VAE(dict)", "not a torch.nn.Module"),
    "no latent_dim": ("latent_dim: int = 20, hidden", "latents: int = 20, hidden", "latent_dim"),
    "two values": (
        "return self.decode(self.reparameterize(mu, log_var), labels), mu, log_var",
        "return self.decode(self.reparameterize(mu, log_var), labels), mu",
        "returned 2 values; expected three values",
    ),
    "decode twice": (
        "        mu, log_var = self.encode(x, labels)\n",
        "        mu, log_var = self.encode(x, labels)\n        self.decode(mu, labels)\n",
        "called self.decode 2 times",
    ),
    "decode never": (
        "return self.decode(self.reparameterize(mu, log_var), labels), mu",
        "return self.decoder(self.reparameterize(mu, log_var)), mu",
        "called self.decode 0 times",
    ),
    "mu too wide": (
        "return self.mu(hidden), self.log_var(hidden)",
        "return hidden, self.log_var(hidden)",
        "during forward: RuntimeError: The size",
    ),
    "no sigmoid": ("            nn.Sigmoid(),\n", "", r"expected \[0, 1\]: end the decoder"),
    "small image": ("nn.Linear(hidden_dim, 784)", "nn.Linear(hidden_dim, 700)", r"\(4, 700\)"),
    "loss per image": (
        "return (squared_error / (2 * var) + kl_divergence).mean()",
        "return squared_error / (2 * var) + kl_divergence",
        r"returned shape \(4,\); expected one number",
    ),
    "loss detached": (
        "return (squared_error / (2 * var) + kl_divergence).mean()",
        "return (squared_error / (2 * var) + kl_divergence).mean().detach()",
        "has no gradient to the model's parameters",
    ),
    "loss nan": (
        "return (squared_error / (2 * var) + kl_divergence).mean()",
        "return (squared_error / (2 * var) + kl_divergence).mean() * float('nan')",
        "vae_loss is nan",
    ),
    "no encode": ("def encode", "def encoding", "no method encode"),
    "in-place error": (
        "hidden = F.leaky_relu(self.hidden(x.flatten(1)), 0.2)",
        "hidden = torch.exp(self.hidden(x.flatten(1))); hidden *= 0.1",
        "during the backward pass of vae_loss: RuntimeError: one of the variables",
    ),
    "optimizers of another kind": (
        "    def encode",
        "    def configure_optimizers(self, lr):\n        return [1], []\n\n    def encode",
        "returned list, list; expected an optimizer",
    ),
    "optimizers without lr": (
        "    def encode",
        "    def configure_optimizers(self):\n        return 1\n\n    def encode",
        "during configure_optimizers: TypeError",
    ),
    "decode is a layer": (
        "        self.decoder = nn",
        "        self.decode = nn.Identity()\n        self.decoder = nn",
        "self.decode of VAE is a layer",
    ),
}


@pytest.mark.parametrize("name", BREACHES)
def test_each_breach_is_explained(tmp_path, name):
    old, new, words = BREACHES[name]
    assert old in MODEL
    file = tmp_path / "mine.py"
    file.write_text(MODEL.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ContractError) as caught:
        check_contract(Submission(file, "VAEwolabel", 20))
    assert re.search(words, str(caught.value)), caught.value
    assert "\n" not in str(caught.value)


def test_an_error_in_a_submission_names_file_and_line(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(MODEL.replace("x.flatten(1)), 0.2)", "x), 0.2)", 1), encoding="utf-8")
    line = 1 + file.read_text().splitlines().index(
        "        hidden = F.leaky_relu(self.hidden(x), 0.2)  # (B, hidden_dim)"
    )
    with pytest.raises(ContractError, match=f"mine.py, line {line}, during forward: RuntimeError"):
        check_contract(Submission(file, "VAEwolabel", 20))


def test_an_edit_within_a_second_is_seen_and_no_compiled_file_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = tmp_path / "mine.py"
    for number in (1, 2):
        file.write_text(f"value = {number}\n")
        os.utime(file, (1e9, 1e9))
        assert load_module(file).value == number
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


@pytest.mark.parametrize("latent_dim", [0, -1, 785, 10_000])
def test_latent_dim_has_a_range(latent_dim):
    with pytest.raises(ContractError, match="expected 1 to 784"):
        Submission(ROOT / "model.py", "VAEwolabel", latent_dim)


def test_unknown_task_and_missing_file():
    with pytest.raises(ContractError, match="unknown task"):
        Submission(ROOT / "model.py", "VAE", 20)
    with pytest.raises(ContractError, match="does not exist"):
        Submission(Path("no_such_file.py"), "VAEwolabel", 20)


NOISES = {
    "randn": "torch.randn(mu.shape)",
    "randn_like": "torch.randn_like(mu)",
    "normal": "torch.normal(torch.zeros_like(mu), 1.0)",
    "normal_": "torch.empty_like(mu).normal_()",
    "distributions": "torch.distributions.Normal(torch.zeros_like(mu), 1.0).rsample()",
}


@pytest.mark.parametrize("name", NOISES)
def test_codes_are_the_posterior_mean_for_every_kind_of_noise(tmp_path, digits, name):
    file = tmp_path / "mine.py"
    assert "torch.randn_like(mu)" in MODEL
    file.write_text(MODEL.replace("torch.randn_like(mu)", NOISES[name]), encoding="utf-8")
    submission = Submission(file, "VAEwolabel", latent_dim=5)
    _, mu, _ = submission.model.eval()(*digits)
    assert torch.allclose(submission.encode(*digits), mu)


def test_training_step_must_return_named_parts(tmp_path):
    text = (SUBMISSIONS / "adversarial.py").read_text(encoding="utf-8")
    last = '        return {"critic": critic_loss, "generator": generator_loss}\n'
    assert last in text
    file = tmp_path / "mine.py"
    file.write_text(text.replace(last, ""), encoding="utf-8")
    check_contract(Submission(SUBMISSIONS / "adversarial.py", "Genwithlabel", 4))
    with pytest.raises(ContractError, match="returned NoneType; expected a dict"):
        check_contract(Submission(file, "Genwithlabel", 4))

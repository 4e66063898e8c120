"""check.py: the points of each TODO with a hint, and a short training of the whole.

What each mistake costs is in test_mistakes.py.
"""

from __future__ import annotations

import re

import pytest
from conftest import ROOT, SUBMISSIONS, assert_clear_error, run
from mistakes import BASE, MISTAKES

from lab.checks.prior import try_prior
from lab.checks.training import memorise
from lab.loading import ContractError
from staff.solutions import blank


def written(folder, name):
    file = folder / "submission.py"
    file.write_text(next(one.text for one in MISTAKES if one.name == name), encoding="utf-8")
    return file


def points_in(stdout):
    """Return the points by TODO, as printed."""
    found = re.findall(r"^(\d[\d.]*) +\S.*? (\d+) / (\d+)$", stdout, re.MULTILINE)
    return {number: (int(points), int(of)) for number, points, of in found}


def test_a_complete_file_passes_and_training_comes_next():
    result = run("check.py", "--submission", "model.py")
    assert result.returncode == 0, result.stdout
    assert all(points == of for points, of in points_in(result.stdout).values())
    assert result.stdout.count("training on one batch works") == 2
    assert "47 of 47 completion points" in result.stdout
    assert "3 points for a GenModel that is trained" in " ".join(result.stdout.split())
    assert result.stdout.endswith("next: python train.py --task VAEwolabel\n")


def test_the_blank_file_has_no_points_and_names_every_todo(tmp_path):
    file = tmp_path / "submission.py"
    reference = (ROOT / "submission.py").read_text(encoding="utf-8")
    file.write_text(blank(reference), encoding="utf-8")
    result = run("check.py", "--submission", file)
    assert result.returncode == 1
    found = points_in(result.stdout)
    assert len(found) == 9 and {points for points, _ in found.values()} == {0}
    for todo in ("2.2.1", "2.2.4", "2.3", "3.4"):
        assert f"TODO {todo}: " in result.stdout
    assert "0 of 47" in result.stdout and "training on one batch" not in result.stdout


def test_a_mistake_is_named_with_a_hint(tmp_path):
    file = written(tmp_path, "KL sign")
    result = run("check.py", "--submission", file, "--task", "VAEwolabel")
    assert result.returncode == 1
    assert points_in(result.stdout) == {
        **{"2.2.1": (4, 4), "2.2.2": (4, 4), "2.2.3": (4, 4), "2.2.4": (3, 3)},
        "2.3": (13, 15),
    }
    said = " ".join(result.stdout.split())
    assert "the KL term has the wrong sign" in said and "hint: KL = -0.5" in said
    assert result.stdout.endswith("next: TODO 2.3\n")


def test_a_mistake_in_vae_costs_nothing_again_in_genmodel(tmp_path):
    file = written(tmp_path, "exp(log_var) for the standard deviation")
    result = run("check.py", "--submission", file, "--quick")
    found = points_in(result.stdout)
    assert found["2.2.4"] == (2, 3) and found["3.4"] == (3, 3)
    assert "the same mistake as in VAE costs nothing here" in result.stdout


def test_another_latent_dim_and_the_quick_check():
    words = ["check.py", "--submission", BASE, "--quick", "--latent_dim"]
    result = run(*words, 8)
    assert result.returncode == 0 and "training on one batch" not in result.stdout
    assert_clear_error(run(*words, 0), "--latent_dim is 0; expected 1 to 784")


def test_a_missing_file_is_a_clear_error():
    assert_clear_error(run("check.py", "--submission", "nowhere.py"), "does not exist")


def test_what_keeps_a_file_from_loading_is_printed_once(tmp_path):
    file = tmp_path / "submission.py"
    file.write_text("import torch\nx = = 1\n", encoding="utf-8")
    result = run("check.py", "--submission", file)
    assert result.returncode == 1
    assert result.stdout.count("line 2, during import: SyntaxError") == 1
    assert "hint: Python cannot read that line" in result.stdout
    assert "0 of 47" in result.stdout and "before TODO" not in result.stdout
    assert result.stdout.endswith(f"next: correct {file}\n")


# ---------------------------------------------------------------- fit_prior

FIT = "    def fit_prior(self, codes: Tensor, labels: Tensor) -> None:\n"
IN_FORWARD = "self.to_standard(self.reparameterize(mu, log_var), labels)"
WRONG_PRIORS = {  # edits of the reference solution, and what is said
    "decode does not apply it": (
        "self.with_label(self.from_standard(z, labels), labels)",
        "self.with_label(z, labels)",
        "fit_prior changes the reconstructions",
    ),
    "forward does not undo it": (
        IN_FORWARD,
        "self.reparameterize(mu, log_var)",
        "fit_prior changes the reconstructions",
    ),
    "the mean alone is undone": (
        IN_FORWARD,
        "self.reparameterize(mu, log_var) - self.prior_mean[labels]",
        "fit_prior changes the reconstructions",
    ),
    "another signature": (
        FIT,
        "    def fit_prior(self, codes):\n        labels = torch.zeros(len(codes)).long()\n",
        "during fit_prior: TypeError: ",
    ),
    "a new buffer": (
        FIT,
        f"{FIT}        self.register_buffer('late', codes)\n",
        r"changed the shape or number .*late",
    ),
    "an exception": (FIT, f"{FIT}        1 / 0\n", r"line 166, during fit_prior: ZeroDivision"),
    "no end": (FIT, f"{FIT}        while True: pass\n", "line 166, .*not end within 0.5 seconds"),
}


def with_prior(folder, name):
    old, new, _ = WRONG_PRIORS[name]
    text = (ROOT / "submission.py").read_text(encoding="utf-8")
    assert old in text
    file = folder / "submission.py"
    file.write_text(text.replace(old, new), encoding="utf-8")
    return file


@pytest.mark.parametrize("name", WRONG_PRIORS)
def test_a_wrong_fit_prior_is_found_before_training(tmp_path, name):
    file, found = with_prior(tmp_path, name), ""
    try:
        found = try_prior(file, "Genwithlabel", 8, 0.5 if name == "no end" else 120)
    except ContractError as error:
        found = str(error)
    assert re.search(WRONG_PRIORS[name][2], found)


@pytest.mark.parametrize("latent_dim", [1, 2, 20])
@pytest.mark.parametrize(
    "name", ["submission.py", "zoo/conv_cvae.py", "tests/submissions/own_loss.py", "model.py"]
)
def test_a_right_fit_prior_passes_and_none_is_needed(name, latent_dim):
    assert try_prior(ROOT / name, "Genwithlabel", latent_dim) == ""


def test_a_wrong_fit_prior_costs_no_points_and_comes_before_training(tmp_path):
    file = with_prior(tmp_path, "forward does not undo it")
    result = run("check.py", "--submission", file)
    assert result.returncode == 1 and "47 of 47" in result.stdout
    said = " ".join(result.stdout.split())
    assert "fit_prior (optional, below TODO 3.4): fit_prior changes the reconstructions" in said
    assert "training on one batch" not in said and "next: correct fit_prior" in said


# ---------------------------------------------------------------- training on one batch


@pytest.mark.parametrize("name", ["model.py", "submission.py"])
def test_the_labs_models_memorise_a_batch(name):
    assert memorise(ROOT / name, "Genwithlabel", 8) == ""


def test_a_model_whose_decoder_ignores_z_does_not(tmp_path):
    file = written(tmp_path, "z does not reach the image")
    assert "does z reach the decoder?" in memorise(file, "VAEwolabel", 8)


def test_models_without_a_loss_of_one_batch_are_not_trained():
    assert memorise(SUBMISSIONS / "adversarial.py", "Genwithlabel", 8) == ""


def test_a_breach_of_the_contract_is_raised(tmp_path):
    with pytest.raises(ContractError, match=r"expected three values"):
        memorise(written(tmp_path, "recon_x alone returned"), "VAEwolabel", 8)

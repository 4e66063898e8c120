"""check.py passes correct submissions, and explains each fault with a hint."""

from __future__ import annotations

import pytest
from conftest import ROOT, SUBMISSIONS, assert_clear_error, run

from lab.checks import Checks, Skipped
from staff.solutions import blank

MODEL = (ROOT / "model.py").read_text(encoding="utf-8")
KL = "(mu.square() + log_var.exp() - 1 - log_var).sum(dim=1)"

FAULTS = {
    "half the KL": ("0.5 * (mu", "1.0 * (mu", "KL term agrees", "KL term of vae_loss is"),
    "KL averaged": (KL, KL.replace("sum", "mean"), "KL term agrees", "averaged over the latent"),
    "loss summed": (
        "kl_divergence).mean()",
        "kl_divergence).sum()",
        "does not depend on the batch",
        "take the mean over the batch",
    ),
    "dead layer": (
        "        self.mu = ",
        "        self.unused = nn.Linear(3, 3)\n        self.mu = ",
        "gradients reach every parameter",
        "no gradient reaches unused.weight",
    ),
    "no reconstruction": (
        "squared_error / (2 * var)",
        "0 * squared_error",
        "can be memorised",
        "is the squared error in the loss",
    ),
    "rows mixed": (
        "return self.decoder(z)",
        "return self.decoder(z - z.mean(dim=0))",
        "decode works for one code and for many",
        "depends on the other codes",
    ),
    "squeezed": (
        "return self.decoder(z)",
        "return self.decoder(z).squeeze()",
        "decode works for one code and for many",
        "expected",
    ),
    "dropout that never ends": (
        "return self.mu(hidden), self.log_var(hidden)",
        "hidden = F.dropout(hidden)\n        return self.mu(hidden), self.log_var(hidden)",
        "evaluation gives the same result twice",
        "return different mu",
    ),
}
FAIL_OTHER_CHECKS_TOO = {"loss summed", "no reconstruction"}


def results(path, task="VAEwolabel"):
    return dict(Checks(path, task, latent_dim=8).run())


@pytest.mark.parametrize("task", ["VAEwolabel", "Genwithlabel"])
@pytest.mark.parametrize("name", ["submission.py", "model.py"])
def test_the_labs_own_submissions_pass(name, task):
    assert [k for k, failure in results(ROOT / name, task).items() if failure] == []


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_fails_its_own_check(tmp_path, name):
    old, new, check, words = FAULTS[name]
    assert old in MODEL
    file = tmp_path / "mine.py"
    file.write_text(MODEL.replace(old, new, 1), encoding="utf-8")
    failures = {k: f"{v} / {v.hint}" for k, v in results(file).items() if v}
    wrong = [message for k, message in failures.items() if check in k]
    assert wrong and words in wrong[0], failures
    if name not in FAIL_OTHER_CHECKS_TOO:
        assert len(failures) == 1, failures


def test_a_model_that_ignores_the_label_fails(tmp_path):
    start, end = MODEL.index("class GenModel"), MODEL.index("def vae_loss")
    file = tmp_path / "mine.py"
    file.write_text(MODEL[:start] + "GenModel = VAE\n\n\n" + MODEL[end:], encoding="utf-8")
    failures = [k for k, failure in results(file, "Genwithlabel").items() if failure]
    assert failures == ["the label changes the picture"]


def test_checks_that_do_not_apply_are_skipped():
    found = results(SUBMISSIONS / "adversarial.py", "Genwithlabel")
    skipped = {name for name, result in found.items() if isinstance(result, Skipped)}
    assert len(skipped) == 5 and not found["decode works for one code and for many"]
    found = results(SUBMISSIONS / "own_loss.py", "Genwithlabel")
    skipped = {name for name, result in found.items() if isinstance(result, Skipped)}
    assert skipped == {
        "KL term agrees with torch.distributions",
        "loss does not depend on the batch size",
    }


def test_a_missing_file_is_a_clear_error():
    assert_clear_error(run("check.py", "--submission", "nowhere.py"), "does not exist")


def test_the_blank_submission_fails_at_its_first_todo(tmp_path):
    file = tmp_path / "submission.py"
    reference = (ROOT / "submission.py").read_text(encoding="utf-8")
    file.write_text(blank(reference), encoding="utf-8")
    for task in ("VAEwolabel", "Genwithlabel"):
        ((name, failure),) = results(file, task).items()
        assert "contract" in name and "NotImplementedError: TODO 2.2.1" in str(failure)


def test_the_command_prints_one_line_per_check(tmp_path):
    result = run("check.py", "--submission", "model.py", "--task", "VAEwolabel")
    assert result.returncode == 0 and result.stdout.count("  ok  ") == 7
    assert "public checks only" in result.stdout
    path = SUBMISSIONS / "encode_without_labels.py"
    result = run("check.py", "--submission", path, "--task", "VAEwolabel")
    assert result.returncode == 1 and "divide by the batch size" in result.stdout
    assert result.stdout.count("FAIL") == result.stdout.count("hint: ") == 2

"""The zoo: every model fits the contract, trains and is scored, and its figures are stored ones."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, assert_clear_error, run

import grade
import train
from benchmarks import zoo
from data_utils import own_randomness
from lab.contract import check_contract
from lab.loading import ContractError, class_options
from lab.split_model import Submission
from sweeps import trial

FILES = sorted((ROOT / "zoo").glob("*.py"))
NAMES = [file.stem for file in FILES]
GANS = {"wgan", "wgan_gp"}


def task_of(name: str) -> str:
    return "Genwithlabel" if "Genwithlabel" in zoo.command_of(name) else "VAEwolabel"


# ---------------------------------------------------------------- the files


@pytest.mark.parametrize("name", NAMES)
def test_a_file_stands_alone_and_opens_with_its_command(name):
    tree = ast.parse((ROOT / "zoo" / f"{name}.py").read_text(encoding="utf-8"))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in (
            [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
    }
    assert imported - set(sys.stdlib_module_names) == {"torch"}
    options = train.make_parser().parse_args(zoo.command_of(name))
    assert options.submission.as_posix() == f"zoo/{name}.py"


def test_the_zoo_beats_the_reports():
    """The best figures of the original reports for the convolutional models."""
    models = json.loads(zoo.FIGURES.read_text(encoding="utf-8"))["models"]
    assert models["conv_vae"]["ssim"] > 0.8551 and models["conv_vae"]["mse"] < 0.01275
    assert models["conv_cvae"]["ssim"] > 0.8632 and models["conv_cvae"]["mse"] < 0.01215
    assert models["conv_cvae"]["raw"] > 29.276


# ---------------------------------------------------------------- training, inference, grade


@pytest.mark.parametrize("name", NAMES)
def test_a_model_trains_and_is_scored(name, tiny_data, tmp_path):
    """Calls the functions of the three commands, as a trial of a sweep does."""
    file = Path("zoo") / f"{name}.py"
    options = vars(train.make_parser().parse_args([]))
    options |= {"task": task_of(name), "submission": file, "latent_dim": 4, "lr": 1e-3}
    options |= {"train_data": tiny_data, "valid_data": tiny_data, "epochs": 2, "batch_size": 40}
    asked = trial.Trial(options, tmp_path, ROOT, ROOT / file)
    record = trial.run_trial(asked, trial.Order("test"))
    assert record["status"] == "finished", record
    assert np.isfinite(record["raw"]) and (record["ssim"] is None) == (name in GANS)
    log = (asked.folder / "output.log").read_text(encoding="utf-8")
    assert ("has no encoder" in log) == (name in GANS)
    assert (asked.folder / "inference" / "recon.npy").exists() == (name not in GANS)
    if name in GANS:
        result = json.loads((asked.folder / "grade_result.json").read_text())["Genwithlabel"]
        assert result["raw"] == max(10 - result["fid"], 0) * result["bonus"]
        assert "no points for reconstructions" in grade.table({"Genwithlabel": result})
        checkpoint = asked.folder / "best.pth"
        refused = run("inference.py", "--checkpoint_path", checkpoint, "--stage", "encode")
        assert_clear_error(refused, "has no encoder")


def test_a_gan_has_nothing_to_grade_without_labels(tmp_path, tiny_data):
    facts = {"task": "VAEwolabel", "latent_dim": 4, "generates_only": True}
    (tmp_path / "hyperparams.json").write_text(json.dumps(facts))
    asked = [
        "--test_data_path",
        tiny_data,
        "--no-Genwithlabel",
        "--VAEwolabel_output_dir",
        tmp_path,
    ]
    assert_clear_error(run("grade.py", *asked), "--task Genwithlabel")


# ---------------------------------------------------------------- variants


@pytest.mark.parametrize("depth", [0, 2, 3, 4])
@pytest.mark.parametrize("attention", [False, True])
def test_variants_of_the_convolutional_models(depth, attention):
    if depth == 0 and attention:
        pytest.skip("a fully connected layer has no positions to attend to")
    variant = f"depth={depth},attention={attention}"
    for name in ("conv_vae", "conv_cvae"):
        submission = Submission(ROOT / "zoo" / f"{name}.py", task_of(name), 6, variant)
        check_contract(submission)
        layers = [type(layer).__name__ for layer in submission.model.modules()]
        assert layers.count("Conv2d") == layers.count("ConvTranspose2d") == depth
        assert ("Attention" in layers) == attention
        plain = Submission(ROOT / "zoo" / f"{name}.py", task_of(name), 6)
        options = {"depth": 3, "attention": False, "kaiming": True}
        assert class_options(type(plain.model)) == options


def test_with_pytorchs_initial_weights_the_code_hardly_depends_on_the_image(valid_set):
    x = torch.from_numpy(valid_set.images[:200]).unsqueeze(1) / 255  # (200, 1, 28, 28)
    labels = torch.zeros(200, dtype=torch.long)
    spread = {}
    for kaiming in (True, False):
        variant = f"depth=4,kaiming={kaiming}"
        with own_randomness(0):
            made = Submission(ROOT / "zoo" / "conv_vae.py", "VAEwolabel", 6, variant)
        spread[kaiming] = made.encode(x, labels).std(dim=0).mean()
    assert spread[False] < spread[True] / 10


@pytest.mark.parametrize(
    ("variant", "mention"),
    [
        ("dept=4", "no option 'dept'.*depth=3, attention=False"),
        ("depth=four", "expected int"),
        ("attention=yes", "expected bool"),
    ],
)
def test_a_mistyped_variant_is_an_error(variant, mention):
    with pytest.raises(ContractError, match=mention):
        Submission(ROOT / "zoo" / "conv_vae.py", "VAEwolabel", 4, variant)


def test_a_variant_is_part_of_the_checkpoint(tiny_data, tmp_path):
    data = f"--train_data {tiny_data} --valid_data {tiny_data} --save_dir {tmp_path}"
    options = f"--submission zoo/conv_vae.py --variant depth=2 --latent_dim 3 --epochs 1 {data}"
    assert run("train.py", *options.split()).returncode == 0
    asked = f"--checkpoint_path {tmp_path / 'best.pth'} --data_path {tiny_data}"
    assert run("inference.py", *asked.split()).returncode == 0
    go_on = f"--load_from_checkpoint --save_dir {tmp_path} --epochs 2"
    assert run("train.py", *go_on.split()).returncode == 0
    assert json.loads((tmp_path / "hyperparams.json").read_text())["variant"] == "depth=2"
    assert_clear_error(run("train.py", *f"{go_on} --variant depth=3".split()), "--variant depth=2")


# ---------------------------------------------------------------- the record


def test_the_record_moves_codes_to_standard_and_back():
    model = Submission(ROOT / "zoo" / "record.py", "Genwithlabel", 6).model
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (1500,), generator=generator)
    codes = torch.randn(1500, 6, generator=generator)
    codes[:, 1] += codes[:, 0].square()  # bent, unlike a Gaussian
    codes = codes * 3 + labels[:, None]
    model.flow_epochs = 30
    model.fit_prior(codes, labels)
    with torch.no_grad():
        z = model.to_standard(codes, labels)
        assert torch.allclose(model.from_standard(z, labels), codes, atol=1e-3)
        white = model._whiten(codes, labels)
    assert abs(float(z.mean())) < 0.1 and abs(float(z.std()) - 1) < 0.1

    def bend(values: torch.Tensor) -> float:
        """Return how much the second dimension follows the square of the first; 0 for N(0, I)."""
        pair = torch.stack([values[:, 0].square(), values[:, 1]])
        return abs(float(torch.corrcoef(pair)[0, 1]))

    assert bend(white) > 0.5 > 0.15 > bend(z)


def test_the_record_finds_more_probable_codes_than_its_encoder():
    torch.manual_seed(0)
    model = Submission(ROOT / "zoo" / "record.py", "Genwithlabel", 6).model.eval()
    labels = torch.arange(10).repeat(4)
    x = model.decode(2 * torch.randn(40, 6), labels).detach()
    model.compute_loss(x, labels, var=0.01)
    model.flow_epochs = 1
    with torch.no_grad():
        given, _ = model.encode(x, labels)
        model.fit_prior(given, labels)
        found, _ = model.encode(x, labels)
        before, after = model.surprise(given, x, labels), model.surprise(found, x, labels)
        assert (after <= before).all() and after.mean() < 0.9 * before.mean()
        model.train()  # a training step takes the encoder's codes, and the fit is theirs no longer
        assert torch.equal(model.encode(x, labels)[0], given)
        model.compute_loss(x, labels, var=0.01)
        assert not model.eval().fitted and torch.equal(model.encode(x, labels)[0], given)

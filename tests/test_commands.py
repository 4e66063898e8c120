"""The commands as a user types them: complete runs on tiny and on real data, and bad input."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import (
    ROOT,
    SUBMISSIONS,
    TINY,
    assert_clear_error,
    run,
    start,
    tiny_training,
    write_dataset,
)
from PIL import Image

import grade
import inference
import train
from data_utils import MNISTDataset
from lab import checkpoint, metrics

TASKS = ("VAEwolabel", "Genwithlabel")


def quick(tiny_data, *more) -> list:
    """Return options for a run that takes a second."""
    data = ["--train_data", tiny_data, "--valid_data", tiny_data]
    return [*data, "--epochs", 2, "--batch_size", 30, "--lr", 1e-3, "--latent_dim", 2, *more]


def call(module, *words) -> None:
    """Run a command's main() in this process, which is seconds faster than a new process."""
    before = sys.argv
    sys.argv = [f"{module.__name__}.py", *map(str, words)]
    try:
        module.main()
    finally:
        sys.argv = before


def read_history(folder: Path) -> list[dict]:
    with open(folder / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_data) -> Path:
    """A folder with a finished and inferred run of each task, made by the commands."""
    folder = tmp_path_factory.mktemp("runs")
    for task in TASKS:
        options = quick(tiny_data, "--task", task, "--save_dir", folder / task, "--video")
        result = run("train.py", *options)
        assert result.returncode == 0, result.stderr
        assert str(folder / task) in result.stdout
        result = run(
            *("inference.py", "--checkpoint_path", folder / task / "best.pth"),
            *("--data_path", tiny_data, "--gen_num", 10),
        )
        assert result.returncode == 0, result.stderr
    return folder


def outputs(runs: Path) -> list:
    return [word for task in TASKS for word in (f"--{task}_output_dir", runs / task / "inference")]


# ---------------------------------------------------------------- complete runs


@pytest.mark.parametrize("task", TASKS)
def test_files_of_a_run(runs, tiny_data, task):
    folder = runs / task
    names = {path.name for path in folder.iterdir()}
    assert {"epoch_1.pth", "epoch_2.pth", "best.pth", "hyperparams.json", "history.csv"} <= names
    assert {"loss_curve.png", "training.gif", "train.log", "submission.py", "progress"} <= names
    assert not [name for name in names if name.endswith(".tmp")]
    hyperparams = json.loads((folder / "hyperparams.json").read_text())
    assert hyperparams["latent_dim"] == 2 and hyperparams["learning_rate"] == 1e-3
    assert hyperparams["trainable_parameters"] > 1e6 and hyperparams["var"] == 0.5
    rows = read_history(folder)
    log = (folder / "train.log").read_text(encoding="utf-8").splitlines()
    # The command, and the seconds that the report template asks for.
    assert log[0].startswith("python ") and f"train.py --train_data {tiny_data} " in log[0]
    assert log[0].endswith(f"--task {task} --save_dir {folder} --video")
    took = re.fullmatch(r"training took ([\d.]+) s, without validation", log[-1])
    assert took and float(took[1]) == pytest.approx(float(rows[-1]["seconds"]), abs=0.1)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[1]["valid_loss"]) < float(rows[0]["valid_loss"])
    state = torch.load(folder / "best.pth", weights_only=True)
    assert {"epoch", "model_state_dict", "optimizer_state_dict"} <= set(state)
    with Image.open(folder / "training.gif") as video:
        assert video.n_frames == (3 if task == "Genwithlabel" else 2)


def test_an_mp4_is_written_if_its_library_is_installed(runs):
    pytest.importorskip("imageio_ffmpeg")
    video = (runs / "Genwithlabel" / "training.mp4").read_bytes()
    assert video[4:8] == b"ftyp" and len(video) > 2000
    assert not list(runs.rglob("*.tmp.mp4"))


def test_the_loss_plot_can_be_shown_and_not_saved(tmp_path, tiny_data, monkeypatch):
    shown = []
    monkeypatch.setattr(Image.Image, "show", lambda picture, title: shown.append(picture.size))
    folder = tmp_path / "run"
    call(train, *quick(tiny_data, "--show_loss_plot", "--no-save_loss_plot", "--save_dir", folder))
    assert len(shown) == 1 and not (folder / "loss_curve.png").exists()


@pytest.mark.parametrize("task", TASKS)
def test_files_of_inference(runs, task):
    folder = runs / task / "inference"
    codes, recon, samples = (np.load(folder / f"{n}.npy") for n in ("codes", "recon", "samples"))
    assert codes.dtype == np.float16 and codes.shape == (TINY, 2)
    assert recon.dtype == np.uint8 and recon.shape == (TINY, 28, 28)
    assert samples.dtype == np.uint8 and samples.shape == (10, 10, 28, 28)
    for name in ("recon", "samples", "interpolation", "latent", "manifold"):
        with Image.open(folder / f"{name}.png") as picture:
            assert min(picture.size) > 150
            assert len(np.unique(np.asarray(picture.convert("L")))) > 20, f"{name} is empty"


def test_grade_scores_both_tasks(runs, tiny_data, tmp_path):
    file = tmp_path / "result.json"
    result = run(
        *("grade.py", "--test_data_path", tiny_data, "--gen_num", 10, "--output", file),
        *outputs(runs),
    )
    assert result.returncode == 0, result.stderr
    scores = json.loads(file.read_text())
    assert set(scores) == set(TASKS)
    for task, score in scores.items():
        assert {"ssim", "mse", "fid", "latent_dim", "bonus", "raw", "score", "cap", "n"} <= set(
            score
        )
        assert {"per_label", "versions", "data_sha256", "code_sha256"} <= set(score)
        assert score["n"] == TINY and score["latent_dim"] == 2
        assert score["bonus"] == pytest.approx(1.2 - 2 / 784)
        assert len(score["per_label"]) == 10
        assert task in result.stdout and f"{score['raw']:.4f}" in result.stdout
    assert scores["VAEwolabel"]["fid"] is None and scores["Genwithlabel"]["fid"] > 0


def test_png_tree_scores_the_same(runs, tiny_data, tmp_path):
    """The older layout, one PNG file per image, gives exactly the same scores."""
    tree = tmp_path / "tree"
    call(
        inference,
        *("--checkpoint_path", runs / "Genwithlabel" / "best.pth", "--data_path", tiny_data),
        *("--gen_num", 10, "--save_dir", tree, "--png"),
    )
    dataset = MNISTDataset(tiny_data)
    (by_array,) = grade.grade(dataset, {"Genwithlabel": tree}, gen_num=10).values()
    for array in tree.glob("*.npy"):
        array.unlink()
    assert (tree / "recon" / "recon_0.png").is_file() and (tree / "gen" / "9" / "9.png").is_file()
    (by_tree,) = grade.grade(dataset, {"Genwithlabel": tree}, gen_num=10).values()
    assert by_tree == by_array


def test_stages_one_by_one_equal_all(runs, tiny_data, tmp_path):
    path = runs / "Genwithlabel" / "best.pth"
    for stage in ("encode", "decode", "generate"):
        call(
            inference,
            *("--checkpoint_path", path, "--data_path", tiny_data, "--gen_num", 10),
            *("--save_dir", tmp_path, "--stage", stage),
        )
    for name in ("codes", "recon", "samples"):
        ours = (tmp_path / f"{name}.npy").read_bytes()
        assert ours == (runs / "Genwithlabel" / "inference" / f"{name}.npy").read_bytes()


def test_without_options_inference_uses_the_newest_run(runs, tmp_path, monkeypatch, capsys):
    (tmp_path / "dataset").mkdir()
    shutil.copytree(runs, tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path / "dataset" / "valid", *tiny_images())
    now = time.time()
    for age, task in enumerate(TASKS):
        for file in (tmp_path / "runs" / task).glob("*.pth"):
            os.utime(file, (now - age, now - age))
    call(inference)
    assert f"runs{os.sep}VAEwolabel" in capsys.readouterr().out
    call(inference, "--task", "Genwithlabel")
    assert f"runs{os.sep}Genwithlabel" in capsys.readouterr().out
    call(grade)
    assert json.loads((tmp_path / "grade_result.json").read_text())["VAEwolabel"]["n"] == 20


@pytest.fixture
def course(runs, tmp_path, tiny_data, monkeypatch) -> Path:
    """The folder in which a student works, with inferred runs of both tasks; the present folder."""
    shutil.copytree(runs, tmp_path / "runs")
    shutil.copytree(tiny_data, tmp_path / "dataset" / "valid")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def graded(capsys, *words) -> dict[str, str]:
    """Grade a few samples; return the folder that is printed for each task."""
    call(grade, "--gen_num", 10, *words)
    printed = re.findall(r"^grading (\w+) in (.*)$", capsys.readouterr().out, re.M)
    result = json.loads(Path("grade_result.json").read_text())
    assert list(result) == [task for task, _ in printed]
    return dict(printed)


def test_grade_follows_the_last_inference(course, capsys):
    shutil.copytree(course / "runs" / "VAEwolabel", course / "runs" / "v1")
    call(inference, "--checkpoint_path", Path("runs/v1/best.pth"), "--gen_num", 10)
    last = capsys.readouterr().out.splitlines()[-1].split()
    both = {"VAEwolabel": "runs/v1/inference", "Genwithlabel": "runs/Genwithlabel/inference"}
    assert graded(capsys) == both
    assert last[:2] == ["python", "grade.py"]
    only = {"VAEwolabel": "runs/v1/inference"}
    assert graded(capsys, *last[2:]) == graded(capsys, "--no-Genwithlabel") == only


def test_tasks_are_switched_as_in_the_original_scaffold(course, capsys):
    switches = ("--VAEwolabel", "True", "--Genwithlabel", "False")
    assert graded(capsys, *switches) == {"VAEwolabel": "runs/VAEwolabel/inference"}
    one = ("--VAEwolabel_output_dir", "runs/VAEwolabel/inference", "--Genwithlabel", "true")
    assert set(graded(capsys, *one)) == set(TASKS)


def test_the_latest_outputs_of_other_data_are_not_graded(course, capsys):
    write_dataset(course / "other", *tiny_images())
    words = ("--checkpoint_path", "runs/Genwithlabel/best.pth", "--gen_num", 10)
    call(inference, *words, "--data_path", "other")
    last = capsys.readouterr().out.splitlines()[-1].split()
    call(grade, "--gen_num", 10)
    printed = capsys.readouterr().out
    assert (
        "Genwithlabel/inference was made from other; to grade it, add --test_data_path" in printed
    )
    assert "grading VAEwolabel" in printed and "grading Genwithlabel" not in printed
    line = refused(capsys, grade, "--gen_num", 10, "--no-VAEwolabel")
    assert "was made from other" in line
    assert set(graded(capsys, *last[2:])) == {"Genwithlabel"}


def tiny_images():
    valid = MNISTDataset(ROOT / "dataset" / "valid")
    return valid.images[:20], valid.labels[:20]


def mse_of_noise(data: Path) -> float:
    """Return the mse of random images; any model must have a lower one."""
    images = MNISTDataset(data).images
    noise = np.random.default_rng(0).integers(0, 256, images.shape, np.uint8)
    return float(metrics.mse_per_image(noise, images).mean())


@pytest.mark.parametrize(
    "name", ["encode_without_labels", "convolutional", "own_loss", "no_bf16", "inline_noise"]
)
def test_students_submissions_run_unmodified(tmp_path, tiny_data, name):
    """Train, infer and grade each submission."""
    path = SUBMISSIONS / f"{name}.py"
    task = "VAEwolabel" if name in ("no_bf16", "inline_noise") else "Genwithlabel"
    folder = tmp_path / "run"
    words = ("--submission", path, "--task", task, "--save_dir", folder, "--precision", "bf16")
    call(train, *quick(tiny_data, *words))
    checkpoint_path = folder / "best.pth"
    call(inference, "--checkpoint_path", checkpoint_path, "--data_path", tiny_data)
    (result,) = grade.grade(MNISTDataset(tiny_data), {task: folder / "inference"}).values()
    assert result["n"] == TINY and result["latent_dim"] == 2
    assert result["mse"] < mse_of_noise(tiny_data)
    if name == "own_loss":
        state = torch.load(checkpoint_path, weights_only=True)
        assert state["model_state_dict"]["fits"] >= 1, "fit_prior's buffers are in the checkpoint"


def test_one_epoch_on_mnist_gives_good_scores(tmp_path):
    """One epoch of the reference solution on all 50 000 images."""
    folder = tmp_path / "run"
    call(
        train,
        *("--task", "Genwithlabel", "--save_dir", folder, "--epochs", 1),
        *("--batch_size", 256, "--lr", 3e-3, "--var", 0.02, "--eval_num", 1000),
    )
    call(inference, "--checkpoint_path", folder / "best.pth", "--data_path", "dataset/test")
    dataset = MNISTDataset(ROOT / "dataset" / "test")
    (result,) = grade.grade(dataset, {"Genwithlabel": folder / "inference"}).values()
    assert result["n"] == 10_000
    assert result["ssim"] > 0.80 and result["mse"] < 0.02 and result["fid"] < 4
    assert result["raw"] > 25


# ---------------------------------------------------------------- stop and resume


def test_a_run_whose_fit_prior_fails_goes_on_with_the_corrected_one(tmp_path, tiny_data, capsys):
    file, folder = tmp_path / "mine.py", tmp_path / "run"
    right = (SUBMISSIONS / "own_loss.py").read_text(encoding="utf-8")
    first = "        self.mean += codes.mean(0)\n"
    assert first in right
    file.write_text(right.replace(first, "        self.mean += codes.mean(1)\n"), encoding="utf-8")
    words = ["--submission", file, "--task", "Genwithlabel", "--save_dir", folder]
    failed = run("train.py", *quick(tiny_data, *words))
    command = f"train.py --load_from_checkpoint --save_dir {folder} --submission {file}"
    line = 1 + right[: right.index(first)].count("\n")
    assert_clear_error(
        failed,
        f"mine.py, line {line}, during fit_prior: RuntimeError",
        f"training is complete and the weights of all epochs are kept in {folder}",
        f"then: python {command}",
    )
    weights = torch.load(folder / "epoch_2.pth", weights_only=True)["model_state_dict"]

    again = command.split()[1:]
    for words, said in (
        (again[: again.index("--submission")], f"submission.py, line {line}, during fit_prior"),
        ([*again, "--epochs", 3], "is not the code that"),  # it would train the new code
    ):
        with pytest.raises(SystemExit, match="2"):
            call(train, *words)
        assert said in capsys.readouterr().err
        file.write_text(right, encoding="utf-8")
    call(train, *again)
    assert (folder / "submission.py").read_text(encoding="utf-8") == right
    for name in ("best.pth", "epoch_2.pth"):
        state = torch.load(folder / name, weights_only=True)["model_state_dict"]
        assert state["fits"] >= 1
    assert torch.equal(state["enc.weight"], weights["enc.weight"])
    call(inference, "--checkpoint_path", folder / "best.pth", "--data_path", tiny_data)
    assert "is not the code" not in capsys.readouterr().out


def test_ctrl_c_saves_and_resume_is_exact(tmp_path, tiny_data):
    options = quick(tiny_data, "--epochs", 40, "--submission", "model.py")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    call(train, *options, "--save_dir", whole)

    process = start("train.py", *options, "--save_dir", broken)
    deadline = time.monotonic() + 120
    while not (broken / "epoch_3.pth").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr and "--load_from_checkpoint" in stdout
    assert (broken / "interrupted.pth").is_file()

    call(train, "--load_from_checkpoint", "--save_dir", broken)
    assert not (broken / "interrupted.pth").exists()
    one, other = (torch.load(f / "epoch_40.pth", weights_only=True) for f in (whole, broken))
    for name, value in one["model_state_dict"].items():
        assert torch.equal(value, other["model_state_dict"][name])
    losses = [[row["valid_loss"] for row in read_history(run)] for run in (whole, broken)]
    assert losses[0] == losses[1] and len(losses[0]) == 40


def test_resume_refuses_what_would_change_the_run(runs, tmp_path, capsys):
    folder = shutil.copytree(runs / "VAEwolabel", tmp_path / "run")
    words = ("--load_from_checkpoint", "--save_dir", folder)
    with pytest.raises(SystemExit, match="2"):
        call(train, *words, "--lr", 0.1)
    assert "was trained with --lr 0.001, not 0.1" in capsys.readouterr().err
    call(train, *words, "--epochs", 3, "--lr", 1e-3)
    assert (folder / "epoch_3.pth").is_file()


def test_resuming_says_that_the_code_was_edited(tmp_path, tiny_data, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    mine = shutil.copy(ROOT / "model.py", tmp_path / "submission.py")
    call(train, *quick(tiny_data, "--epochs", 1))
    words = ("--load_from_checkpoint", "--epochs", 2)
    call(train, *words)
    assert "was edited" not in capsys.readouterr().out
    mine.write_text(mine.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    call(train, *words, "--epochs", 3)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "was edited" in line]
    assert "continues with the code it began with" in line
    log = (tmp_path / "runs" / "VAEwolabel" / "train.log").read_text()
    assert line in log and "best validation, epoch" in log


def test_inference_with_other_code_of_the_same_shapes_says_so(
    tmp_path, tiny_data, tiny_run, capsys
):
    words = ("--checkpoint_path", tiny_run / "best.pth", "--data_path", tiny_data)
    text = (ROOT / "model.py").read_text(encoding="utf-8")
    for changed, said in ((text, 0), (text.replace("LeakyReLU(0.2)", "Tanh()"), 1)):
        (tmp_path / "mine.py").write_text(changed, encoding="utf-8")
        mine = ("--submission", tmp_path / "mine.py", "--save_dir", tmp_path / "out")
        call(inference, *words, *mine)
        assert capsys.readouterr().out.count("is not the code that") == said


def test_continuing_from_another_runs_checkpoint(runs, tmp_path, capsys):
    """It may write to a new folder, but not to the folder of a third run."""
    words = ("--checkpoint", runs / "VAEwolabel" / "epoch_1.pth")
    call(train, *words, "--save_dir", tmp_path / "new")
    assert (tmp_path / "new" / "epoch_2.pth").is_file()
    assert str(tmp_path / "new" / "best.pth") in capsys.readouterr().out
    assert (tmp_path / "new" / "best.pth").is_file()
    line = refused(capsys, train, *words, "--save_dir", runs / "Genwithlabel")
    assert "holds a run already" in line


def test_resume_with_other_code_is_refused_and_touches_nothing(runs, tmp_path, capsys):
    folder = shutil.copytree(runs / "VAEwolabel", tmp_path / "run")
    before = {path: path.read_bytes() for path in folder.glob("*.*")}
    words = ("--load_from_checkpoint", "--save_dir", folder, "--submission", "model.py")
    assert "is not the code that" in refused(capsys, train, *words)
    assert {path: path.read_bytes() for path in folder.glob("*.*")} == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="has the device")
def test_overwrite_deletes_nothing_if_the_command_fails(runs, tmp_path, tiny_data, capsys):
    folder = shutil.copytree(runs / "VAEwolabel", tmp_path / "run")
    words = quick(tiny_data, "--save_dir", folder, "--overwrite", "--device", "cuda")
    assert "no cuda device" in refused(capsys, train, *words)
    assert (folder / "best.pth").is_file()


def test_a_students_own_submission_is_not_overwritten(tmp_path, tiny_data, capsys):
    mine = tmp_path / "submission.py"
    mine.write_text("my afternoon's work")
    words = quick(tiny_data, "--submission", ROOT / "model.py", "--save_dir", tmp_path)
    assert "give the run its own folder" in refused(capsys, train, *words)
    assert mine.read_text() == "my afternoon's work"


def test_a_run_is_not_overwritten_by_accident(runs, tmp_path, tiny_data, capsys):
    folder = shutil.copytree(runs / "VAEwolabel", tmp_path / "run")
    (folder / "notes.txt").write_text("mine")
    before = (folder / "best.pth").read_bytes()
    with pytest.raises(SystemExit, match="2"):
        call(train, *quick(tiny_data, "--save_dir", folder))
    error = capsys.readouterr().err
    assert "--load_from_checkpoint" in error and "--overwrite" in error
    assert (folder / "best.pth").read_bytes() == before
    call(train, *quick(tiny_data, "--save_dir", folder, "--epochs", 1, "--overwrite"))
    assert not (folder / "epoch_2.pth").exists() and not (folder / "inference").exists()
    assert (folder / "notes.txt").read_text() == "mine"


# ---------------------------------------------------------------- bad input


def refused(capsys, module, *words) -> str:
    """Check that the command ends with status 2 and one sentence; return the sentence."""
    with pytest.raises(SystemExit) as caught:
        call(module, *words)
    error = capsys.readouterr().err.replace("\r", "\n")
    assert caught.value.code == 2, error
    (line,) = [line for line in error.splitlines() if "error: " in line]
    return line


@pytest.mark.parametrize(
    "words, said",
    [
        (["--latent_dim", 0], "latent_dim is 0; expected 1 to 784"),
        (["--latent_dim", -1], "latent_dim is -1"),
        (["--latent_dim", 10_000], "latent_dim is 10000"),
        (["--task", "VAE"], "invalid choice: 'VAE'"),
        (["--epoch", 3], "unknown option --epoch; did you mean --epochs?"),
        (["--video", "maybe"], "expected True or False, not 'maybe'"),
        (["--lr", "fast"], "invalid float value"),
        (["--epochs", 0], "epochs is 0; expected 1 or more"),
        (["--submission", "nowhere.py"], "nowhere.py does not exist"),
        (["--train_data", "nowhere"], "nowhere does not exist"),
        (["--checkpoint", "nowhere.pth"], "nowhere.pth does not exist"),
        (["--load_from_checkpoint"], "holds no checkpoint"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_train_refuses(tmp_path, tiny_data, capsys, words, said):
    options = ["--save_dir", tmp_path / "run"]
    if words[0] != "--load_from_checkpoint":
        options += quick(tiny_data)
    assert said in refused(capsys, train, *options, *words)
    assert not list(tmp_path.rglob("*.*"))


def test_train_refuses_an_empty_dataset(tmp_path, tiny_set, capsys):
    empty = write_dataset(tmp_path / "empty", tiny_set.images[:0], tiny_set.labels[:0])
    line = refused(capsys, train, "--train_data", empty, "--save_dir", tmp_path / "run")
    assert "holds no images" in line
    assert not (tmp_path / "run").exists()


def test_nan_in_training_ends_with_one_sentence_and_a_checkpoint(tmp_path, tiny_data, capsys):
    path = SUBMISSIONS / "goes_bad.py"
    line = refused(
        capsys,
        train,
        *quick(tiny_data, "--submission", path, "--save_dir", tmp_path / "run", "--epochs", 30),
    )
    assert "training gave up" in line and "lower --lr" in line
    path = checkpoint.newest(tmp_path / "run")
    call(inference, "--checkpoint_path", path, "--data_path", tiny_data)
    assert (tmp_path / "run" / "inference" / "recon.npy").is_file()


def test_an_error_of_a_student_in_training_names_the_line(tmp_path, tiny_data, capsys):
    """The check before training uses a small batch, so it does not find this error."""
    text = (ROOT / "model.py").read_text(encoding="utf-8")
    file = tmp_path / "mine.py"
    hidden = "        hidden = F"
    assert hidden in text
    file.write_text(text.replace(hidden, "        assert len(x) < 20, 'too many'\n" + hidden))
    words = quick(tiny_data, "--submission", file, "--save_dir", tmp_path / "run")
    line = refused(capsys, train, *words, "--precision", "fp32")
    assert "mine.py, line" in line and "AssertionError: too many" in line


@pytest.mark.parametrize(
    "words, said",
    [
        (["--checkpoint_path", "nowhere.pth"], "does not exist"),
        (["--checkpoint_path", "README.md"], "is not a checkpoint of this lab"),
        (["--task", "Genwithlabel"], "was trained with --task VAEwolabel"),
        (["--latent_dim", 20], "was trained with --latent_dim 2, not 20"),
        (["--latent_dim", 0], "was trained with --latent_dim 2, not 0"),
        (["--submission", "model.py"], "do not fit VAE of model.py"),
        (["--data_path", "nowhere"], "nowhere does not exist"),
        (["--gen_num", 0], "--gen_num is 0"),
        (["--seed", -1], "--seed is -1"),
        (["--inf_num", -1], "--inf_num is -1"),
        (["--stage", "decode"], "run --stage encode first"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_inference_refuses(runs, tmp_path, tiny_data, capsys, words, said):
    options = ["--checkpoint_path", runs / "VAEwolabel" / "best.pth", "--data_path", tiny_data]
    options += ["--save_dir", tmp_path / "out"]
    assert said in refused(capsys, inference, *options, *words)
    assert not (tmp_path / "out").exists()


def test_inference_of_one_image(runs, tmp_path, tiny_data):
    path = runs / "VAEwolabel" / "best.pth"
    words = ("--checkpoint_path", path, "--data_path", tiny_data, "--inf_num", 1)
    call(inference, *words, "--save_dir", tmp_path)
    assert np.load(tmp_path / "recon.npy").shape == (1, 28, 28)
    assert (tmp_path / "latent.png").is_file()


def test_inference_of_an_older_checkpoint(runs, tmp_path, tiny_data, capsys):
    """An older checkpoint does not state its task, so the options must."""
    state = torch.load(runs / "VAEwolabel" / "best.pth", weights_only=True)
    older = {k: state[k] for k in ("epoch", "model_state_dict", "optimizer_state_dict")}
    path = tmp_path / "epoch_2.pth"
    torch.save(older, path)
    words = ["--checkpoint_path", path, "--data_path", tiny_data]
    assert "add --task" in refused(capsys, inference, *words)
    call(
        inference,
        *words,
        *("--task", "VAEwolabel", "--latent_dim", 2, "--submission", ROOT / "submission.py"),
    )
    ours = np.load(tmp_path / "inference" / "codes.npy")
    assert np.array_equal(ours, np.load(runs / "VAEwolabel" / "inference" / "codes.npy"))


def _wrong_count(folder):
    np.save(folder / "recon.npy", np.load(folder / "recon.npy")[:-1])


def _wrong_shape(folder):
    np.save(folder / "samples.npy", np.load(folder / "samples.npy")[:, :, :27])


def _wrong_dtype(folder):
    np.save(folder / "recon.npy", np.load(folder / "recon.npy") / 255)


def _nan(folder):
    codes = np.load(folder / "codes.npy")
    codes[3, 1] = np.nan
    np.save(folder / "codes.npy", codes)


def _pickled(folder):
    np.save(folder / "recon.npy", np.array([{"score": 30}], dtype=object))


def _absurd(folder):
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d, 28, 28), }" % 10**30
    header += b" " * (118 - len(header) - 1) + b"\n"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    (folder / "recon.npy").write_bytes(content)


def _cut(folder):
    file = folder / "samples.npy"
    file.write_bytes(file.read_bytes()[:-100])


def _no_codes(folder):
    (folder / "codes.npy").unlink()


def _few_samples(folder):
    np.save(folder / "samples.npy", np.load(folder / "samples.npy")[:, :5])


def _other_task(folder):
    facts = json.loads((folder / "hyperparams.json").read_text())
    (folder / "hyperparams.json").write_text(json.dumps({**facts, "task": "VAEwolabel"}))


def _nothing(folder):
    for file in folder.iterdir():
        file.unlink()


@pytest.mark.parametrize(
    "spoil, said",
    [
        (_wrong_count, "recon.npy is uint8 (119, 28, 28); expected uint8 (120, 28, 28)"),
        (_wrong_shape, "samples.npy is uint8 (10, 10, 27, 28)"),
        (_wrong_dtype, "recon.npy is float64"),
        (_nan, "codes.npy has values that are not finite"),
        (_pickled, "recon.npy is not a complete .npy array"),
        (_cut, "samples.npy is not a complete .npy array"),
        (_absurd, "recon.npy is not a complete .npy array"),
        (_no_codes, "codes.npy is missing"),
        (_few_samples, "5 samples per label; expected 10"),
        (_other_task, "holds outputs of VAEwolabel"),
        (_nothing, "has no outputs"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_grade_refuses(runs, tmp_path, tiny_data, capsys, spoil, said):
    folder = shutil.copytree(runs / "Genwithlabel" / "inference", tmp_path / "out")
    spoil(folder)
    words = ("--test_data_path", tiny_data, "--Genwithlabel_output_dir", folder)
    words += ("--no-VAEwolabel", "--gen_num", 10, "--output", tmp_path / "result.json")
    assert said in refused(capsys, grade, *words)
    assert not (tmp_path / "result.json").exists()


def test_grade_without_outputs_is_an_error(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = ("--test_data_path", ROOT / "dataset" / "valid")
    assert "nothing to grade in runs" in refused(capsys, grade, *data)
    assert "has no outputs of VAEwolabel" in refused(capsys, grade, *data, "--VAEwolabel")
    words = ("--Genwithlabel_output_dir", tmp_path)
    assert f"{tmp_path} has no outputs" in refused(capsys, grade, *data, *words)


def read_only_folder(tmp_path) -> Path:
    """Return a folder that is read-only even for root, who may ignore permissions."""
    if os.geteuid() == 0:
        return Path("/sys/kernel")
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o500)
    return folder


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux's folders and limits")
def test_a_read_only_folder_is_a_clear_error(runs, tmp_path, tiny_data, capsys):
    folder = read_only_folder(tmp_path)
    refused(capsys, train, *quick(tiny_data, "--save_dir", folder / "run"))
    words = ("--checkpoint_path", runs / "VAEwolabel" / "best.pth", "--data_path", tiny_data)
    refused(capsys, inference, *words, "--save_dir", folder / "out")
    words = ("--test_data_path", tiny_data, "--gen_num", 10, *outputs(runs))
    assert str(folder) in refused(capsys, grade, *words, "--output", folder / "result.json")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux's folders and limits")
def test_a_full_disk_leaves_no_partial_file(tmp_path, tiny_data):
    """Files are limited to 2 MB: the checkpoint is not written, not even a part of it."""

    import resource

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))

    folder = tmp_path / "run"
    result = run("train.py", *quick(tiny_data, "--save_dir", folder), preexec_fn=small_files)
    assert_clear_error(result, "epoch_1.pth could not be written", "make room")
    assert not list(folder.glob("*.pth")) and not list(folder.rglob("*.tmp"))


@pytest.mark.parametrize(
    "command", ["train.py", "inference.py", "grade.py", "check.py", "explore.py"]
)
def test_help_has_examples_and_defaults(command):
    result = run(command, "--help")
    assert result.returncode == 0 and "examples:" in result.stdout
    assert "(default: " in result.stdout


@pytest.mark.parametrize(
    "module, defaults",
    [
        (train, {"task": "VAEwolabel", "seed": 42, "latent_dim": 20, "batch_size": 1024}),
        (train, {"epochs": 10, "lr": 5e-3, "var": 0.5, "eval_num": 5000}),
        (inference, {"inf_num": 0, "batch_size": 4096, "seed": 42}),
    ],
)
def test_the_original_defaults_stay(module, defaults):
    options = vars(module.make_parser().parse_args([]))
    assert {name: options[name] for name in defaults} == defaults


def test_the_history_for_tensorboard_is_that_of_the_csv_file(tmp_path, tiny_data):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = run("train.py", *tiny_training(tiny_data, tmp_path / "run"), "--tensorboard")
    assert result.returncode == 0, result.stderr
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    with open(tmp_path / "run" / "history.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for name, tag in (("train_loss", "train/loss"), ("valid_kl_divergence", "valid/kl_divergence")):
        found = {event.step: event.value for event in events.Scalars(tag)}
        expected = {int(row["step"]): float(row[name]) for row in rows}
        assert found == pytest.approx(expected, rel=1e-6) and len(found) == 2


def test_tensorboard_that_is_not_installed_is_a_clear_error(tmp_path, tiny_data):
    (tmp_path / "tensorboard.py").write_text("raise ImportError('not here')\n")
    words = [*tiny_training(tiny_data, tmp_path / "run"), "--tensorboard"]
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    result = run("train.py", *words, env={"PYTHONPATH": path})
    assert_clear_error(result, "requirements/tensorboard.txt")
    assert not (tmp_path / "run" / "best.pth").exists()

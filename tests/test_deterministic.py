"""Equal inputs give equal bytes: twice, with other threads, batch sizes and instructions."""

from __future__ import annotations

import json
import os
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, run, tiny_training

import grade
import inference
import train
from data_utils import MNISTDataset
from lab import checkpoint
from lab.deterministic import PINNED
from lab.outputs import write_array
from lab.settings import SettingsError
from lab.stages import decode_codes, encode_images, generate_samples

X86 = torch.cpu.get_capabilities().get("architecture") == "x86_64"
# What torch and its libraries choose on a processor with nothing newer than SSE 4.1.
OLDER_PROCESSOR = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
}


def test_the_same_seed_gives_the_same_bytes(tmp_path, tiny_data, monkeypatch):
    """Of the checkpoint, the arrays and the score; only the clock differs, so it stands still."""
    still = types.SimpleNamespace(perf_counter=lambda: 0.0)
    monkeypatch.setattr("trainer.time", still)
    monkeypatch.chdir(ROOT)
    found = []
    for folder in (tmp_path / "run", tmp_path / "again"):
        words = [*tiny_training(tiny_data, tmp_path / "run"), "--task", "Genwithlabel"]
        options = train.TrainOptions(**vars(train.make_parser().parse_args(map(str, words))))
        train.train(options, progress=False)
        path = tmp_path / "run" / "best.pth"
        choice = inference.InferenceOptions(checkpoint_path=path, data_path=tiny_data)
        outputs = inference.infer(choice)
        score = grade.grade(MNISTDataset(tiny_data), {"Genwithlabel": outputs})
        names = ("codes", "recon", "samples")
        arrays = [(outputs / f"{name}.npy").read_bytes() for name in names]
        found.append((path.read_bytes(), arrays, json.dumps(score)))
        (tmp_path / "run").rename(folder.with_name(f"done-{folder.name}"))
    assert found[0] == found[1]


@pytest.mark.skipif(not X86, reason="instruction sets of x86")
def test_a_grade_does_not_depend_on_the_processor(tiny_data, tmp_path):
    """Noise is graded, because the digits of a score come from grade.py and its libraries alone."""
    dataset, noise = MNISTDataset(tiny_data), np.random.default_rng(0)
    recon = noise.integers(0, 256, dataset.images.shape, np.uint8)
    samples = noise.integers(0, 256, (10, 100, 28, 28), np.uint8)
    for name, array in (("recon", recon), ("samples", samples)):
        write_array(tmp_path, name, array)
    write_array(tmp_path, "codes", np.zeros((len(recon), 2), np.float16))
    words = ["--no-VAEwolabel", "--Genwithlabel_output_dir", tmp_path]
    words += ["--test_data_path", tiny_data, "--output", tmp_path / "result.json"]
    older = {"OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4"}
    assert run("grade.py", *words, env=older | {"OMP_NUM_THREADS": "2"}).returncode == 0
    there = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    here = grade.grade(dataset, {"Genwithlabel": tmp_path})
    assert there == json.loads(json.dumps(here))


def arrays_of(submission, dataset: MNISTDataset, batch_size: int) -> list[np.ndarray]:
    codes = encode_images(submission, dataset.images, dataset.labels, batch_size)
    recon = decode_codes(submission, codes, dataset.labels, batch_size)
    return [codes, recon, generate_samples(submission, 12, 42, batch_size)]


def test_inference_does_not_depend_on_threads_or_batch_size(tiny_run, tiny_set):
    """Three threads or more and batches of a few images add in another order: within a bound."""
    path = tiny_run / "best.pth"
    options = inference.InferenceOptions(checkpoint_path=path, device="cpu")
    submission = inference.load_submission(path, checkpoint.load(path), options)
    before = torch.get_num_threads()
    try:
        expected = arrays_of(submission, tiny_set, 120)
        for threads, batch_size in ((1, 50), (2, 120), (2, 50)):
            torch.set_num_threads(threads)
            for one, other in zip(expected, arrays_of(submission, tiny_set, batch_size)):
                assert one.tobytes() == other.tobytes(), (threads, batch_size)
        for threads, batch_size in ((1, 1), (3, 120), (8, 50)):
            torch.set_num_threads(threads)
            codes, *images = arrays_of(submission, tiny_set, batch_size)
            assert np.allclose(codes, expected[0], rtol=2**-9, atol=1e-4)  # two steps of float16
            for one, other in zip(images, expected[1:]):
                assert np.abs(one.astype(int) - other).max() <= 1
    finally:
        torch.set_num_threads(before)


def weights_after_training(folder: Path, tiny_data: Path, *more: str, **environment: str) -> bytes:
    words = tiny_training(tiny_data, folder)
    result = run("train.py", *words, *more, env=environment)
    assert result.returncode == 0, result.stderr
    state = checkpoint.load(folder / "best.pth")["model_state_dict"]
    return b"".join(value.numpy().tobytes() for value in state.values())


@pytest.mark.skipif(not X86, reason="instruction sets of x86")
def test_deterministic_gives_the_bytes_of_an_older_processor(tmp_path, tiny_data):
    here = weights_after_training(tmp_path / "a", tiny_data, "--deterministic")
    fp32 = ("--precision", "fp32")  # the default here may be bf16
    assert here == weights_after_training(tmp_path / "b", tiny_data, *fp32, **OLDER_PROCESSOR)
    if torch.backends.cpu.get_cpu_capability() != "DEFAULT":
        assert here != weights_after_training(tmp_path / "c", tiny_data, *fp32)
    options = train.TrainOptions(save_dir=tmp_path / "a")
    with pytest.raises(SettingsError, match="was trained with --deterministic; add it"):
        train.resume(options, {"save_dir"})
    resumed, _ = train.resume(replace(options, deterministic=True), {"save_dir", "deterministic"})
    assert resumed.deterministic and resumed.precision == "fp32"


def test_deterministic_comes_before_torch_and_in_fp32(monkeypatch):
    if not PINNED.items() <= os.environ.items():
        assert "torch" in sys.modules
        monkeypatch.setattr(sys, "argv", ["train.py", "--deterministic"])
        with pytest.raises(RuntimeError, match="after torch was imported"):
            train.main()
    with pytest.raises(SettingsError, match="--deterministic needs fp32"):
        train.TrainOptions(deterministic=True, precision="bf16")
    assert train.TrainOptions(deterministic=True).settings.precision == "fp32"


def test_other_data_inside_an_epoch_are_refused():
    state = {"counters": {"batch": 3}, "train_sha256": "a"}
    with pytest.raises(SettingsError, match="not the data on which the interrupted epoch began"):
        train._refuse_other_data(Path("new"), "b", state)
    train._refuse_other_data(Path("moved"), "a", state)
    train._refuse_other_data(Path("new"), "b", {**state, "counters": {"batch": 0}})

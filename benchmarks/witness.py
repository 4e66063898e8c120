"""Record what every model computes, to check that a refactoring changed nothing.

    python -m benchmarks.witness                  run all, write benchmarks/witness.json; 8 minutes
    python -m benchmarks.witness --check          run all, compare with benchmarks/witness.json
    python -m benchmarks.witness --only model.py  some of the submissions

Trains each submission for one epoch in fp32 on one thread with a fixed seed, infers and grades the
test split, and keeps the SHA-256 of the arrays and of the weights, and the scores. Two runs of the
same code on the same processor give the same bytes; another processor may round differently.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from tqdm import tqdm

from lab import ROOT

RESULT = ROOT / "benchmarks" / "witness.json"
RECIPE = "--epochs 1 --batch_size 256 --lr 3e-3 --var 0.02 --precision fp32 --device cpu --seed 42"
GAN = "--epochs 1 --batch_size 256 --lr 5e-4 --precision fp32 --device cpu --seed 42"
CASES = [
    ("VAEwolabel", "submission.py", RECIPE),
    ("Genwithlabel", "submission.py", RECIPE),
    ("VAEwolabel", "model.py", RECIPE),
    ("Genwithlabel", "model.py", RECIPE),
    ("VAEwolabel", "zoo/mlp_ae.py", RECIPE),
    ("VAEwolabel", "zoo/mlp_vae.py", RECIPE),
    ("Genwithlabel", "zoo/mlp_cvae.py", RECIPE),
    ("VAEwolabel", "zoo/conv_vae.py", RECIPE),
    ("Genwithlabel", "zoo/conv_cvae.py", RECIPE),
    ("VAEwolabel", "zoo/beta_vae.py", RECIPE),
    ("Genwithlabel", "zoo/wgan.py", GAN),
    ("Genwithlabel", "zoo/wgan_gp.py", GAN),
    ("Genwithlabel", "zoo/record.py", f"{RECIPE} --variant flow_epochs=1"),
]
ARRAYS = ("codes", "recon", "samples")
SCORES = ("ssim", "mse", "fid", "raw", "score")


def run(*words: object) -> None:
    """Run a command of the lab on one thread. Raises RuntimeError with the end of its errors."""
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, words))} failed:\n{done.stderr[-2000:]}")


def witness(task: str, submission: str, options: str) -> dict:
    """Train, infer and grade once; return hashes and scores."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        where = ["--task", task, "--submission", submission, "--save_dir", folder]
        run("train.py", *where, *options.split())
        run(
            *("inference.py", "--checkpoint_path", folder / "best.pth", "--device", "cpu"),
            *("--data_path", "dataset/test"),
        )
        outputs = folder / "inference"
        other = "VAEwolabel" if task == "Genwithlabel" else "Genwithlabel"
        run(
            *("grade.py", "--test_data_path", "dataset/test", f"--no-{other}"),
            *(f"--{task}_output_dir", outputs, "--output", folder / "grade.json"),
        )
        state = torch.load(folder / "best.pth", map_location="cpu", weights_only=True)
        weights = hashlib.sha256()
        for key, value in sorted(state["model_state_dict"].items()):
            weights.update(key.encode())
            weights.update(value.contiguous().view(-1).numpy().tobytes())
        files = {name: outputs / f"{name}.npy" for name in ARRAYS}
        grade = json.loads((folder / "grade.json").read_text(encoding="utf-8"))[task]
        return {
            "weights": weights.hexdigest(),
            **{
                name: hashlib.sha256(file.read_bytes()).hexdigest()
                for name, file in files.items()
                if file.is_file()
            },
            **{score: grade[score] for score in SCORES},
        }


def main() -> None:
    """Run the cases two at a time; write the result or compare it with the stored one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare; exit status 1 if different")
    parser.add_argument("--only", nargs="+", default=[], help="submissions, such as model.py")
    args = parser.parse_args()
    cases = [case for case in CASES if not args.only or case[1] in args.only]
    with ThreadPoolExecutor(2) as pool, tqdm(total=len(cases), unit="run") as bar:
        futures = {f"{task} {file}": pool.submit(witness, task, file, o) for task, file, o in cases}
        found = {}
        for name, future in futures.items():
            found[name] = future.result()
            bar.update()
    if not args.check:
        RESULT.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        return
    stored = json.loads(RESULT.read_text(encoding="utf-8"))
    different = 0
    for name, row in found.items():
        changed = [
            key for key in row | stored[name] if not same(row.get(key), stored[name].get(key))
        ]
        different += bool(changed)
        for key in changed:
            print(f"{name}: {key} changed from {stored[name].get(key)} to {row.get(key)}")
    print(f"{len(found) - different} of {len(found)} runs have the same bytes and scores")
    sys.exit(1 if different else 0)


def same(one: object, other: object) -> bool:
    """Return whether two hashes are equal, or two scores except for their last digit.

    Versions of numpy add the values of a mean in different orders.
    """
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-14)
    return one == other


if __name__ == "__main__":
    main()

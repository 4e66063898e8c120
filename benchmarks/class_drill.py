"""A class of 60 generated submissions, good, bad, slow and hostile: graded right, killed, resumed.

    python -m benchmarks.class_drill              9 minutes on 2 cores
    python -m benchmarks.class_drill --only rate  only how many a minute
    python -m benchmarks.class_drill --only none  only write the documents again

1. 30 normal submissions, both tasks, on the test split: how many a minute.
2. The class of 60; the grader killed with -9 half-way and started again.
3. The class against a scheduler and two workers, processes of their own, one of them killed.

Ends with status 1 unless every submission has the right status in 2 and in 3, with equal scores,
and nothing that was graded before the kill was graded again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from benchmarks.commands import ROOT, machine, timed
from benchmarks.markdown import put_blocks
from data_utils import MNISTDataset
from tests import attacks

FIGURES = ROOT / "benchmarks" / "class_drill.json"
CLASS = ["-m", "staff.grade_class"]
NORMAL, STUDENTS = 30, 60
SECONDS, MEMORY = 10, 1500  # of a core and MiB, for a stage
PORT = 18787
HOSTILE = [name for name in attacks.ATTACKS if name not in ("network", "reads-what-is-not-its-own")]
BLANK = {
    "bad-blank": "not-done",
    "bad-shape": "false-latent-dim",
    "bad-range": "out-of-range",
}


def train_models(folder: Path, count: int) -> list[dict[str, Path]]:
    """Train `count` pairs of small models with seeds of their own; return their checkpoints."""
    models = []
    for seed in range(count):
        models.append({})
        for task, var in (("VAEwolabel", 0.05), ("Genwithlabel", 0.5)):
            run = folder / f"{task}-{seed}"
            words = ["--task", task, "--submission", "model.py", "--epochs", 3, "--var", var]
            words += ["--batch_size", 256, "--lr", 3e-3, "--seed", seed, "--save_dir", run]
            words += ["--latent_dim", attacks.LATENT_DIM]
            timed(sys.executable, "train.py", *words, quiet=True)
            models[-1][task] = run / "best.pth"
    return models


def hand_in(folder: Path, model: dict[str, Path], before: str = "") -> None:
    """Write a student's folder: model.py, with code before it, and the checkpoints."""
    folder.mkdir(parents=True)
    code = (ROOT / "model.py").read_text(encoding="utf-8")
    head, rest = code.split("class VAE", 1)
    (folder / "submission.py").write_text(f"{head}{before}\nclass VAE{rest}", encoding="utf-8")
    for task, checkpoint in model.items():
        shutil.copyfile(checkpoint, folder / f"{task}.pth")


def write_class(folder: Path, models: list[dict[str, Path]]) -> dict[str, tuple[str, ...]]:
    """Write 60 submissions; return the statuses that are right for each."""
    right: dict[str, tuple[str, ...]] = {}
    for number in range(2):
        hand_in(folder / f"slow-{number}", models[number], "import time\ntime.sleep(4)\n")
        right[f"slow-{number}"] = ("graded",)
    train = MNISTDataset(ROOT / "dataset" / "train")
    chosen = np.concatenate([np.flatnonzero(train.labels == label)[:10] for label in range(10)])
    stored = torch.from_numpy(train.images[chosen].reshape(100, 784)) / 255
    weights = torch.load(models[0]["Genwithlabel"], weights_only=True)["model_state_dict"]
    for name in HOSTILE:
        attack = attacks.ATTACKS[name]
        attacks.write(name, attack, folder / name, folder.parent / "marker", weights, stored)
        right[name] = attack.status
    for name, instead in BLANK.items():
        shutil.copytree(folder / instead, folder / name)
        right[name] = attacks.ATTACKS[instead].status
    for name in attacks.write_archives(folder):
        right[name] = ("contract breach",)
    for number in range(STUDENTS - len(right)):
        hand_in(folder / f"normal-{number:02}", models[number % len(models)])
        right[f"normal-{number:02}"] = ("graded",)
    return right


def results_in(out: Path) -> dict[str, dict]:
    """Return the results so far, by student."""
    files = out.glob("students/*/result.json")
    return {file.parent.name: json.loads(file.read_text(encoding="utf-8")) for file in files}


def start(*words: object) -> subprocess.Popen:
    """Start a command in the project's folder, in silence."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, *map(str, words)], cwd=ROOT, **quiet)


def wait_for(out: Path, count: int, process: subprocess.Popen) -> dict[str, dict]:
    """Wait until so many are graded; return the results then."""
    while process.poll() is None:
        found = results_in(out)
        if len(found) >= count:
            return found
        time.sleep(0.2)
    sys.exit("the grader ended before it could be disturbed")


def wrong_in(results: dict[str, dict], right: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """Return the students whose status is not the right one."""
    statuses = {key: results.get(key, {}).get("status", "no result") for key in right}
    return {key: status for key, status in statuses.items() if status not in right[key]}


def killed_and_resumed(folder: Path, out: Path, right: dict) -> dict:
    """Grade the class, kill the grader half-way, start it again."""
    words = [*CLASS, folder, "--out", out, "--seconds", SECONDS, "--memory", MEMORY]
    process = start(*words)
    before = wait_for(out, len(right) // 2, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    started = time.perf_counter()
    start(*words).wait()
    after = results_in(out)
    again = [key for key, one in before.items() if after[key]["graded_at"] != one["graded_at"]]
    return {
        "graded_before_the_kill": len(before),
        "graded_twice": len(again),
        "wrong": wrong_in(after, right),
        "statuses": dict(Counter(one["status"] for one in after.values())),
        "seconds_after_the_kill": time.perf_counter() - started,
    }


def on_a_cluster(folder: Path, out: Path, right: dict, alone: dict[str, dict]) -> dict:
    """Grade the class on two workers that are processes of their own; kill one of them."""
    address = f"tcp://127.0.0.1:{PORT}"
    dask = ["-m", "dask"]
    worker = [*dask, "worker", address, "--nthreads", 1, "--no-nanny", "--no-dashboard"]
    scheduler = start(*dask, "scheduler", "--host", "127.0.0.1", "--port", PORT, "--no-dashboard")
    workers = [start(*worker), start(*worker)]
    try:
        words = [*CLASS, folder, "--out", out, "--seconds", SECONDS, "--memory", MEMORY]
        words += ["--scheduler", address]
        process = start(*words)
        wait_for(out, 10, process)
        workers[0].send_signal(signal.SIGKILL)
        workers.append(start(*worker))
        process.wait()
    finally:
        for one in (*workers, scheduler):
            one.kill()
    results = results_in(out)
    other = [
        key
        for key, one in results.items()
        if key.startswith(("normal", "slow")) and one["score"] != alone[key]["score"]
    ]
    return {"wrong": wrong_in(results, right), "other_scores": other, "results": len(results)}


def render(figures: dict) -> str:
    """Return the block of staff/README.md."""
    facts, rate = figures["machine"], figures["rate"]
    resumed, shared = figures["killed"], figures["cluster"]
    statuses = ", ".join(f"{count} {status}" for status, count in resumed["statuses"].items())
    right = STUDENTS - len(resumed["wrong"])
    return (
        f"Measured by `python -m benchmarks.class_drill` on {facts['cores']} CPU cores with torch "
        f"{facts['torch']}, {facts['date']}: {rate['a_minute']:.1f} normal submissions a minute "
        f"({rate['count']} of them, both tasks, 10 000 test images each, {rate['seconds']:.0f} s). "
        f"A class of {STUDENTS}: {statuses}; {right} of {STUDENTS} with the right status. Killed "
        f"with -9 after {resumed['graded_before_the_kill']} and started again: "
        f"{resumed['graded_twice']} graded twice. Against a scheduler and two workers, one of them "
        f"killed: {shared['results'] - len(shared['wrong'])} of {STUDENTS} right, "
        f"{len(shared['other_scores'])} scores differ.\n"
    )


def main() -> None:
    """Measure, store, write, judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("rate", "none"), help="measure only this, or nothing")
    args = parser.parse_args()
    if args.only != "none":
        stored = json.loads(FIGURES.read_text(encoding="utf-8")) if args.only else {}
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            models = train_models(folder / "models", 6)
            for number in range(NORMAL):
                hand_in(folder / "normal" / f"{number:02}", models[number % len(models)])
            words = [*CLASS, folder / "normal", "--out", folder / "graded-normal"]
            seconds = timed(sys.executable, *words)
            graded = [one["status"] for one in results_in(folder / "graded-normal").values()]
            assert graded == ["graded"] * NORMAL, Counter(graded)
            rate = {"count": NORMAL, "seconds": seconds, "a_minute": 60 * NORMAL / seconds}
            figures = stored | {"machine": machine(), "rate": rate}
            if args.only is None:
                right = write_class(folder / "class", models)
                figures["killed"] = killed_and_resumed(folder / "class", folder / "graded", right)
                alone = results_in(folder / "graded")
                figures["cluster"] = on_a_cluster(
                    folder / "class", folder / "graded-there", right, alone
                )
            assert not (folder / "marker").exists()
        FIGURES.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    put_blocks(ROOT / "staff" / "README.md", {"drill": render(figures)})
    print(json.dumps(figures, indent=2))
    troubles = [figures["killed"]["wrong"], figures["killed"]["graded_twice"]]
    troubles += [figures["cluster"]["wrong"], figures["cluster"]["other_scores"]]
    sys.exit(1 if any(troubles) else 0)


if __name__ == "__main__":
    main()

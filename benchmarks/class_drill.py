"""Grade a generated class of good, wrong, slow and hostile submissions; kill and resume it.

    python -m benchmarks.class_drill              everything: 9 minutes on 2 cores
    python -m benchmarks.class_drill --only rate  only the submissions per minute
    python -m benchmarks.class_drill --only none  only write the document, from stored figures

1. 30 normal submissions, both tasks, on the test split and on a private split of 2000 images:
   submissions per minute.
2. The class; the grader is killed with -9 half-way and started again.
3. The class against a scheduler and two workers, which are processes; one of them is killed.

The exit status is 0 if every submission has the expected status in 2 and in 3, the scores of both
are equal, and no submission that was graded before the kill was graded again. Otherwise it is 1.
"""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from benchmarks import figures
from benchmarks.commands import make_parser, timed
from benchmarks.drill import start, two_workers
from benchmarks.markdown import put_blocks
from lab import ROOT
from staff import sandbox
from staff.class_split import IMAGES
from tests import attacks

FIGURES = ROOT / "benchmarks" / "class_drill.json"
CLASS = ["-m", "staff.grade_class"]
NORMAL = 30  # of which the rate is measured
NORMAL_IN_CLASS = 8
SECONDS, MEMORY = 10, 1500  # limits per stage: CPU seconds, and MiB of memory
PORT = 18787
LEFT_OUT = ("network", "reads-what-is-not-its-own", "private-image-in-a-message")
HOSTILE = [name for name in attacks.ATTACKS if name not in LEFT_OUT]
BLANK = {
    "bad-blank": "not-done",
    "bad-shape": "false-latent-dim",
    "bad-range": "out-of-range",
}


def train_models(folder: Path, count: int) -> list[dict[str, Path]]:
    """Train `count` pairs of small models with different seeds; return their checkpoints."""
    models: list[dict[str, Path]] = []
    for seed in range(count):
        models.append({})
        for task, var in (("VAEwolabel", 0.05), ("Genwithlabel", 0.5)):
            run = folder / f"{task}-{seed}"
            words: list[object] = ["--task", task, "--submission", "model.py"]
            words += ["--epochs", 3, "--var", var]
            words += ["--batch_size", 256, "--lr", 3e-3, "--seed", seed, "--save_dir", run]
            words += ["--latent_dim", attacks.LATENT_DIM]
            timed(sys.executable, "train.py", *words, quiet=True)
            models[-1][task] = run / "best.pth"
    return models


def hand_in(folder: Path, model: dict[str, Path], before: str = "") -> None:
    """Write a student's folder: model.py with code before its classes, and the checkpoints."""
    folder.mkdir(parents=True)
    code = (ROOT / "model.py").read_text(encoding="utf-8")
    head, rest = code.split("class VAE", 1)
    (folder / "submission.py").write_text(f"{head}{before}\nclass VAE{rest}", encoding="utf-8")
    for task, checkpoint in model.items():
        shutil.copyfile(checkpoint, folder / f"{task}.pth")


def write_class(folder: Path, models: list[dict[str, Path]]) -> dict[str, tuple[str, ...]]:
    """Write the class; return the correct statuses of each student."""
    right: dict[str, tuple[str, ...]] = {}
    for number in range(2):
        hand_in(folder / f"slow-{number}", models[number], "import time\ntime.sleep(4)\n")
        right[f"slow-{number}"] = ("graded",)
    weights = {
        task: torch.load(file, weights_only=True)["model_state_dict"]
        for task, file in models[0].items()
    }
    stored = attacks.images_to_store(ROOT / "dataset" / "test")
    for name in HOSTILE:
        attack = attacks.ATTACKS[name]
        attacks.write(name, attack, folder / name, folder.parent / "marker", weights, stored)
        right[name] = attack.status
    for name, instead in BLANK.items():
        shutil.copytree(folder / instead, folder / name)
        right[name] = attacks.ATTACKS[instead].status
    for name in attacks.write_archives(folder):
        right[name] = ("contract breach",)
    for number in range(NORMAL_IN_CLASS):
        hand_in(folder / f"normal-{number:02}", models[number % len(models)])
        right[f"normal-{number:02}"] = ("graded",)
    return right


def results_in(out: Path) -> dict[str, dict]:
    """Return the results so far, by student."""
    files = out.glob("students/*/result.json")
    return {file.parent.name: figures.read(file) for file in files}


def wait_for(out: Path, count: int, process: subprocess.Popen) -> dict[str, dict]:
    """Wait until `count` submissions are graded; return the results."""
    while process.poll() is None:
        found = results_in(out)
        if len(found) >= count:
            return found
        time.sleep(0.2)
    sys.exit("the grader ended before it could be killed")


def wrong_in(results: dict[str, dict], right: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """Return the students with a wrong status, and that status."""
    statuses = {key: results.get(key, {}).get("status", "no result") for key in right}
    return {key: status for key, status in statuses.items() if status not in right[key]}


def killed_and_resumed(folder: Path, out: Path, right: dict) -> dict:
    """Grade the class, kill the grader half-way and start it again."""
    words: list[object] = [*CLASS, folder, "--out", out, "--seconds", SECONDS, "--memory", MEMORY]
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
    """Grade the class on two workers that are processes; kill one of them."""
    with two_workers(PORT) as (address, workers, start_worker):
        words: list[object] = [*CLASS, folder, "--out", out]
        words += ["--seconds", SECONDS, "--memory", MEMORY, "--scheduler", address]
        words.append("--insecure-scheduler")  # on loopback, in a drill
        process = start(*words)
        wait_for(out, 10, process)
        workers[0].send_signal(signal.SIGKILL)
        start_worker()
        process.wait()
    results = results_in(out)
    other = [
        key
        for key, one in results.items()
        if key.startswith(("normal", "slow")) and one["score"] != alone[key]["score"]
    ]
    return {"wrong": wrong_in(results, right), "other_scores": other, "results": len(results)}


def render(stored: dict[str, Any]) -> str:
    """Return the block `drill` of staff/README.md."""
    facts, rate = stored["machine"], stored["rate"]
    resumed, shared = stored["killed"], stored["cluster"]
    statuses = ", ".join(f"{count} {status}" for status, count in resumed["statuses"].items())
    count = sum(resumed["statuses"].values())
    right = count - len(resumed["wrong"])
    return (
        f"Measured by `python -m benchmarks.class_drill` on {facts['cores']} CPU cores with torch "
        f"{facts['torch']}, {facts['date']}: {rate['a_minute']:.1f} normal submissions per minute "
        f"({rate['count']} submissions, both tasks, 10 000 test images each{_private(rate)}, "
        f"{rate['seconds']:.0f} s). A class of {count} submissions: {statuses}; {right} of "
        f"{count} have the right status. The grader was killed with -9 after "
        f"{resumed['graded_before_the_kill']} submissions and started again: "
        f"{resumed['graded_twice']} were graded twice. Against a scheduler and two workers, one of "
        f"which was killed: {shared['results'] - len(shared['wrong'])} of {count} right, "
        f"{len(shared['other_scores'])} scores differ.\n"
    )


def render_class_size(stored: dict[str, Any], chinese: bool = False) -> str:
    """Return the block `class-size` of staff/guide.md: how long a class of 100 takes."""
    facts, rate = stored["machine"], stored["rate"]["a_minute"]
    minutes, gib = math.ceil(100 / rate), sandbox.Limits().memory_bytes / 1024**3
    if chinese:
        return (
            f"在 {facts['cores']} 个 CPU 核上，100 名学生各交两个任务需要 {minutes} 分钟"
            f"（实测每分钟 {rate:.1f} 份，torch {facts['torch']}，{facts['date']}）。"
            f"每个阶段最多占用 {gib:g} GiB 内存。\n"
        )
    return (
        f"On {facts['cores']} CPU cores it takes {minutes} minutes for 100 students who hand in "
        f"both tasks (measured: {rate:.1f} submissions per minute, torch {facts['torch']}, "
        f"{facts['date']}). A stage uses at most {gib:g} GiB of memory.\n"
    )


def _private(rate: dict[str, Any]) -> str:
    """Return the words for the private split; "" for figures that were measured without one."""
    return f" and {rate['private_images']} private ones" if "private_images" in rate else ""


def measure_rate(folder: Path, models: list[dict[str, Path]]) -> dict[str, Any]:
    """Grade normal submissions; return how many per minute."""
    for number in range(NORMAL):
        hand_in(folder / "normal" / f"{number:02}", models[number % len(models)])
    out = folder / "graded-normal"
    seconds = timed(sys.executable, *CLASS, folder / "normal", "--out", out)
    results = list(results_in(out).values())
    graded = [one["status"] for one in results]
    assert graded == ["graded"] * NORMAL, Counter(graded)
    counts = {task["private"]["n"] for one in results for task in one["tasks"].values()}
    assert counts == {IMAGES}, counts
    facts = {"count": NORMAL, "private_images": IMAGES, "seconds": seconds}
    return {**facts, "a_minute": 60 * NORMAL / seconds}


def measure(only_rate: bool) -> None:
    """Run the drill and store the figures."""
    stored = figures.read(FIGURES) if only_rate else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = train_models(folder / "models", 6)
        stored |= {"rate": measure_rate(folder, models), "machine": figures.machine()}
        if not only_rate:
            there, out = folder / "class", folder / "graded"
            right = write_class(there, models)
            stored["killed"] = killed_and_resumed(there, out, right)
            alone = results_in(out)
            stored["cluster"] = on_a_cluster(there, folder / "graded-there", right, alone)
        assert not (folder / "marker").exists(), "a hostile submission wrote outside its sandbox"
    figures.write(FIGURES, stored)


def main() -> None:
    """Measure, store the figures, write the block; exit with status 1 if something is wrong."""
    parser = make_parser("benchmarks.class_drill", __doc__)
    parser.add_argument("--only", choices=("rate", "none"), help="measure only this, or nothing")
    args = parser.parse_args()
    if args.only != "none":
        measure(args.only == "rate")
    stored = figures.read(FIGURES)
    put_blocks(ROOT / "staff" / "README.md", {"drill": render(stored)})
    for name, chinese in (("guide.md", False), ("guide.zh.md", True)):
        block = render_class_size(stored, chinese)
        put_blocks(ROOT / "staff" / name, {"class-size": block})
    print(json.dumps(stored, indent=2))
    troubles = [stored["killed"]["wrong"], stored["killed"]["graded_twice"]]
    troubles += [stored["cluster"]["wrong"], stored["cluster"]["other_scores"]]
    sys.exit(1 if any(troubles) else 0)


if __name__ == "__main__":
    main()

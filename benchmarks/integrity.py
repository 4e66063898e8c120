"""Measure what staff.integrity finds: copies in disguise, independent students, replays.

    python -m benchmarks.integrity                   15 minutes on 2 cores
    python -m benchmarks.integrity --parts code      only a part; the figures of others stay

Twenty independent submissions (tests/classmates.py) are trained for two epochs on the 10 000
validation images, with the same seed. Then
    code        each of them is copied in eleven disguises, and compared with the class;
    weights     the weights of a model are stolen in eight disguises, some with real fine-tuning,
                and compared with those of trainings of the same seed whose codes differ a little;
    replay      each checkpoint is replayed with its own code, ten with another student's, and
                five with their own code after its activation was exchanged;
    tolerance   how far losses differ with other noise, in bf16, and after small edits of the code.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks import figures
from benchmarks.commands import make_parser
from data_utils import MNISTDataset, set_seed
from lab import ROOT, checkpoint
from lab.settings import Settings
from lab.split_model import Submission
from staff.integrity import code as codes
from staff.integrity import weights
from staff.integrity.code import Rarity, read_code
from staff.integrity.findings import findings_of
from staff.integrity.subjects import Subject
from staff.integrity.weights import Record, read_record
from staff.replay import FIRST, Verdict, relative, replay
from staff.stage import _flat, _weights_of, record_of
from staff.walls import Limits
from trainer import Trainer

FIGURES = ROOT / "benchmarks" / "integrity.json"
DATA = ROOT / "dataset" / "valid"
SPLITS = {"train": DATA, "valid": DATA}
TASK = "VAEwolabel"
SWAPPED, EDITED = 10, 5
EPOCHS = 6  # of the weights that are stolen
ACTIVATIONS = ("relu", "gelu", "silu", "elu", "tanh", "softplus", "leaky_relu")
MLP = ROOT / "tests" / "submissions" / "student.py"


def trained(name: str, text: str, folder: Path, epochs: int = 2, **named: Any) -> Path:
    """Train a submission, with seed 42 if no other is given, and return its run's folder."""
    from train import TrainOptions, train

    file = folder / f"{name}.py"
    file.write_text(text, encoding="utf-8")
    fixed: dict[str, Any] = {
        "submission": file, "save_dir": folder / name, "epochs": epochs, "batch_size": 256,
        "latent_dim": 8, "seed": 42, "train_data": DATA, "valid_data": DATA, "eval_num": 500,
        "save_loss_plot": False,
    }  # fmt: skip
    options = TrainOptions(**{**fixed, **named})
    train(options, progress=False)
    return options.folder


def record(state: dict[str, Any], run: Path) -> Record:
    """Return what the sandbox returns of a checkpoint, with the initial weights of a run."""
    set_seed(state["settings"]["seed"])
    model = Submission(run / "submission.py", TASK, state["latent_dim"]).model
    found = read_record(record_of(state, _flat(_weights_of(model.state_dict()))))
    assert found is not None
    return found


def record_of_run(run: Path) -> Record:
    """Return the record of the checkpoint of a run."""
    return record(checkpoint.load(run / "best.pth"), run)


def subject(key: str, text: str, own: Record | None = None) -> Subject:
    """Return a student."""
    return Subject(key, key, "", read_code(text.encode()), {TASK: own} if own else {})


def of_code(texts: list[str]) -> dict[str, Any]:
    """Return the likeness of honest pairs, and of copies with their original."""
    from tests.classmates import CODE_DISGUISES

    codes.baseline()
    before = os.times()
    honest = [subject(str(i), text) for i, text in enumerate(texts)]
    seconds = sum(os.times()[:4]) - sum(before[:4])
    own = [one.code.own for one in honest]
    rarity = Rarity(own)
    pairs = sorted(rarity.likeness(a, b) for a, b in itertools.combinations(own, 2))
    found: dict[str, Any] = {
        "pairs": len(pairs),
        "honest_largest": pairs[-3:],
        "honest_median": statistics.median(pairs),
        "honest_findings": len(findings_of(honest).clusters),
        "cpu_seconds_per_submission": seconds / len(texts),
    }
    copies: dict[str, list[float]] = {}
    for name, disguise in tqdm(CODE_DISGUISES.items(), desc="code"):
        for victim, text in enumerate(texts):
            copy = read_code(disguise(text).encode()).own
            alike = Rarity([*own, copy]).likeness(own[victim], copy)
            copies.setdefault(name, []).append(alike)
    found["copies"] = {
        name: {
            "found": sum(one >= codes.ALIKE for one in values),
            "of": len(values),
            "smallest": min(values),
            "median": statistics.median(values),
        }
        for name, values in copies.items()
    }
    return found


def of_weights(folder: Path) -> dict[str, Any]:
    """Return how alike the weights of near trainings are, and what is found of stolen ones."""
    from tests import classmates, stolen

    text = MLP.read_text(encoding="utf-8")
    run = trained("victim", text, folder, EPOCHS)
    state = checkpoint.load(run / "best.pth")
    victim = subject("victim", text, record(state, run))

    def compared(own: Record, verdict: Verdict | None = None) -> dict[str, Any]:
        """Return what is found of a student whose code is another one."""
        other = subject("other", classmates.HONEST[3], own)
        other.replays = {TASK: verdict} if verdict else {}
        found = findings_of([victim, other])
        return {
            "kinds": sorted({f.kind for c in found.clusters for f in c.findings}),
            "explained": [f.words for f in found.explained],
            "likeness": weights.likeness(victim.records[TASK], own),
            "change": weights.change_in_common(victim.records[TASK], own),
            "reordered": own.reordered,
        }

    edits: dict[str, tuple[str, dict[str, Any]]] = {
        "another seed": (text, {"seed": 1}),
        "another activation": (text.replace("F.relu", "F.gelu"), {}),
        "a leaky ReLU": (text.replace("F.relu", "F.leaky_relu"), {}),
        "another loss": (text.replace("(2 * var)", "(4 * var)"), {}),
        "half the KL": (text.replace("kl = -0.5", "kl = -0.25"), {}),
        "0.95 of the KL": (text.replace("kl = -0.5", "kl = -0.475"), {}),
        "half the rate": (text, {"lr": 2.5e-3}),
        "0.9 of the rate": (text, {"lr": 4.5e-3}),
        "batches of 250": (text, {"batch_size": 250}),
        "more epochs": (text, {"epochs": EPOCHS + EPOCHS // 2}),
    }
    near, runs = {}, {}
    for number, (name, (edited, named)) in enumerate(tqdm(edits.items(), desc="near")):
        runs[name] = trained(f"near{number}", edited, folder, **{"epochs": EPOCHS, **named})
        near[name] = compared(record_of_run(runs[name]))
    tuned, forged = fine_tuned(run, folder), stolen.with_other_history
    other = runs["another activation"]  # what the thief trained: the same layers and seed
    honest_record = checkpoint.load(other / "best.pth")

    def under_own(weights_of: dict[str, Any]) -> dict[str, Any]:
        return {**honest_record, "model_state_dict": weights_of["model_state_dict"]}

    thefts = {
        "verbatim": state,
        "layers renamed": stolen.with_other_names(state),
        "history forged": forged(state),
        "layers renamed, history forged": forged(stolen.with_other_names(state)),
        "hidden units permuted, history forged": forged(stolen.permuted(state)),
        "fine-tuned for an epoch, under the record of their own training": under_own(tuned),
        "fine-tuned and permuted, history forged": forged(stolen.permuted(tuned)),
        "fine-tuned for an epoch, history forged": forged(tuned),
    }
    found = {}
    for name, one in thefts.items():
        own = record(one, run)  # the hardest case: the thief's code begins with the same weights
        found[name] = compared(own)
        if name == "fine-tuned for an epoch, history forged":
            file = folder / "forged.pth"
            checkpoint.save(file, one)
            verdict = replay(other / "submission.py", file, own, SPLITS, Limits())
            found[name] |= {"replay": verdict.kind, "with_replay": compared(own, verdict)["kinds"]}
    return {"steps": weights.steps_of(victim.records[TASK]), "near": near, "stolen": found}


def fine_tuned(run: Path, folder: Path) -> dict[str, Any]:
    """Train one more epoch from the weights of a run, with a new optimizer and half its rate."""
    state = checkpoint.load(run / "best.pth")
    settings = Settings(epochs=1, batch_size=256, lr=2.5e-3, seed=7, eval_num=500)
    set_seed(7)
    dataset = MNISTDataset(DATA)
    model = Submission(run / "submission.py", TASK, 8)
    model.load_weights(state, "stolen")
    trainer = Trainer(model, settings, dataset, dataset, say=lambda words: None, progress=False)
    trainer.prepare()
    trainer.fit()
    return {**state, "model_state_dict": trainer.model.state_dict()}


def of_replays(runs: list[Path], records: list[Record]) -> dict[str, Any]:
    """Replay every checkpoint with its own code, and some with other code.

    SWAPPED are with another student's, EDITED with their own code and another activation.
    """

    def verdict(code: Path, own: int):
        return replay(code, runs[own] / "best.pth", records[own], SPLITS, Limits())

    honest = [
        verdict(run / "submission.py", i) for i, run in enumerate(tqdm(runs, desc="honest replays"))
    ]
    swapped = [
        verdict(runs[(i + 1) % len(runs)] / "submission.py", i)
        for i in tqdm(range(SWAPPED), desc="swapped")
    ]
    edited: list[Verdict] = []
    for number, run in enumerate(runs):
        text = (run / "submission.py").read_text(encoding="utf-8")
        other = re.sub(rf"(F|torch)\.({'|'.join(ACTIVATIONS)})\(", "torch.sin(", text)
        if other != text and len(edited) < EDITED:
            file = run.parent / f"edited{number}.py"
            file.write_text(other, encoding="utf-8")
            edited.append(verdict(file, number))
    groups = {"honest": honest, "swapped": swapped, "edited": edited}
    return {
        name: {
            "verdicts": dict(Counter(one.kind for one in verdicts)),
            "exact": sum(one.exact for one in verdicts),
            "why": [one.why for one in verdicts],
        }
        for name, verdicts in groups.items()
    }


def first_losses(text: str, folder: Path, noise: int | None = None, **named: Any) -> list[float]:
    """Return the losses of the first steps. noise: a seed for what is drawn in training."""
    file = folder / "tolerance.py"
    file.write_text(text, encoding="utf-8")
    settings = Settings(**{"device": "cpu", "precision": "fp32", "batch_size": 256, **named})
    dataset = MNISTDataset(DATA)
    set_seed(settings.seed)
    submission = Submission(file, TASK, 8)
    trainer = Trainer(submission, settings, dataset, dataset, progress=False)
    trainer.prepare()
    trainer.model.train()
    if noise is not None:
        torch.manual_seed(noise)
    for x, labels in itertools.islice(trainer.batches.epoch(0), 20):
        trainer.state.count_step(trainer.training_step(x, submission.visible(labels)))
    return trainer.state.first_losses


def of_tolerance(texts: list[str], folder: Path) -> dict[str, Any]:
    """Return how far the losses differ: at most of the first steps, and in the median of all."""

    def gap(one: list[float], other: list[float]) -> dict[str, float]:
        values = [relative(a, b) for a, b in zip(one, other)]
        return {"first": max(values[:FIRST]), "median": statistics.median(values)}

    cases: dict[str, list[dict[str, float]]] = {}
    for text in tqdm(texts, desc="tolerance"):
        own = first_losses(text, folder)
        for noise in (7, 8):
            other = first_losses(text, folder, noise)
            cases.setdefault("other noise", []).append(gap(own, other))
        other = first_losses(text, folder, precision="bf16")
        cases.setdefault("bf16", []).append(gap(own, other))
    text = (ROOT / "model.py").read_text(encoding="utf-8")
    own = first_losses(text, folder)
    for name, edited in {
        "slope of the LeakyReLU 0.1": text.replace("0.2", "0.1"),
        "tanh": text.replace("nn.LeakyReLU(0.2)", "nn.Tanh()"),
        "KL halved": text.replace("0.5 * (mu", "0.25 * (mu"),
    }.items():
        cases[f"edit: {name}"] = [gap(own, first_losses(edited, folder))]
    return {
        name: {part: max(one[part] for one in values) for part in ("first", "median")}
        for name, values in cases.items()
    }


def of_class(texts: list[str], folder: Path) -> dict[str, Any]:
    """Return what is found in the class itself, and of its replays."""
    runs = [trained(str(i), one, folder) for i, one in enumerate(tqdm(texts, desc="train"))]
    before = time.process_time()
    records = [record_of_run(run) for run in runs]
    seconds = (time.process_time() - before) / len(runs)
    honest = [subject(str(i), *pair) for i, pair in enumerate(zip(texts, records))]
    before = time.process_time()
    found = findings_of(honest)
    per_pair = (time.process_time() - before) / math.comb(len(honest), 2)
    pairs = [weights.likeness(a, b) for a, b in itertools.permutations(records, 2)]
    return {
        "pairs": len(pairs) // 2,
        "clusters": len(found.clusters),
        "explained": [[*(one.key for one in f.pair), f.words] for f in found.explained],
        "reordered": sum(one.reordered for one in records),
        "largest_likeness": max(pairs),
        "cpu_seconds_per_record": seconds,
        "cpu_seconds_per_pair": per_pair,
        "replay": of_replays(runs, records),
    }


PARTS: dict[str, Callable[[list[str], Path], dict[str, Any]]] = {
    "code": lambda texts, folder: of_code(texts),
    "class": of_class,
    "weights": lambda texts, folder: of_weights(folder),
    "tolerance": lambda texts, folder: of_tolerance(texts[:6], folder),
}


def main() -> None:
    """Measure, print, and store."""
    from tests import classmates

    parser = make_parser("benchmarks.integrity", __doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="to measure")
    parts = parser.parse_args().parts
    torch.set_num_threads(1)
    for part in parts:
        with tempfile.TemporaryDirectory() as name:
            measured = PARTS[part](classmates.HONEST, Path(name))
        found = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
        figures.write(FIGURES, {**found, part: {"machine": figures.machine(), **measured}})
    print(FIGURES.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()

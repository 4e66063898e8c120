"""The page of a report: one HTML file with its pictures, in English and Chinese."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from data_utils import NUM_CLASSES, MNISTDataset
from lab.evaluation import rows_of
from lab.latent_plane import COLORS, project
from lab.metrics import CAPS
from lab.moments import slant
from lab.pages import templates, verbatim
from lab.report import charts, pictures
from lab.report.charts import Curve
from lab.report.measured import STEPS, Measured
from lab.report.references import references

TEMPLATES = Path(__file__).resolve().parent / "templates"
SHOWN = 120  # reconstructions, from the best to the worst
COMPARED = 20  # images and samples that several runs show side by side
SAMPLES = 10  # per label
# Entries of hyperparams.json that are results or identities, not settings.
NOT_SETTINGS = (
    "submission_sha256",
    "code_sha256",
    "train_sha256",
    "trainable_parameters",
    "checkpoint",
    "checkpoint_sha256",
)
# What train.py takes to repeat a run; hyperparams.json writes lr as learning_rate.
OPTIONS = (
    *("task", "submission", "latent_dim", "variant", "epochs", "batch_size", "lr", "lr_schedule"),
    *("var", "grad_clip", "seed", "precision"),
)


def build(runs: Sequence[Measured], dataset: MNISTDataset, handed_in: bool = False) -> str:
    """Return the page of one run, or of several that are compared.

    Args:
        dataset: the images that the runs were measured on.
        handed_in: whether staff measured what was handed in, without what needs more than the
            arrays of grading.
    """
    best = {  # of each task, because the tasks have different scores
        max(same, key=lambda number: runs[number].scores["raw"])
        for task in {run.task for run in runs}
        if (same := [number for number, run in enumerate(runs) if run.task == task])
    }
    return (
        templates(TEMPLATES)
        .get_template("report.html")
        .render(
            t=_in_both_languages,
            style=verbatim(TEMPLATES / "report.css"),
            script=verbatim(TEMPLATES / "report.js"),
            runs=[_of_one(run, dataset) for run in runs],
            together=_of_several(runs, dataset) if len(runs) > 1 else None,
            best=best,
            n=len(dataset),
            handed_in=handed_in,
            versions={name: version(name) for name in ("torch", "numpy")},
        )
    )


def _in_both_languages(english: str, chinese: str) -> Markup:
    """Return a text in both languages; the page shows one of them."""
    return Markup('<span lang="en">{}</span><span lang="zh-CN">{}</span>').format(english, chinese)


# ---------------------------------------------------------------- one run


def _of_one(run: Measured, dataset: MNISTDataset) -> dict[str, Any]:
    """Return what the template shows of a run."""
    return {
        "name": run.name,
        "task": run.task,
        "scores": run.scores,
        "terms": _terms(run),
        "cap": CAPS[run.task],
        "references": references(run.task, run.latent_dim, dataset),
        "charts": _charts(run),
        "collapsed": run.collapsed,
        "least": run.least,
        "kl": None if run.kl is None else float(run.kl.sum()),
        "reconstructions": _reconstructions(run, dataset),
        "samples": None
        if run.samples is None
        else pictures.mosaic([row[:SAMPLES] for row in run.samples]),
        "walks": _walks(run),
        "traversals": _traversals(run),
        "planes": _planes(run, dataset),
        "diagnostics": run.diagnostics and {**run.diagnostics, "rows": rows_of(run.diagnostics)},
        "facts": run.facts,
        "command": command_of(run),
        "seconds": run.history[-1].get("seconds") if run.history else None,
    }


def _terms(run: Measured) -> list[dict[str, Any]]:
    """Return the summands of the raw score: name, points, and the most that they can be."""
    scores, twice = run.scores, 2 if run.task == "Genwithlabel" else 1
    bonus, found = scores["bonus"], []
    if scores["ssim"] is not None:
        found = [
            ("ssim", f"{5 * twice} ssim", 5 * twice * scores["ssim"] * bonus, 5 * twice * bonus),
            (
                "mse",
                f"{50 * twice} (0.1 - mse)",
                50 * twice * max(0.1 - scores["mse"], 0) * bonus,
                5 * twice * bonus,
            ),
        ]
    if scores["fid"] is not None:
        found.append(("fid", "10 - fid", max(10 - scores["fid"], 0) * bonus, 10 * bonus))
    return [dict(zip(("name", "formula", "points", "most"), term)) for term in found]


def _charts(run: Measured) -> dict[str, Markup]:
    """Return the charts: loss, its terms, scores, learning rate, what each dimension says."""
    rows = run.history

    def points(name: str) -> list[tuple[float, float]]:
        pairs = [(row.get("step"), row.get(name)) for row in rows]
        return [(x, y) for x, y in pairs if x is not None and y is not None]

    counts = [row.get("skipped_steps") or 0 for row in rows]
    skipped = [
        row.get("step") or 0 for row, before, now in zip(rows, [0, *counts], counts) if now > before
    ]
    found = {
        "weights": Markup(""),
        "loss": charts.lines(
            [
                Curve("train", points("train_loss"), 0, dashed=True),
                Curve("valid", points("valid_loss"), 0),
            ],
            "step",
            "Loss over the steps",
            skipped,
        ),
        "terms": charts.lines(
            [
                Curve("reconstruction", points("valid_reconstruction_loss"), 1),
                Curve("KL", points("valid_kl_divergence"), 2),
            ],
            "step",
            "The two terms of the validation loss",
            log=True,
        ),
        "ssim": charts.lines(
            [Curve("ssim", points("valid_ssim"), 3)], "step", "SSIM of the validation images"
        ),
        "lr": charts.lines([Curve("lr", points("lr"), 4)], "step", "Learning rate", skipped),
    }
    if run.weights is not None and run.order is not None:
        title = "Variance of the codes" if run.kl is None else "KL divergence"
        names = [str(dimension + 1) for dimension in run.order]
        values = run.weights[run.order].tolist()
        found["weights"] = charts.bars(values, names, f"{title} per dimension", run.least)
    return found


def _reconstructions(run: Measured, dataset: MNISTDataset) -> dict[str, Any] | None:
    """Return the images of some reconstructions, from the best ssim to the worst, with numbers."""
    if run.recon is None or run.ssim is None or run.mse is None:
        return None
    order = np.argsort(-run.ssim)
    chosen = order[np.linspace(0, len(order) - 1, min(SHOWN, len(order))).astype(int)]
    inputs, outputs = dataset.images[chosen], run.recon[chosen]
    rows = [inputs, outputs, pictures.difference(inputs, outputs)]
    return {
        "data": pictures.sprites(rows),
        "count": len(chosen),
        "numbers": [
            {
                "index": int(index),
                "label": int(dataset.labels[index]),
                "ssim": round(float(run.ssim[index]), 4),
                "mse": round(float(run.mse[index]), 5),
                "place": int(place) + 1,
            }
            for index, place in zip(chosen, np.linspace(0, len(order) - 1, len(chosen)).astype(int))
        ],
        "total": len(order),
    }


def _walks(run: Measured) -> str | None:
    if run.walks is None:
        return None
    starts, between, ends = run.walks
    return pictures.mosaic(list(np.concatenate([starts[:, None], between, ends[:, None]], axis=1)))


def _traversals(run: Measured) -> dict[str, Any] | None:
    if run.traversals is None or run.order is None:
        return None
    count = len(run.traversals)
    kl = [None if run.kl is None else float(run.kl[i]) for i in run.order[:count]]
    names = [int(i) + 1 for i in run.order[:count]]
    return {
        "rows": list(zip(names, kl)),
        "data": [pictures.mosaic([row]) for row in run.traversals],
        "from": float(STEPS[0]),
        "to": float(STEPS[-1]),
    }


def _planes(run: Measured, dataset: MNISTDataset) -> dict[str, Any] | None:
    """Return the codes as a plane, coloured by label and by the slant of the digit.

    None where the codes of only some images are known.
    """
    if run.codes is None or len(run.codes) < len(dataset):
        return None
    codes, names = project(run.codes.astype(np.float64))  # (N, 2)
    return {
        "names": names,
        "label": pictures.plane(codes, dataset.labels, by_label=True),
        "slant": pictures.plane(codes, slant(dataset.images), by_label=False),
        "colors": [f"rgb{color}" for color in COLORS[:NUM_CLASSES]],
    }


def command_of(run: Measured) -> str:
    """Return the command that trains the run again; "" if its settings are not known."""
    facts = {**run.facts, "lr": run.facts.get("learning_rate")}
    words = [f"--{name} {facts[name]}" for name in OPTIONS if facts.get(name) not in (None, "")]
    return f"python train.py {' '.join(words)}" if "task" in run.facts else ""


# ---------------------------------------------------------------- several runs


def _of_several(runs: Sequence[Measured], dataset: MNISTDataset) -> dict[str, Any]:
    """Return what is shown of several runs together: differences, curves, the same images."""
    settings = {
        name: [run.facts.get(name) for run in runs]
        for name in dict.fromkeys(name for run in runs for name in run.facts)
        if name not in NOT_SETTINGS
    }
    if len({run.task for run in runs}) > 1:
        settings["task"] = [run.task for run in runs]
    differ = {name: cells for name, cells in settings.items() if len(set(map(str, cells))) > 1}
    curves = []
    for number, run in enumerate(runs):
        rows = [(row.get("step"), row.get("valid_ssim")) for row in run.history]
        known = [(step, ssim) for step, ssim in rows if step is not None and ssim is not None]
        curves.append(Curve(run.name, known, number % 10))
    chosen = np.linspace(0, len(dataset) - 1, COMPARED).astype(int)
    return {
        "differ": differ,
        "curves": charts.lines(curves, "step", "SSIM of the validation images of every run"),
        "inputs": pictures.mosaic([dataset.images[chosen]]),
        "recon": [
            None if run.recon is None else pictures.mosaic([run.recon[chosen]]) for run in runs
        ],
        "samples": [
            None
            if run.samples is None
            else pictures.mosaic([run.samples[:, : COMPARED // 10].reshape(-1, 28, 28)])
            for run in runs
        ],
    }

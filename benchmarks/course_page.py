"""The generated blocks of the course's texts, from the figures of benchmarks/course.py.

Tables and commands are the same in both languages: their columns are named by the options and
scores of the lab. Only the reading of the report's example has words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab import ROOT

FIGURES = ROOT / "benchmarks" / "course.json"
DIGITS = {"ssim": 4, "mse": 5, "fid": 2, "raw": 2, "score": 2, "kl": 1, "valid_loss": 1}


def blocks(stored: Mapping[str, Any]) -> dict[Path, dict[str, str]]:
    """Return the generated blocks of each document by name."""
    var, explosion = render_var(stored["var"]), render_explosion(stored["explosion"])
    scribbles = render_scribbles(stored["scribbles"])
    written: dict[Path, dict[str, str]] = {}
    for language, ending in (("en", ".md"), ("zh", ".zh.md")):
        written[ROOT / "docs" / f"handout{ending}"] = {"course-var": var}
        written[ROOT / "docs" / f"student-guide{ending}"] = {
            "course-explosion": explosion,
            "course-scribbles": scribbles,
        }
        written[ROOT / "docs" / f"report-template{ending}"] = {
            "course-setting": code("bash", [stored["ablation"]["command"]]),
            "course-ablation": render_ablation(stored["ablation"]),
            "course-reading": READINGS[language](stored),
        }
    return written


def render_var(part: Mapping[str, Any]) -> str:
    """Return the block `course-var`: one row per value of var, and the command of one row."""
    rows = [
        [row["var"], *cells(row, ("ssim", "mse", "kl")), f"{row['active']} / {row['latent_dim']}"]
        for row in part["rows"]
    ]
    return table(["var", "ssim", "mse", "kl", "active"], rows) + code("bash", [part["command"]])


def render_explosion(part: Mapping[str, Any]) -> str:
    """Return the block `course-explosion`: the run that explodes and its log, then both scores."""
    explodes = part["runs"][0]
    rows = [
        [run["lr"], str(run["steps"]), str(run["skipped"]), *cells(run, ("valid_loss", "ssim"))]
        for run in part["runs"]
    ]
    return (
        code("bash", [explodes["command"]])
        + code("", explodes["log"])
        + table(["lr", "steps", "skipped", "valid_loss", "ssim"], rows)
    )


def render_scribbles(part: Mapping[str, Any]) -> str:
    """Return the block `course-scribbles`: the scores for three ways to draw z."""
    names = ("ssim", "mse", "fid", "raw")
    rows = [[name, *cells(row, names)] for name, row in part["rows"].items()]
    return table(["", *names], rows)


def render_ablation(part: Mapping[str, Any]) -> str:
    """Return the block `course-ablation`: mean and spread over seeds for each var."""
    names = ("ssim", "mse", "fid", "raw")
    rows = [
        [row["var"], str(row["n"]), *(mean_and_spread(row, name) for name in names)]
        for row in part["rows"]
    ]
    return table(["var", "n", *names], rows)


def mean_and_spread(row: Mapping[str, Any], name: str) -> str:
    """Return a score as mean ± standard deviation over the seeds."""
    return f"{row[name]:.{DIGITS[name]}f} ± {row[f'{name}_spread']:.{DIGITS[name]}f}"


def cells(row: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Return values with their usual digits."""
    return [f"{row[name]:.{DIGITS[name]}f}" for name in names]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table and a blank line."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


def code(language: str, lines: Sequence[str]) -> str:
    """Return a block of code and a blank line."""
    return "\n".join([f"```{language}", *lines, "```", "", ""])


# ---------------------------------------------------------------- the reading of the example


def _reading_facts(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures that the reading names, as text."""
    rows = stored["ablation"]["rows"]
    best = max(rows, key=lambda row: row["raw"])
    low_fid = min(rows, key=lambda row: row["fid"])
    fitted = stored["scribbles"]["rows"]
    plain, with_prior = list(fitted.values())[-2:]
    return {
        "first": rows[0]["var"],
        "last": rows[-1]["var"],
        "ssim_first": f"{rows[0]['ssim']:.3f}",
        "ssim_last": f"{rows[-1]['ssim']:.3f}",
        "fid_last": f"{rows[-1]['fid']:.1f}",
        "low_var": low_fid["var"],
        "low_fid": f"{low_fid['fid']:.1f}",
        "best": best["var"],
        "best_raw": f"{best['raw']:.1f}",
        "spread": f"{max(row['fid_spread'] for row in rows):.2f}",
        "fid_plain": f"{plain['fid']:.1f}",
        "fid_fitted": f"{with_prior['fid']:.1f}",
        "raw_fitted": f"{with_prior['raw']:.1f}",
    }


READINGS = {
    "en": lambda stored: "{ssim_first} {ssim_last}\n".format(**_reading_facts(stored)),
    "zh": lambda stored: "{ssim_first} {ssim_last}\n".format(**_reading_facts(stored)),
}

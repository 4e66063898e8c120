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
    for ending in READING:
        written[ROOT / "docs" / f"handout{ending}"] = {"course-var": var}
        written[ROOT / "docs" / f"student-guide{ending}"] = {
            "course-explosion": explosion,
            "course-scribbles": scribbles,
        }
        written[ROOT / "docs" / f"report-template{ending}"] = {
            "course-setting": code("bash", [stored["ablation"]["command"]]),
            "course-ablation": render_ablation(stored["ablation"]),
            "course-reading": render_reading(stored, ending),
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
    """Return the block `course-scribbles`: the scores for three ways to draw z, one command."""
    names = ("ssim", "mse", "fid", "raw")
    rows = [[name, *cells(row, names)] for name, row in part["rows"].items()]
    return table(["", *names], rows) + code("bash", [part["command"]])


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

READING = {
    ".md": (
        "SSIM rises with each smaller `var`, from {ssim_first} to {ssim_last}, and each step is "
        "many times the spread over seeds, as expected. The FID surprised me: it has its minimum, "
        "{fid_low}, at `var` {low}, and is worse on both sides.\n"
        "For a smaller `var` the reason is the expected one: in the picture, codes of images and "
        "N(0, I) no longer cover the same region, and at `var` {last} the FID is {fid_last}.\n"
        "For a larger `var` I had forgotten that samples come from the same decoder as "
        "reconstructions: at `var` {first} these are blurred (MSE {mse_first}), so the samples are "
        "too, wherever their codes lie.\n"
        "The raw score is best at `var` {best}.\n\n"
        "To see whether the decoder or its input is at fault at `var` {last}, I kept the weights "
        "and drew `z` from a Gaussian fitted to the codes of each label. The FID falls from "
        "{fid_plain} to {fid_fitted}, and the raw score rises to {raw_fitted}, above every row of "
        "the table.\n"
        "So the decoder was good, and was asked about codes that it had never seen. With such a "
        "prior, nothing speaks for a large `var` any more; next I would try smaller ones.\n"
    ),
    ".zh.md": (
        "`var` 每减小一档，SSIM 都上升，从 {ssim_first} 升到 {ssim_last}，"
        "而且每一档的差别都是随机种子间波动的许多倍，与预期一致。"
        "FID 却出乎意料：它在 `var` {low} 处最小，为 {fid_low}，往两边都变差。\n"
        "`var` 变小时，原因如预期所说：从图上看，图像的编码与 N(0, I) 已不在同一片区域，"
        "到 `var` {last} 时 FID 是 {fid_last}。\n"
        "`var` 变大时的情形，是我事先没有想到的：样本和重建出自同一个解码器，"
        "`var` 为 {first} 时重建是模糊的（MSE 为 {mse_first}），"
        "样本自然也模糊，与编码在哪里无关。\n"
        "raw 在 `var` {best} 处最高。\n\n"
        "`var` 为 {last} 时，问题出在解码器，还是出在它的输入？为此我保留全部权重，"
        "只对每个标签的编码拟合一个高斯分布，改从它采样 `z`。"
        "FID 从 {fid_plain} 降到 {fid_fitted}，raw 升到 {raw_fitted}，超过了表里的每一行。\n"
        "可见解码器本身没有问题，只是要它解码的 `z` 是它从未见过的。"
        "有了这样的先验，就没有理由再用大的 `var` 了，接下来我会试更小的取值。\n"
    ),
}


def render_reading(stored: Mapping[str, Any], ending: str) -> str:
    """Return the block `course-reading` in the language of the document's ending."""
    rows = stored["ablation"]["rows"]  # from the largest var to the smallest
    low = min(rows, key=lambda row: row["fid"])
    best = max(rows, key=lambda row: row["raw"])
    _, plain, fitted = stored["scribbles"]["rows"].values()
    return READING[ending].format(
        first=rows[0]["var"],
        last=rows[-1]["var"],
        low=low["var"],
        best=best["var"],
        ssim_first=f"{rows[0]['ssim']:.3f}",
        ssim_last=f"{rows[-1]['ssim']:.3f}",
        mse_first=f"{rows[0]['mse']:.3f}",
        fid_low=f"{low['fid']:.1f}",
        fid_last=f"{rows[-1]['fid']:.1f}",
        fid_plain=f"{plain['fid']:.1f}",
        fid_fitted=f"{fitted['fid']:.1f}",
        raw_fitted=f"{fitted['raw']:.1f}",
    )

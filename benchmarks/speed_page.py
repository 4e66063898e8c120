"""The figures of benchmarks/speed.py as documents, pictures and a table for the terminal."""

from __future__ import annotations

from typing import Any, BinaryIO

from benchmarks import chinese
from benchmarks.markdown import put_blocks
from lab import ROOT, plots
from lab.checkpoint import write_whole

README, README_ZH = ROOT / "README.md", ROOT / "README.zh.md"
PAGE = ROOT / "docs" / "speed.md"
PICTURES = {"speed": ROOT / "docs" / "speed.png", "growth": ROOT / "docs" / "growth.png"}
MLP, CONV = "`model.py`", "`zoo/conv_vae.py`"
USUAL = "the usual pipeline"
# What each ratio compares, and with what; the lab is ahead above 1.
RATIOS = {
    "epoch_mlp": (f"epoch, {MLP}", USUAL),
    "epoch_mlp_validated": (f"epoch with its validations, {MLP}", USUAL),
    "epoch_mlp_validated_as_often": (f"epoch with as many validations as theirs, {MLP}", USUAL),
    "epoch_conv": (f"epoch, {CONV}", USUAL),
    "epoch_conv_validated": (f"epoch with its validations, {CONV}", USUAL),
    "inference": ("inference of 10 000 images, without start-up", USUAL),
    "inference_process": ("inference of 10 000 images, whole process", USUAL),
    "grade_process": ("grading of 10 000 images, whole process", USUAL),
    "peak_memory": ("peak memory of training", USUAL),
    "pythae_mlp": (f"epoch in fp32, {MLP}", "pythae"),
    "pythae_mlp_as_shipped": (f"epoch with the defaults of each, {MLP}", "pythae"),
    "lightning_mlp": (f"epoch in fp32, {MLP}", "Lightning"),
    "lightning_mlp_as_shipped": (f"epoch with the defaults of each, {MLP}", "Lightning"),
    "pythae_conv": (f"epoch in fp32, {CONV}", "pythae"),
    "pythae_conv_as_shipped": (f"epoch with the defaults of each, {CONV}", "pythae"),
    "lightning_conv": (f"epoch in fp32, {CONV}", "Lightning"),
    "lightning_conv_as_shipped": (f"epoch with the defaults of each, {CONV}", "Lightning"),
}
# The Trainer's time over that of plain PyTorch; the lab is ahead up to the bound.
COSTS = {
    "trainer_over_bare_mlp": (f"the lab against plain PyTorch, {MLP}", 1.05),
    "trainer_over_bare_conv": (f"the lab against plain PyTorch, {CONV}", 1.0),
}
# Seconds; the lab is ahead up to the bound.
SECONDS = {
    "headline_vae_train_s": ("`VAEwolabel` past the reports' best: training", 4.0),
    "headline_vae_total_s": ("the same, from the start of `train.py` to the grade", 8.0),
    "headline_gen_train_s": ("`Genwithlabel` past the reports' best: training", 8.0),
}


def is_ahead(name: str, median: float) -> bool:
    """Whether a figure counts as ahead: a ratio above 1, or a cost or time within its bound."""
    if name in RATIOS:
        return median > 1
    _, bound = (COSTS | SECONDS)[name]
    return median <= bound


def behind(figures: dict[str, Any]) -> set[str]:
    """Return the names of the rows that are not ahead."""
    known = figures.get("ratios", {}) | figures.get("seconds", {})
    return {
        name
        for name in (*RATIOS, *COSTS, *SECONDS)
        if name in known and not is_ahead(name, known[name]["median"])
    }


def rows(figures: dict[str, Any]) -> list[list[str]]:
    """Return the cells of each row of the table."""
    found = []
    ratios, seconds = figures.get("ratios", {}), figures.get("seconds", {})
    for name, (what, other) in RATIOS.items():
        if name in ratios:
            found.append([what, other, *_sides(name, ratios[name]), *_judged(name, ratios[name])])
    for name, (what, bound) in COSTS.items():
        if name in ratios:
            other = f"a plain PyTorch loop; lower is better, at most {bound:g}x"
            if "later" in ratios[name]:
                other += f"; measured later, {ratios[name]['later']}"
            found.append([what, other, *_sides(name, ratios[name]), *_judged(name, ratios[name])])
    for name, (what, bound) in SECONDS.items():
        if name in seconds:
            found.append([what, f"at most {bound:g} s", "", "", *_judged(name, seconds[name])])
    return found


def _sides(name: str, one: dict[str, float]) -> list[str]:
    unit, digits = ("MiB", 0) if name == "peak_memory" else ("s", 2)
    return [f"{one[side]:.{digits}f} {unit}" for side in ("theirs", "ours")]


def _judged(name: str, one: dict[str, float]) -> list[str]:
    """Return the figure with its range, and whether it is ahead."""
    unit = " s" if name in SECONDS else "x"
    text = f"{one['median']:.2f}{unit} ({one['min']:.2f} to {one['max']:.2f}, n = {one['n']})"
    return [text, "ahead" if is_ahead(name, one["median"]) else "behind"]


def table(figures: dict[str, Any]) -> str:
    """Return the comparison as a Markdown table, for documents and for the terminal."""
    lines = ["| what | against | theirs | the lab | median (range) | |", "| --- " * 6 + "|"]
    lines += [f"| {' | '.join(row)} |" for row in rows(figures)]
    return "\n".join(lines) + "\n"


def render(figures: dict[str, Any]) -> str:
    """Return the block `speed` of docs/speed.md: table, pictures, and how it was measured."""
    facts = figures["machine"]
    precision = next(iter(figures["limit"].values()))["precision"]  # the same in every row
    limits = [
        f"- {name}: {one['achieved'] / 1e9:.0f} of {one['peak'] / 1e9:.0f} GFLOP/s in "
        f"{one['precision']} ({one['share']:.0%}); at the peak, an epoch would take "
        f"{one['flops'] / one['peak']:.2f} s"
        for name, one in zip((MLP, CONV), figures["limit"].values())
    ]
    exponents = [
        f"{name.replace('_', ' ')} {series['exponent']:.2f}"
        for name, series in figures.get("growth", {}).items()
    ]
    return "\n".join(
        [
            "![How many times as fast the lab is](speed.png)",
            "",
            table(figures),
            f"{facts['cores']} CPU cores, torch {facts['torch']}, {facts['date']}. All rows are "
            f"from one run of `make bench`, which took {figures['minutes']:.0f} minutes, unless a "
            "row says that it was measured later; the sides of a row ran in turn. A row is ahead "
            "when its ratio is above 1; where a bound is given, when the figure is within it.",
            "",
            f"- **Precision.** The lab computes in {precision}, its default on this machine, and "
            "the others in fp32, their default, unless a row says otherwise.",
            "- **The usual pipeline** (`benchmarks/usual.py`) decodes one PNG file per image, with "
            f"{figures['workers']} worker processes in training (the faster of 0 and 2) and none "
            "in inference (which is faster). It validates every 10 steps, and writes and reads one "
            "PNG file per image.",
            "- **The lab's epoch with its validations** has one validation, one checkpoint and one "
            "picture.",
            "- **Plain PyTorch** (`benchmarks/bare_loop.py`) is a short loop without the lab's "
            "code: images in memory, batches by index, fused Adam, autocast in the same precision. "
            "It takes its steps on the same batches, in turn with the Trainer; the ratio is the "
            "Trainer's time over its time.",
            "",
            "Achieved, of the machine's peak for matrix products:",
            "",
            *limits,
            "",
            f"Exponents of growth (1 is proportional, 0 constant): {', '.join(exponents)}.",
            "",
            "![Seconds and memory against what grows](growth.png)",
            "",
        ]
    )


def summary_figures(figures: dict[str, Any]) -> tuple[float, float, float]:
    """Return the three figures of the front page: epoch, grading, the Trainer's cost."""
    epoch, grade, cost = (
        figures["ratios"][name]["median"]
        for name in ("epoch_conv", "grade_process", "trainer_over_bare_conv")
    )
    return epoch, grade, cost


def render_summary(figures: dict[str, Any]) -> str:
    """Return the block `speed-summary` of README.md: three figures and a link."""
    epoch, grade, cost = summary_figures(figures)
    return (
        f"- On {figures['machine']['cores']} CPU cores, an epoch of {CONV} is {epoch:.1f} times as "
        f"fast as in the usual pipeline, and grading {grade:.1f} times; the Trainer takes "
        f"{cost:.2f} of the time of a loop in plain PyTorch: see [speed](docs/speed.md).\n"
    )


def write(figures: dict[str, Any]) -> None:
    """Write both pictures, docs/speed.md and the summary in the README."""
    with write_whole(PICTURES["speed"]) as file:
        draw_ratios(file, figures)
    if "growth" in figures:
        with write_whole(PICTURES["growth"]) as file:
            draw_growth(file, figures["growth"])
    put_blocks(PAGE, {"speed": render(figures)})
    put_blocks(README, {"speed-summary": render_summary(figures)})
    cores = figures["machine"]["cores"]
    summary = chinese.render_speed_summary(*summary_figures(figures), CONV, cores)
    put_blocks(README_ZH, {"speed-summary": summary})


def draw_ratios(file: BinaryIO, figures: dict[str, Any]) -> None:
    """Draw each ratio as a bar, and its range as a line."""
    known = [name for name in RATIOS if name in figures["ratios"]]
    drawing = plots.figure(9, 0.8 + 0.34 * len(known))
    axes = drawing.subplots()
    colors = {USUAL: "tab:blue", "pythae": "tab:orange", "Lightning": "tab:green"}
    for place, name in enumerate(reversed(known)):
        _, other = RATIOS[name]
        one = figures["ratios"][name]
        axes.barh(place, one["median"], color=colors[other], height=0.7)
        axes.plot([one["min"], one["max"]], [place, place], color="black", linewidth=1)
        axes.text(58, place, f"{one['median']:.1f}x", va="center", ha="right", fontsize=9)
    labels = [RATIOS[name][0].replace("`", "") for name in reversed(known)]
    axes.set_yticks(range(len(known)), labels)
    axes.set_xscale("log")
    axes.set_xlim(0.5, 60)
    ticks = [0.5, 1, 2, 5, 10, 20, 50]
    axes.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
    axes.minorticks_off()
    axes.axvline(1, color="grey", linewidth=1)
    drawing.suptitle("How many times as fast the lab is (thin black line: the range)")
    handles = [
        axes.barh(-9, 0, color=color, label=f"against {other}") for other, color in colors.items()
    ]
    axes.set_ylim(-0.6, len(known) - 0.4)
    axes.legend(handles=handles, loc="lower right", bbox_to_anchor=(0.93, 0))
    axes.grid(axis="x", alpha=0.3)
    drawing.savefig(file, format="png", dpi=110)


def draw_growth(file: BinaryIO, growth: dict[str, dict[str, Any]]) -> None:
    """Draw seconds and memory against what grows."""
    from matplotlib.ticker import LogLocator

    titles = {
        "images": "one epoch, by images",
        "latent_dim": "one epoch, by latent_dim",
        "batch_size": "one epoch, by batch_size",
        "trials": "one sweep, by trials",
        "submissions": "one class, by submissions",
    }
    drawing = plots.figure(9, 6)
    places = drawing.subplots(2, 3).flat
    for (name, series), axes in zip(growth.items(), places):
        memory = axes.twinx()
        memory.plot(series["x"], series["peak_mib"], "s--", color="tab:red", markersize=4)
        memory.set_ylim(0, 1.2 * max(series["peak_mib"]))
        memory.tick_params(axis="y", colors="tab:red")
        axes.loglog(series["x"], series["seconds"], "o-", color="tab:blue", label="seconds")
        axes.set_title(f"{titles[name]}\nexponent {series['exponent']:.2f}", fontsize=10)
        axes.set_xlabel(name.replace("_", " "))
        axes.tick_params(axis="y", colors="tab:blue")
        axes.set_xticks(series["x"], [f"{x:,}".replace(",000", "k") for x in series["x"]])
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        low, high = min(series["seconds"]), max(series["seconds"])
        axes.set_ylim(low / 2, high * 2)
        axes.grid(alpha=0.3)
        axes.set_ylabel("seconds", color="tab:blue")
        memory.set_ylabel("peak memory, MiB", color="tab:red")
    for axes in places:  # without a series
        axes.remove()
    drawing.savefig(file, format="png", dpi=110)

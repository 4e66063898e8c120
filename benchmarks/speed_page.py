"""What speed.py found, as the README's table, its pictures and lines for the terminal."""

from __future__ import annotations

from benchmarks.commands import ROOT
from benchmarks.markdown import put_blocks
from lab.checkpoint import write_whole

PICTURES = {"speed": ROOT / "docs" / "speed.png", "growth": ROOT / "docs" / "growth.png"}
README = ROOT / "README.md"
AIMS_PEAK = 846  # spec 7
MLP, CONV = "`model.py`", "`zoo/conv_vae.py`"
# What each ratio says, against whom, and the aim; none where it only stands beside another.
RATIOS = {
    "epoch_mlp": (f"epoch, {MLP}", "the usual pipeline", 10.0),
    "epoch_mlp_validated": (f"epoch with its validations, {MLP}", "the usual pipeline", 12.0),
    "epoch_mlp_validated_as_often": (
        f"epoch with as many validations as theirs, {MLP}",
        "the usual pipeline",
        None,
    ),
    "epoch_conv": (f"epoch, {CONV}", "the usual pipeline", 2.5),
    "epoch_conv_validated": (f"epoch with its validations, {CONV}", "the usual pipeline", 3.0),
    "inference": ("inference of 10 000, without start-up", "the usual pipeline", 5.0),
    "inference_process": ("inference, whole process", "the usual pipeline", 2.8),
    "grade_process": ("grading 10 000, whole process", "the usual pipeline", 4.0),
    "peak_memory": ("peak memory of training", "the usual pipeline", 1.0),
    "pythae_mlp": (f"epoch in fp32, {MLP}", "pythae", 1.25),
    "pythae_mlp_as_shipped": (f"epoch as each ships, {MLP}", "pythae", 3.0),
    "lightning_mlp": (f"epoch in fp32, {MLP}", "Lightning", 1.25),
    "lightning_mlp_as_shipped": (f"epoch as each ships, {MLP}", "Lightning", 3.0),
    "pythae_conv": (f"epoch in fp32, {CONV}", "pythae", 1.0),
    "pythae_conv_as_shipped": (f"epoch as each ships, {CONV}", "pythae", 1.5),
    "lightning_conv": (f"epoch in fp32, {CONV}", "Lightning", 1.0),
    "lightning_conv_as_shipped": (f"epoch as each ships, {CONV}", "Lightning", 1.5),
}
COSTS = {
    "trainer_over_bare_mlp": (f"Trainer / bare loop, {MLP}", 1.05),
    "trainer_over_bare_conv": (f"Trainer / bare loop, {CONV}", 1.05),
}
SECONDS = {
    "headline_vae_train_s": ("`VAEwolabel` past the reports' best: training", 4.0),
    "headline_vae_total_s": ("the same, from the start of `train.py` to the grade", 8.0),
    "headline_gen_train_s": ("`Genwithlabel` past the reports' best: training", 8.0),
}


def rows(figures: dict) -> list[list[str]]:
    """Return what is compared, with whom, both sides, the ratio with its range, the aim, a word."""
    found = []
    ratios, seconds = figures.get("ratios", {}), figures.get("seconds", {})
    for name in (*RATIOS, *COSTS):
        if name in ratios:
            cost = name in COSTS
            what, other, aim = RATIOS.get(name) or (COSTS[name][0], "a bare loop", COSTS[name][1])
            unit, digits = ("MiB", 0) if name == "peak_memory" else ("s", 2)
            sides = [f"{ratios[name][side]:.{digits}f} {unit}" for side in ("theirs", "ours")]
            found.append([what, other, *sides, *_judged(ratios[name], aim, "x", not cost)])
    for name, (what, aim) in SECONDS.items():
        if name in seconds:
            found.append([what, "the clock", "", "", *_judged(seconds[name], aim, " s", False)])
    return found


def missed(figures: dict) -> set[str]:
    """Return the names of the figures that fall short of their aim."""
    aims = {name: (aim, True) for name, (_, _, aim) in RATIOS.items() if aim}
    aims |= {name: (aim, False) for name, (_, aim) in (COSTS | SECONDS).items()}
    known = figures.get("ratios", {}) | figures.get("seconds", {})
    return {
        name
        for name, (aim, at_least) in aims.items()
        if name in known and not _reached(known[name]["median"], aim, at_least)
    }


def _reached(median: float, aim: float, at_least: bool) -> bool:
    return median >= aim if at_least else median <= aim


def _judged(one: dict, aim: float | None, unit: str, at_least: bool) -> list[str]:
    """Return the figure with its range, the aim, and whether that was reached."""
    text = f"{one['median']:.2f}{unit} ({one['min']:.2f} to {one['max']:.2f}, n = {one['n']})"
    if aim is None:
        return [text, "", ""]
    word = "reached" if _reached(one["median"], aim, at_least) else "missed"
    return [text, f"{'>=' if at_least else '<='} {aim:g}{unit}", word]


def table(figures: dict) -> str:
    """Return the comparison as a table of Markdown, which a terminal shows well too."""
    lines = ["| what | against | theirs | ours | median (range) | aim | |", "| --- " * 7 + "|"]
    lines += [f"| {' | '.join(row)} |" for row in rows(figures)]
    return "\n".join(lines) + "\n"


def render(figures: dict) -> str:
    """Return the README's block."""
    facts = figures["machine"]
    precision = next(iter(figures["limit"].values()))["precision"]  # the machine's, so any row's
    limits = [
        f"{name} {one['achieved'] / 1e9:.0f} of {one['peak'] / 1e9:.0f} GFLOP/s in "
        f"{one['precision']} ({one['share']:.0%}; at the peak, an epoch would take "
        f"{one['flops'] / one['peak']:.2f} s)"
        for name, one in figures["limit"].items()
    ]
    grown = [
        f"{name.replace('_', ' ')} {series['exponent']:.2f}"
        for name, series in figures.get("growth", {}).items()
    ]
    return "\n".join(
        [
            "![How many times as fast](docs/speed.png)",
            "",
            table(figures),
            f"{facts['cores']} CPU cores, torch {facts['torch']}, {facts['date']}; the sides in "
            f"turn, in one run of {figures['minutes']:.0f} minutes of `make bench`; medians of "
            f"{precision} on our side, which is what it chooses here, and "
            "fp32 on theirs, which is how they ship, unless the row says otherwise. The usual "
            "pipeline (`benchmarks/usual.py`) decodes a PNG an image, with "
            f"{figures['workers']} processes for it in training, the better of 0 and 2, and none "
            "in inference, which is quicker so; it validates each 10 steps, writes and reads a PNG "
            "an image. An epoch of ours with its validations has "
            "one, and the epoch's checkpoint and picture.",
            "",
            f"Achieved, of the machine's peak for products of matrices: {', '.join(limits)}. "
            f"The aims were set on two cores with a peak of {AIMS_PEAK} GFLOP/s in bf16.",
            f"Seconds grow with an exponent of: {', '.join(grown)}.",
            "",
            "![What grows](docs/growth.png)",
            "",
        ]
    )


def write(figures: dict) -> None:
    """Write both pictures and the README's block."""
    with write_whole(PICTURES["speed"]) as file:
        draw_ratios(file, figures)
    if "growth" in figures:
        with write_whole(PICTURES["growth"]) as file:
            draw_growth(file, figures["growth"])
    put_blocks(README, {"speed": render(figures)})


def draw_ratios(file, figures: dict) -> None:
    """Draw each ratio as a bar with its range, and its aim as a line across it."""
    from lab import plots

    known = [name for name, (_, _, aim) in RATIOS.items() if aim and name in figures["ratios"]]
    drawing = plots.figure(9, 0.8 + 0.34 * len(known))
    axes = drawing.subplots()
    colors = {"the usual pipeline": "tab:blue", "pythae": "tab:orange", "Lightning": "tab:green"}
    for place, name in enumerate(reversed(known)):
        what, other, aim = RATIOS[name]
        one = figures["ratios"][name]
        middle = one["median"]
        axes.barh(place, middle, color=colors[other], height=0.7)
        axes.plot([one["min"], one["max"]], [place, place], color="black", linewidth=1)
        axes.plot([aim, aim], [place - 0.4, place + 0.4], color="black", linewidth=2.5)
        axes.text(58, place, f"{middle:.1f}x", va="center", ha="right", fontsize=9)
    axes.set_yticks(
        range(len(known)), [RATIOS[name][0].replace("`", "") for name in reversed(known)]
    )
    axes.set_xscale("log")
    axes.set_xlim(0.5, 60)
    ticks = [0.5, 1, 2, 5, 10, 20, 50]
    axes.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
    axes.minorticks_off()
    axes.axvline(1, color="grey", linewidth=1)
    drawing.suptitle("How many times as fast this lab is (thick line: the aim; thin: the range)")
    handles = [
        axes.barh(-9, 0, color=color, label=f"against {other}") for other, color in colors.items()
    ]
    axes.set_ylim(-0.6, len(known) - 0.4)
    axes.legend(handles=handles, loc="lower right", bbox_to_anchor=(0.93, 0))
    axes.grid(axis="x", alpha=0.3)
    drawing.savefig(file, format="png", dpi=110)


def draw_growth(file, growth: dict[str, dict]) -> None:
    """Draw seconds and memory against what grows."""
    from matplotlib.ticker import LogLocator

    from lab import plots

    titles = {
        "images": "an epoch, by images",
        "latent_dim": "an epoch, by latent_dim",
        "batch_size": "an epoch, by batch_size",
        "trials": "a sweep, by trials",
        "submissions": "a class, by submissions",
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
    for axes in places:  # those that are left
        axes.remove()
    drawing.savefig(file, format="png", dpi=110)

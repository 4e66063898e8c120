"""Compare the speed of the lab with the usual pipeline, libraries, plain PyTorch, and the machine.

    python -m benchmarks.speed                       everything: 15 minutes on 2 cores
    python -m benchmarks.speed --only grade_process  one measurement
    python -m benchmarks.speed --json out.json       store the figures in another file
    python -m benchmarks.speed --draw                measure nothing; write documents and pictures

The sides of a comparison run in turn on the same machine, each in its own process. Each round gives
one ratio, so a change in the machine's load affects both sides. A ratio above 1 says how many
times as fast the lab is. Only trainer_over_bare_* are costs: the Trainer's time divided by that of
plain PyTorch. Without --json the figures go to benchmarks/speed.json, docs/speed.md and the README.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks import figures, growth, headline, speed_page
from benchmarks.commands import json_from, make_parser, timed
from benchmarks.usual import PRED_STEP
from lab import ROOT

FIGURES = ROOT / "benchmarks" / "speed.json"
SUBMISSIONS = {"mlp": "model.py", "conv": "zoo/conv_vae.py"}
# Epochs per process, on every side. The first epoch of the MLP is not counted.
EPOCHS = {"mlp": 3, "conv": 1}
WARM_UP = {"mlp": 1, "conv": 0}
ROUNDS = 3
INFERENCE_ROUNDS = 5  # more rounds, because the time to write 11 000 files varies
BARE = {"mlp": 11, "conv": 4}  # epochs against plain PyTorch; the first is not counted
LIBRARIES = ("pythae", "lightning")


def in_turn(
    sides: dict[str, Callable[[], dict]], rounds: int = ROUNDS, title: str = ""
) -> list[dict[str, dict]]:
    """Run the sides in turn; return the result of each side by round.

    The order is reversed after each round, so that no side is always the first.
    """
    results = []
    with tqdm(total=rounds * len(sides), desc=title, unit="run") as bar:
        for number in range(rounds):
            names = list(sides) if number % 2 else list(sides)[::-1]
            found = {}
            for name in names:
                found[name] = sides[name]()
                bar.update()
            results.append(found)
    return results


def summary(values: list[float]) -> dict[str, float]:
    """Return median, range and number of values."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "n": len(values),
    }


def compared(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """Return the ratio of theirs over ours, round by round, and the median of each side."""
    medians = {"ours": statistics.median(ours), "theirs": statistics.median(theirs)}
    return {**summary([other / own for own, other in zip(ours, theirs)]), **medians}


class Speed:
    """The measurements; each returns the ratios and seconds that it found.

    Args:
        folder: for the files of the measurements. Arrow files and runs are made once.
        options: further options of train.py for the lab's side.
    """

    def __init__(self, folder: Path, options: list[str]) -> None:
        self.folder, self.options = folder, options
        self.workers: int | None = None  # of the usual pipeline; set by `better_workers`
        self.usual_outputs: Path | None = None  # of its last inference

    # ------------------------------------------------------------ shared by the measurements

    def arrow(self, split: str) -> Path:
        """Return a split as an Arrow file."""
        file = self.folder / f"{split}.arrow"
        if not file.exists():
            timed(sys.executable, "-m", "benchmarks.usual", "arrow", f"dataset/{split}", file)
        return file

    def usual_train(self, model: str, epochs: int | None = None) -> dict:
        """Train in the usual pipeline; the last run's weights are kept."""
        words: list[object] = ["-m", "benchmarks.usual", "train", SUBMISSIONS[model]]
        words += ["--epochs", epochs or EPOCHS[model]]
        words += ["--train", self.arrow("train"), "--valid", self.arrow("valid")]
        words += ["--workers", self.workers or 0]
        return json_from(*words, "--out", self.folder / f"usual-{model}.pth")

    def better_workers(self) -> int:
        """Return the number of decoding processes with which the usual pipeline is faster."""
        seconds: dict[int, float] = {}
        for workers in (0, 2):
            self.workers = workers
            seconds[workers] = self.usual_train("mlp", epochs=1)["epochs"][0]
        return min(seconds, key=lambda workers: seconds[workers])

    def our_train(self, model: str, *more: object) -> dict:
        """Train in the lab; the last run is kept."""
        words: list[object] = ["-m", "benchmarks.ours", "train", "--overwrite"]
        words += ["--submission", SUBMISSIONS[model]]
        epochs = EPOCHS[model] + self.warm_up(model, "ours") - WARM_UP[model]
        words += ["--epochs", epochs, "--save_dir", self.folder / f"ours-{model}"]
        return json_from(*words, *self.options, *more)

    def trained(self, model: str) -> tuple[Path, Path]:
        """Return a checkpoint of the lab and one of the usual pipeline."""
        ours = self.folder / f"ours-{model}" / "best.pth"
        theirs = self.folder / f"usual-{model}.pth"
        if not ours.exists():
            self.our_train(model)
        if not theirs.exists():
            self.usual_train(model)
        return ours, theirs

    def our_inference(self) -> dict:
        """Infer in the lab; return the seconds after the imports and those of the process."""
        words: list[object] = ["--checkpoint_path", self.trained("conv")[0]]
        words += ["--data_path", "dataset/test", "--save_dir", self.folder / "ours-outputs"]
        process = timed(sys.executable, "inference.py", *words, quiet=True)
        return {**json_from("-m", "benchmarks.ours", "infer", *words), "process": process}

    def usual_inference(self) -> dict:
        """Infer in the usual pipeline, each time into a new folder; older ones stay until the end.

        Removing 11 000 files can keep a disk busy so long that the next run takes twice the time.
        """
        self.usual_outputs = Path(tempfile.mkdtemp(prefix="usual-outputs-", dir=self.folder))
        words = [SUBMISSIONS["conv"], "--data", self.arrow("test"), "--out", self.usual_outputs]
        words += ["--checkpoint", self.trained("conv")[1]]  # worker processes make it slower
        started = time.perf_counter()
        inside = json_from("-m", "benchmarks.usual", "infer", *words)
        return {**inside, "process": time.perf_counter() - started}

    # ------------------------------------------------------------ the measurements

    def epochs(self, model: str) -> dict:
        """Measure epochs of the usual pipeline and of known libraries against the lab's."""
        if self.workers is None:
            self.workers = self.better_workers()
        sides = {"ours": lambda: self.our_train(model), "usual": lambda: self.usual_train(model)}
        if model == "mlp":
            sides["as_often"] = lambda: self.our_train(model, "--pred_step", PRED_STEP)
        libraries = [name for name in LIBRARIES if find_spec(name)]
        if libraries:
            sides["fp32"] = lambda: self.our_train(model, "--precision", "fp32")
            sides |= {name: self.library(name, model) for name in libraries}
        else:
            print("pythae and Lightning are left out: pip install -r requirements/bench.txt")
        rounds = in_turn(sides, title=f"epochs, {model}")
        plain = {side: self.seconds(rounds, side, "epochs", model) for side in sides}
        ours, usual = (self.seconds(rounds, s, "validated", model) for s in ("ours", "usual"))
        ratios = {
            f"epoch_{model}": compared(plain["ours"], plain["usual"]),
            f"epoch_{model}_validated": compared(ours, usual),
        }
        for name in libraries:
            ratios[f"{name}_{model}"] = compared(plain["fp32"], plain[name])
            ratios[f"{name}_{model}_as_shipped"] = compared(plain["ours"], plain[name])
        if model == "mlp":
            as_often = self.seconds(rounds, "as_often", "validated", model)
            ratios["epoch_mlp_validated_as_often"] = compared(as_often, usual)
            peaks = ([one[side]["peak_mib"] for one in rounds] for side in ("ours", "usual"))
            ratios["peak_memory"] = compared(*peaks)
        return {"ratios": ratios}

    def library(self, name: str, model: str) -> Callable[[], dict]:
        """Return a function that trains in a known library."""
        words = ["-m", "benchmarks.libraries", name, SUBMISSIONS[model], "--epochs", EPOCHS[model]]
        return lambda: json_from(*words)

    def seconds(self, rounds: list[dict], side: str, key: str, model: str) -> list[float]:
        """Return the median epoch of each round, without the epochs that are not counted."""
        first = self.warm_up(model, side)
        return [statistics.median(one[side][key][first:]) for one in rounds]

    def warm_up(self, model: str, side: str) -> int:
        """Return the number of epochs that are not counted; torch.compile compiles in the first."""
        compiles = side in ("ours", "as_often", "fp32") and self.options
        return max(WARM_UP[model], int(bool(compiles)))

    def bare(self, model: str) -> dict:
        """Measure the Trainer against a loop in plain PyTorch, and against the machine's peak."""
        words = ["-m", "benchmarks.bare_loop", SUBMISSIONS[model], "--epochs", BARE[model]]
        found = json_from(*words)
        trainer, plain = zip(*found["pairs"])
        achieved = found["flops"] / statistics.median(trainer)
        facts = {key: found[key] for key in ("device", "precision", "flops")}
        limit = {"achieved": achieved, "peak": found["peak"], "share": achieved / found["peak"]}
        cost = summary([t / p for t, p in found["pairs"]])
        cost |= {"ours": statistics.median(trainer), "theirs": statistics.median(plain)}
        return {
            "ratios": {f"trainer_over_bare_{model}": cost},
            "limit": {model: facts | limit},
        }

    def inference(self) -> dict:
        """Measure 10 000 reconstructions and 1 000 samples, with and without start-up."""
        self.trained("conv")
        sides = {"ours": self.our_inference, "usual": self.usual_inference}
        rounds = in_turn(sides, INFERENCE_ROUNDS, "inference")
        return _ratios(rounds, {"inference": "seconds", "inference_process": "process"})

    def grade(self) -> dict:
        """Measure the scoring of 10 000 reconstructions, as whole processes."""
        if self.usual_outputs is None:
            self.our_inference()
            self.usual_inference()
        words: list[object] = ["grade.py", "--no-Genwithlabel", "--test_data_path", "dataset/test"]
        words += ["--VAEwolabel_output_dir", self.folder / "ours-outputs"]
        words += ["--output", self.folder / "grade.json"]
        usual: list[object] = ["-m", "benchmarks.usual", "grade", "--data", self.arrow("test")]
        usual += ["--outputs", self.usual_outputs, "--no-samples"]
        rounds = in_turn(
            {
                "ours": lambda: {"process": timed(sys.executable, *words, quiet=True)},
                "usual": lambda: {"process": timed(sys.executable, *usual, quiet=True)},
            },
            title="grade",
        )
        return _ratios(rounds, {"grade_process": "process"})

    def headline(self) -> dict:
        """Measure the seconds to the best scores of the original reports."""
        return headline.measure(self.folder, summary)

    def growth(self) -> dict:
        """Measure how seconds and memory grow."""
        return {"growth": growth.measure(self.folder)}

    def run(self, name: str) -> dict:
        """Run one of MEASUREMENTS."""
        method, _, model = name.partition("_")
        return getattr(self, method)(*([model] if model else []))


MEASUREMENTS = (
    *(f"{method}_{model}" for model in SUBMISSIONS for method in ("epochs", "bare")),
    *("inference", "grade", "headline", "growth"),
)
# The measurement that gives a ratio: --only takes the names of both.
GIVES = {
    **{f"epoch_{m}{v}": f"epochs_{m}" for m in SUBMISSIONS for v in ("", "_validated")},
    **{f"{lib}_{m}": f"epochs_{m}" for m in SUBMISSIONS for lib in LIBRARIES},
    **{f"trainer_over_bare_{m}": f"bare_{m}" for m in SUBMISSIONS},
    "peak_memory": "epochs_mlp",
    "inference_process": "inference",
    "grade_process": "grade",
    "headline_vae_train_s": "headline",
    "headline_vae_total_s": "headline",
    "headline_gen_train_s": "headline",
}


def _ratios(rounds: list[dict[str, dict]], keys: dict[str, str]) -> dict:
    """Return each ratio by its name, from the key of both sides' results that it compares."""
    ratios = {}
    for name, key in keys.items():
        ours, theirs = ([one[side][key] for one in rounds] for side in ("ours", "usual"))
        ratios[name] = compared(ours, theirs)
    return {"ratios": ratios}


def measure_all(wanted: set[str], options: list[str], keep: Callable[[dict], None]) -> list[str]:
    """Run the wanted measurements and call `keep` with the figures after each.

    Returns the names of the measurements that failed.
    """
    found: dict[str, Any] = {"ratios": {}, "seconds": {}, "machine": figures.machine()}
    failed = []
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        speed = Speed(Path(folder), options)
        for name in MEASUREMENTS:
            if name not in wanted:
                continue
            try:
                for key, values in speed.run(name).items():
                    found[key] = {**found.get(key, {}), **values}
            except (RuntimeError, subprocess.CalledProcessError) as error:
                print(f"{name} failed: {error}")
                failed.append(name)
            found["minutes"] = (time.perf_counter() - started) / 60
            found["workers"] = speed.workers
            keep(found)
    return failed


def updated(stored: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Return stored figures with the costs of a later run, each marked with date and precision.

    A cost compares two sides of one process, so it can stand beside rows of another machine.
    """
    precision = next(iter(found["limit"].values()))["precision"]
    later = f"{found['machine']['date']}, {precision}"
    costs = {
        name: {**one, "later": later}
        for name, one in found["ratios"].items()
        if name in speed_page.COSTS
    }
    return {**stored, "ratios": {**stored["ratios"], **costs}}


def main() -> None:
    """Measure, store the figures, write the documents and pictures."""
    parser = make_parser("benchmarks.speed", __doc__)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=(*MEASUREMENTS, *GIVES),
        metavar="NAME",
        help=f"{', '.join(MEASUREMENTS)}, or the name of a ratio in {FIGURES.name}",
    )
    parser.add_argument("--json", type=Path, help=f"file for the figures; default {FIGURES.name}")
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    parser.add_argument(
        "--update", type=Path, metavar="JSON", help="take the rows on plain PyTorch from this file"
    )
    parser.add_argument("--compile", action="store_true", help="the lab's side with torch.compile")
    args = parser.parse_args()
    if args.compile and not args.json:
        parser.error("--compile needs --json: the documents show the figures without it")
    if args.draw or args.update:
        stored = figures.read(FIGURES)
        if args.update:
            stored = updated(stored, figures.read(args.update))
            figures.write(FIGURES, stored)
        print(speed_page.table(stored))
        speed_page.write(stored)
        return

    file = args.json or (FIGURES if args.only is None else None)
    measured: dict[str, Any] = {}

    def keep(found: dict) -> None:
        measured.update(found)
        if file:
            figures.write(file, found)

    wanted = {GIVES.get(name, name) for name in args.only or MEASUREMENTS}
    failed = measure_all(wanted, ["--compile", "yes"] if args.compile else [], keep)
    if file:
        print(f"written: {file}")
    print(speed_page.table(measured))
    if not failed and file == FIGURES:
        speed_page.write(measured)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

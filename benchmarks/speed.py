"""How fast the lab is: against the usual pipeline, known libraries, a bare loop, the machine.

    python -m benchmarks.speed                       everything: 15 minutes on 2 cores
    python -m benchmarks.speed --only grade_process  one measure
    python -m benchmarks.speed --json out.json       the figures into a file of their own
    python -m benchmarks.speed --draw                measure nothing; picture and README again

The sides of a comparison run in turn on the same machine, each in a process of its own, and each
round gives one ratio: the machine's drift is in both. A ratio above 1 says how many times as fast
this lab is; only trainer_over_bare_* are costs, ours over the other's. Figures without --json go
to benchmarks/speed.json, from there to the README and docs/speed.png.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from tqdm import tqdm

from benchmarks import growth, headline, speed_page
from benchmarks.commands import ROOT, machine, said, timed
from benchmarks.usual import PRED_STEP

FIGURES = ROOT / "benchmarks" / "speed.json"
SUBMISSIONS = {"mlp": "model.py", "conv": "zoo/conv_vae.py"}
# Epochs in each process, on every side; of the MLP the first does not count.
EPOCHS = {"mlp": 3, "conv": 1}
WARM_UP = {"mlp": 1, "conv": 0}
ROUNDS = 3
INFERENCE_ROUNDS = 5  # the usual pipeline's 11 000 files take as long as the disk has it
BARE = {"mlp": 11, "conv": 4}  # epochs beside the bare loop, of which the first does not count
LIBRARIES = ("pythae", "lightning")


def in_turn(
    sides: dict[str, Callable[[], dict]], rounds: int = ROUNDS, about: str = ""
) -> list[dict[str, dict]]:
    """Run the sides in turn, the order reversed each round; return what each said, by round."""
    results = []
    with tqdm(total=rounds * len(sides), desc=about, unit="run") as bar:
        for number in range(rounds):
            names = list(sides) if number % 2 else list(sides)[::-1]  # none is always the first
            found = {}
            for name in names:
                found[name] = sides[name]()
                bar.update()
            results.append(found)
    return results


def summary(values: list[float]) -> dict:
    """Return median, range and number."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "n": len(values),
    }


def compared(ours: list[float], theirs: list[float]) -> dict:
    """Return how many times as much theirs is, round by round, and the medians of both."""
    medians = {"ours": statistics.median(ours), "theirs": statistics.median(theirs)}
    return {**summary([other / own for own, other in zip(ours, theirs)]), **medians}


class Speed:
    """The measures, by name; each returns the ratios and seconds that it found.

    Attributes:
        folder: for what they leave behind; Arrow files and runs are made once.
        options: more options of train.py for our side.
    """

    def __init__(self, folder: Path, options: list[str]) -> None:
        self.folder, self.options = folder, options
        self.workers: int | None = None  # of the usual pipeline, once it is known how many
        self.usual_outputs: Path | None = None  # of its last inference

    # ------------------------------------------------------------ what several measures need

    def arrow(self, split: str) -> Path:
        """Return a split as an Arrow file."""
        file = self.folder / f"{split}.arrow"
        if not file.exists():
            timed(sys.executable, "-m", "benchmarks.usual", "arrow", f"dataset/{split}", file)
        return file

    def usual_train(self, model: str, epochs: int | None = None) -> dict:
        """Train in the usual pipeline; the last one's weights are kept."""
        words = ["-m", "benchmarks.usual", "train", SUBMISSIONS[model]]
        words += ["--epochs", epochs or EPOCHS[model]]
        words += ["--train", self.arrow("train"), "--valid", self.arrow("valid")]
        words += ["--workers", self.workers or 0]
        return said(*words, "--out", self.folder / f"usual-{model}.pth")

    def better_workers(self) -> int:
        """Return how many processes should decode in the usual pipeline: what is quicker here."""
        seconds = {}
        for self.workers in (0, 2):
            seconds[self.workers] = self.usual_train("mlp", epochs=1)["epochs"][0]
        return min(seconds, key=seconds.get)

    def our_train(self, model: str, *more: object) -> dict:
        """Train in this lab; the last run is kept."""
        words = ["-m", "benchmarks.ours", "train", "--overwrite"]
        words += ["--submission", SUBMISSIONS[model]]
        epochs = EPOCHS[model] + self.warm_up(model, "ours") - WARM_UP[model]
        words += ["--epochs", epochs, "--save_dir", self.folder / f"ours-{model}"]
        return said(*words, *self.options, *more)

    def trained(self, model: str) -> tuple[Path, Path]:
        """Return a checkpoint of ours and one of the usual pipeline."""
        ours = self.folder / f"ours-{model}" / "best.pth"
        theirs = self.folder / f"usual-{model}.pth"
        if not ours.exists():
            self.our_train(model)
        if not theirs.exists():
            self.usual_train(model)
        return ours, theirs

    def inferred(self) -> tuple[Path, Path]:
        """Return folders of outputs: those of ours and those of the usual pipeline."""
        if self.usual_outputs is None:
            self.our_inference()
            self.usual_inference()
        return self.folder / "ours-outputs", self.usual_outputs

    def our_inference(self) -> dict:
        """Infer in this lab: seconds of the work, and of the whole process."""
        words = ["--checkpoint_path", self.trained("conv")[0], "--data_path", "dataset/test"]
        words += ["--save_dir", self.folder / "ours-outputs"]
        process = timed(sys.executable, "inference.py", *words, quiet=True)
        return {**said("-m", "benchmarks.ours", "infer", *words), "process": process}

    def usual_inference(self) -> dict:
        """Infer in the usual pipeline, into a new folder; that of before stays till the end.

        To remove 11 000 files may keep a disk so busy that the next ones take twice as long.
        """
        self.usual_outputs = Path(tempfile.mkdtemp(prefix="usual-outputs-", dir=self.folder))
        words = [SUBMISSIONS["conv"], "--data", self.arrow("test"), "--out", self.usual_outputs]
        words += ["--checkpoint", self.trained("conv")[1]]  # more processes only make it slower
        started = time.perf_counter()
        inside = said("-m", "benchmarks.usual", "infer", *words)
        return {**inside, "process": time.perf_counter() - started}

    # ------------------------------------------------------------ the measures

    def epochs(self, model: str) -> dict:
        """Epochs of the usual pipeline and of known libraries over ours."""
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
        rounds = in_turn(sides, about=f"epochs, {model}")
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
        """Return what trains in a known library."""
        words = ["-m", "benchmarks.libraries", name, SUBMISSIONS[model], "--epochs", EPOCHS[model]]
        return lambda: said(*words)

    def seconds(self, rounds: list[dict], side: str, key: str, model: str) -> list[float]:
        """Return the median epoch of each round, of those that count."""
        first = self.warm_up(model, side)
        return [statistics.median(one[side][key][first:]) for one in rounds]

    def warm_up(self, model: str, side: str) -> int:
        """Return how many epochs of a side do not count; what compiles does so in its first."""
        compiles = side in ("ours", "as_often", "fp32") and self.options
        return max(WARM_UP[model], int(bool(compiles)))

    def bare(self, model: str) -> dict:
        """Epochs of the Trainer over those of a bare loop, and the machine's limit."""
        found = said("-m", "benchmarks.bare_loop", SUBMISSIONS[model], "--epochs", BARE[model])
        trainer, bare = zip(*found["pairs"])
        achieved = found["flops"] / statistics.median(trainer)
        facts = {key: found[key] for key in ("device", "precision", "flops")}
        limit = {"achieved": achieved, "peak": found["peak"], "share": achieved / found["peak"]}
        cost = summary([t / b for t, b in found["pairs"]])
        cost |= {"ours": statistics.median(trainer), "theirs": statistics.median(bare)}
        return {
            "ratios": {f"trainer_over_bare_{model}": cost},
            "limit": {model: facts | limit},
        }

    def inference(self) -> dict:
        """10 000 reconstructions and 1 000 samples, with and without the start of Python."""
        self.trained("conv")
        sides = {"ours": self.our_inference, "usual": self.usual_inference}
        rounds = in_turn(sides, INFERENCE_ROUNDS, "inference")
        return _both(rounds, {"inference": "seconds", "inference_process": "process"})

    def grade(self) -> dict:
        """10 000 reconstructions scored: whole processes."""
        ours, theirs = self.inferred()
        words = ["--no-Genwithlabel", "--VAEwolabel_output_dir", ours]
        words += ["--test_data_path", "dataset/test", "--output", self.folder / "grade.json"]
        usual = ["-m", "benchmarks.usual", "grade", "--data", self.arrow("test")]
        usual += ["--outputs", theirs, "--no-samples"]
        rounds = in_turn(
            {
                "ours": lambda: {"process": timed(sys.executable, "grade.py", *words, quiet=True)},
                "usual": lambda: {"process": timed(sys.executable, *usual, quiet=True)},
            },
            about="grade",
        )
        return _both(rounds, {"grade_process": "process"})

    def headline(self) -> dict:
        """Seconds to the reports' best scores."""
        return headline.measure(self.folder, summary)

    def growth(self) -> dict:
        """Seconds and memory against what grows."""
        return {"growth": growth.measure(self.folder)}

    def measures(self) -> dict[str, Callable[[], dict]]:
        """Return every measure by its name."""
        found: dict[str, Callable[[], dict]] = {}
        for model in SUBMISSIONS:
            found[f"epochs_{model}"] = lambda model=model: self.epochs(model)
            found[f"bare_{model}"] = lambda model=model: self.bare(model)
        return found | {
            "inference": self.inference,
            "grade": self.grade,
            "headline": self.headline,
            "growth": self.growth,
        }


# Which measure gives a ratio: --only takes the names of both.
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


def _both(rounds: list[dict[str, dict]], names: dict[str, str]) -> dict:
    """Return the ratios of two sides, by the key that each side said."""
    sides = {
        name: [[one[side][key] for one in rounds] for side in ("ours", "usual")]
        for name, key in names.items()
    }
    return {"ratios": {name: compared(*pair) for name, pair in sides.items()}}


def measure_all(wanted: set[str], options: list[str], keep: Callable[[dict], None]) -> list[str]:
    """Measure what is wanted, hand the figures to `keep` after each; return what failed."""
    figures: dict[str, dict] = {"ratios": {}, "seconds": {}, "machine": machine()}
    failed = []
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        speed = Speed(Path(folder), options)
        for name, measure in speed.measures().items():
            if name not in wanted:
                continue
            try:
                for key, found in measure().items():
                    figures[key] = {**figures.get(key, {}), **found}
            except (RuntimeError, subprocess.CalledProcessError) as error:
                print(f"{name} failed: {error}")
                failed.append(name)
            figures["minutes"] = (time.perf_counter() - started) / 60
            figures["workers"] = speed.workers
            keep(figures)
    return failed


def main() -> None:
    """Measure what is asked for, store the figures, write the README's block and picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = list(Speed(Path(), []).measures())
    parser.add_argument(
        "--only", nargs="+", choices=(*names, *GIVES), metavar="NAME", help=", ".join(names)
    )
    parser.add_argument("--json", type=Path, help=f"where the figures go (default {FIGURES.name})")
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    parser.add_argument("--compile", action="store_true", help="our side with torch.compile")
    args = parser.parse_args()
    if args.compile and not args.json:
        parser.error("--compile needs --json: the README's figures are those without it")
    failed: list[str] = []
    file = args.json or (FIGURES if args.only is None else None)
    figures = json.loads(FIGURES.read_text(encoding="utf-8")) if args.draw else {}
    if not args.draw:
        wanted = {GIVES.get(name, name) for name in args.only or names}

        def keep(found: dict) -> None:
            figures.update(found)
            if file:
                file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")

        failed = measure_all(wanted, ["--compile", "yes"] if args.compile else [], keep)
        if file:
            print(f"written: {file}")
    print(speed_page.table(figures))
    if not failed and (args.draw or file == FIGURES):
        speed_page.write(figures)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

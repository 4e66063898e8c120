"""What each choice in zoo/record.py is worth, and what did not help: trainings of 5 epochs.

    python -m benchmarks.ablation            the runs that have no result yet: 70 minutes on 2 cores
    python -m benchmarks.ablation --report   run nothing; write zoo/README.md from stored figures

Each row changes one choice, by options of train.py or of the class in benchmarks/ablated.py.
Each result is stored in benchmarks/ablation.json when its run is done.
"""

from __future__ import annotations

from benchmarks import figures
from benchmarks.commands import make_parser
from benchmarks.markdown import put_blocks
from benchmarks.stored_runs import Results, missing, run_missing
from benchmarks.zoo import SEEDS, command_of
from lab import ROOT

FIGURES = ROOT / "benchmarks" / "ablation.json"
PAGE = ROOT / "zoo" / "README.md"
EPOCHS = 5
# In 5 epochs of 390 steps, images are shifted as long as in the record's command, about 70 % of the
# steps, and the flow is fitted for a shorter time; that changes the samples alone.
SHORTER = "flow_epochs=2,shifted_steps=1350"
DIGITS = {"ssim": 4, "mse": 5, "fid": 3, "raw": 2}
# What a row changes: options of the class, and options of train.py.
LARGER_BATCHES = {"--batch_size": "256", "--lr": "5e-3"}
ROWS: dict[str, tuple[str, dict[str, str]]] = {
    "none": ("", {}),
    "no refinement of the codes": ("refinements=0", {}),
    "4 steps of refinement instead of 16": ("refinements=4", {}),
    "encoder 512 wide instead of 1024": ("encoder_width=512", {}),
    "one convolution of 7x7 maps instead of two": ("decoder_convolutions=1", {}),
    "batches of 256 instead of 128, lr 5e-3": ("shifted_steps=675", LARGER_BATCHES),
    "Adam with beta2 0.999 instead of 0.98": ("beta2=0.999", {}),
    "no shifts": ("shifted_steps=0", {}),
    "shifts to the end": ("shifted_steps=1950", {}),
    "a Gaussian per label instead of the flow": ("flow_epochs=0", {}),
    "the flow fitted for 16 epochs instead of 2": ("flow_epochs=16", {}),
    "not kept: a convolutional encoder": ("convolutional_encoder=True", {}),
    "not kept: a residual block of dense layers in encoder and decoder": ("blocks=1", {}),
    "not kept: Muon for the dense matrices": ("muon=True", {}),
    "not kept: var 0.004 instead of 0.01": ("", {"--var": "0.004"}),
    "not kept: var falls from 0.1 to 0.01 in four epochs": ("anneal_until=1560", {}),
    "not kept: latent_dim 16 instead of 20": ("", {"--latent_dim": "16"}),
    "not kept: latent_dim 24": ("", {"--latent_dim": "24"}),
}


def command(label: str, seed: int) -> tuple[str, ...]:
    """Return the options of train.py of a run, as a list of words."""
    variant, options = ROWS[label]
    words = command_of("record")
    changed = {
        "--submission": "benchmarks/ablated.py",
        "--epochs": str(EPOCHS),
        **options,
        "--variant": ",".join(filter(None, [SHORTER, variant])),
        "--seed": str(seed),
    }
    for option, value in changed.items():
        if option in words:
            words[words.index(option) + 1] = value
        else:
            words += [option, value]
    return tuple(words)


def wanted() -> list[tuple[str, ...]]:
    """Return the options of all runs; the first seed of every row comes first."""
    return [command(label, seed) for seed in SEEDS for label in ROWS]


def compared_seeds(results: Results) -> list[int]:
    """Return the seeds that all rows have: chance is the same in all rows, and their order fair."""
    return [seed for seed in SEEDS if not missing([command(row, seed) for row in ROWS], results)]


def render(results: Results) -> str:
    """Return the block `ablation`: the rows that have been run, with their scores over seeds."""
    seeds = compared_seeds(results) or SEEDS[:1]
    head = ["change", *DIGITS]
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for label in ROWS:
        keys = [" ".join(command(label, seed)) for seed in seeds]
        found = [results[key] for key in keys if key in results]
        if found:
            # A training that stopped has no scores.
            columns = {name: [row.get(name) for row in found] for name in DIGITS}
            cells = [figures.mean_and_spread(columns[name], n) for name, n in DIGITS.items()]
            lines.append(f"| {' | '.join([label, *cells])} |")
    lines += [
        "",
        f"Mean ± standard deviation on the test split, n = {len(seeds)} (seed "
        f"{', '.join(map(str, seeds))}): `python train.py "
        f"{' '.join(command('none', SEEDS[0])[:-2])}`. "
        "Written by `python -m benchmarks.ablation`.",
    ]
    return "\n".join(lines) + "\n"


def write_page(results: Results) -> None:
    """Write the block of zoo/README.md."""
    put_blocks(PAGE, {"ablation": render(results)})


def main() -> None:
    """Run what is missing, store each result, write the table."""
    parser = make_parser("benchmarks.ablation", __doc__)
    parser.add_argument("--report", action="store_true", help="run nothing")
    args = parser.parse_args()
    if not args.report:
        run_missing(wanted(), FIGURES, write_page)
    write_page(figures.stored(FIGURES))
    print(f"written: {PAGE}")


if __name__ == "__main__":
    main()

"""The tables of the original reports, row by row, with the options of train.py that repeat them."""

from __future__ import annotations

from dataclasses import dataclass, field

Scores = dict[str, float]
PICTURES: Scores = {}  # the report shows pictures only


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        label: the value in the first column.
        options: the options of train.py of this row alone.
        report: the scores that the report gives, or a word that says how its training failed.
    """

    label: str
    options: str = ""
    report: Scores | str = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether the report's training failed."""
        return isinstance(self.report, str)

    @property
    def scores(self) -> Scores:
        """The report's scores; {} if it gives none."""
        return self.report if isinstance(self.report, dict) else {}


@dataclass(frozen=True)
class Table:
    """A table of the reports over the values of one option; the other options are equal.

    Attributes:
        title: the heading in docs/results.md.
        submission: the file in zoo/, without .py.
        varied: what the first column shows.
        rows: see `Row`.
        options: the options of train.py of all rows.
        epochs: the length of the report's own training.
        task: "VAEwolabel" or "Genwithlabel".
    """

    title: str
    submission: str
    varied: str
    rows: tuple[Row, ...]
    options: str = ""
    epochs: int = 50
    task: str = "VAEwolabel"

    @property
    def shared(self) -> str:
        """The options of train.py that all rows have."""
        task = f"--task {self.task} --submission zoo/{self.submission}.py --epochs {self.epochs}"
        return f"{task} {self.options}".strip()

    def command(self, row: Row) -> tuple[str, ...]:
        """Return the options of train.py that train a row, as a list of words."""
        return tuple(f"{self.shared} {row.options} --seed 42".split())


def _vae(ssim: float, mse: float) -> Scores:
    return {"ssim": ssim, "mse": mse}


def _gen(ssim: float, mse: float, fid: float, raw: float | None = None) -> Scores:
    scores = {"ssim": ssim, "mse": mse, "fid": fid}
    return scores if raw is None else scores | {"raw": raw}


def _pictures(options: str, *values: object) -> tuple[Row, ...]:
    """Return rows without scores; `{}` in the options stands for the value."""
    return tuple(Row(f"{value}", options.format(value), PICTURES) for value in values)


BASE = _vae(0.7854, 0.01890)  # var 0.5, three layers, latent_dim 20, batch_size 1024, lr 5e-3
LOW_RATE = _gen(0.8632, 0.01215, 2.583)
HEADLINE = _gen(0.8591, 0.01253, 2.412, 29.276)
TABLES = (
    Table(
        "Convolutional VAE: var",
        "conv_vae",
        "var",
        (
            Row("0.5", "", BASE),
            Row("0.25", "--var 0.25", _vae(0.8504, 0.01335)),
            Row("0.22", "--var 0.22", _vae(0.8551, 0.01275)),
            Row("0.2", "--var 0.2", "exploded"),
        ),
    ),
    Table(
        "Convolutional VAE: depth and attention, var 0.5",
        "conv_vae",
        "layers",
        (
            Row("0", "--variant depth=0", _vae(0.7390, 0.0225)),
            Row("2", "--variant depth=2", _vae(0.7774, 0.0198)),
            Row("3", "", BASE),
            Row("4", "--variant depth=4", "collapsed"),
            Row("3, attention", "--variant attention=True", _vae(0.7713, 0.0201)),
        ),
    ),
    Table(
        "Convolutional VAE: latent_dim, var 0.5",
        "conv_vae",
        "latent_dim",
        (
            Row("10", "--latent_dim 10", _vae(0.7823, 0.0192)),
            Row("20", "", BASE),
            Row("30", "--latent_dim 30", _vae(0.7792, 0.0193)),
        ),
    ),
    Table(
        "Convolutional VAE: batch_size, var 0.5",
        "conv_vae",
        "batch_size",
        (
            Row("512", "--batch_size 512", "unstable"),
            Row("1024", "", BASE),
            Row("2048", "--batch_size 2048", _vae(0.7342, 0.0241)),
        ),
    ),
    Table(
        "Convolutional VAE: lr, var 0.5",
        "conv_vae",
        "lr",
        (
            Row("0.001", "--lr 0.001", _vae(0.7824, 0.1120)),
            Row("0.005", "", BASE),
            Row("0.006", "--lr 0.006", _vae(0.7810, 0.0193)),
        ),
    ),
    Table(
        "Convolutional CVAE: layers, var 0.25",
        "conv_cvae",
        "layers",
        (
            Row("2", "--variant depth=2", _gen(0.8592, 0.01259, 3.018)),
            Row("3", "", HEADLINE),
            Row("4", "--variant depth=4", "exploded"),
        ),
        options="--var 0.25",
        task="Genwithlabel",
    ),
    Table(
        "Convolutional CVAE: latent_dim, var 0.25",
        "conv_cvae",
        "latent_dim",
        (
            Row("10", "--latent_dim 10", _gen(0.8471, 0.01352, 2.288)),
            Row("20", "", HEADLINE),
            Row("30", "--latent_dim 30", "exploded"),
        ),
        options="--var 0.25",
        task="Genwithlabel",
    ),
    Table(
        "Convolutional CVAE: lr, var 0.25",
        "conv_cvae",
        "lr",
        (
            Row("0.002", "--lr 0.002", LOW_RATE),
            Row("0.005", "", HEADLINE),
            Row("0.006", "--lr 0.006", _gen(0.8546, 0.01281, 2.458)),
        ),
        options="--var 0.25",
        task="Genwithlabel",
    ),
    Table(
        "Convolutional CVAE of another class: latent 24, var 0.01, lr 2e-3, batch 512",
        "conv_cvae",
        "layers",
        (Row("2", "--variant depth=2", _gen(0.8824, 0.01037, 3.431, 28.48)),),
        options="--latent_dim 24 --var 0.01 --lr 2e-3 --batch_size 512",
        epochs=70,
        task="Genwithlabel",
    ),
    Table(
        "AE as an MLP: hidden size",
        "mlp_ae",
        "hidden",
        _pictures("--variant hidden={}", 128, 256, 512),
        options="--latent_dim 10 --batch_size 100 --lr 1e-3",
        epochs=30,
    ),
    Table(
        "VAE as an MLP: hidden size",
        "mlp_vae",
        "hidden",
        _pictures("--variant hidden={} --lr 1e-2", 60, 120, 240),
        options="--latent_dim 10 --batch_size 100",
        epochs=30,
    ),
    Table(
        "VAE as an MLP: lr",
        "mlp_vae",
        "lr",
        _pictures("--variant hidden=120 --lr {}", "1e-3", "3e-3", "1e-2"),
        options="--latent_dim 10 --batch_size 100",
        epochs=30,
    ),
    Table(
        "CVAE as MLPs: hidden size",
        "mlp_cvae",
        "hidden",
        _pictures("--variant hidden={} --lr 1e-2", 100, 200, 400),
        options="--latent_dim 10 --batch_size 100",
        epochs=30,
        task="Genwithlabel",
    ),
    Table(
        "CVAE as MLPs: lr",
        "mlp_cvae",
        "lr",
        _pictures("--variant hidden=200 --lr {}", "1e-3", "3e-3", "1e-2"),
        options="--latent_dim 10 --batch_size 100",
        epochs=30,
        task="Genwithlabel",
    ),
    Table(
        "beta-VAE: beta, at the report's lr of 1e-5",
        "beta_vae",
        "beta",
        _pictures("--variant beta={}", "0", "0.03", "0.05", "0.1", "0.12", "1"),
        options="--batch_size 128 --lr 1e-5 --lr_schedule constant",
        epochs=100,
    ),
    Table(
        "beta-VAE: beta, at lr 1e-3",
        "beta_vae",
        "beta",
        _pictures("--variant beta={}", "0", "0.03", "0.05", "0.1", "0.12", "1"),
        options="--batch_size 128 --lr 1e-3",
        epochs=100,
    ),
    Table(
        "WGAN",
        "wgan",
        "epochs",
        (Row("200", "", PICTURES),),
        options="--batch_size 128 --lr 2e-4 --lr_schedule constant",
        epochs=200,
        task="Genwithlabel",
    ),
)
# Some of the rows without what the lab adds: warm-up, decay of the rate, clipping; initial weights.
PLAIN = "--lr_schedule constant --grad_clip 0"
CONTROLS = (
    Table(
        "Convolutional VAE, constant rate and no clipping, var 0.5",
        "conv_vae",
        "row",
        (
            Row("3 layers, batch_size 1024", "", BASE),
            Row("var 0.2", "--var 0.2", "exploded"),
            Row("4 layers", "--variant depth=4", "collapsed"),
            Row(
                "4 layers, PyTorch's initial weights",
                "--variant depth=4,kaiming=False",
                "collapsed",
            ),
            Row("batch_size 512", "--batch_size 512", "unstable"),
        ),
        options=PLAIN,
    ),
    Table(
        "Convolutional CVAE, constant rate and no clipping, var 0.25",
        "conv_cvae",
        "row",
        (
            Row("3 layers, latent_dim 20, lr 0.005", "", HEADLINE),
            Row("4 layers", "--variant depth=4", "exploded"),
            Row("latent_dim 30", "--latent_dim 30", "exploded"),
            Row("lr 0.002", "--lr 0.002", LOW_RATE),
        ),
        options=f"--var 0.25 {PLAIN}",
        task="Genwithlabel",
    ),
)

"""Train the model of a task on MNIST."""

from __future__ import annotations

import argparse
import functools
import hashlib
import io
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import command
from lab.imports import end_with_python, import_compiler_later, quick_imports
from lab.settings import Settings, SettingsError

if TYPE_CHECKING:
    from lab.callbacks import Callback
    from trainer import Trainer

EXAMPLES = """examples:
  python train.py                                     the VAE, with every default
  python train.py --task Genwithlabel --var 0.25      the conditional model
  python train.py --submission model.py --video       the demo model, with a video of its training
  python train.py --load_from_checkpoint              go on where Ctrl-C stopped it
  python train.py --load_from_checkpoint --epochs 30  go on for longer
"""

# Options that belong to the run, beside the knobs of Settings: a resumed run keeps them.
RUN_OPTIONS = ("task", "latent_dim", "variant", "train_data", "valid_data")
# ... but these may change, for they do not change what was trained so far.
FREE_ON_RESUME = ("epochs", "train_data", "valid_data", "device", "compile")
FREE_ON_RESUME += ("pred_step", "eval_num")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of train.py; the knobs of Settings are its second group."""
    parser = command.make_parser(__doc__, EXAMPLES)
    on_off = argparse.BooleanOptionalAction
    add_options(parser)
    run = parser.add_argument_group("its folder")
    run.add_argument("--save_dir", type=Path, help="the run's own folder; runs/TASK if not given")
    run.add_argument("--overwrite", action="store_true", help="replace the run in --save_dir")
    run.add_argument(
        "--load_from_checkpoint", action="store_true", help="go on from the run's newest checkpoint"
    )
    run.add_argument("--checkpoint", type=Path, help="go on from this checkpoint")
    run.add_argument("--show_loss_plot", action=on_off, default=False, help="open the loss curve")
    run.add_argument("--save_loss_plot", action=on_off, default=True, help="write loss_curve.png")
    run.add_argument("--video", action=on_off, default=False, help="write training.gif")
    return parser


def add_options(parser: argparse.ArgumentParser, nargs: str | None = None) -> None:
    """Add what decides a run's figures: what is trained on what, and the knobs of Settings.

    A sweep takes several values of each, with `nargs` "+".
    """
    run = parser.add_argument_group("what to train")
    add = functools.partial(run.add_argument, nargs=nargs)
    add("--task", default="VAEwolabel", choices=("VAEwolabel", "Genwithlabel"), help="which model")
    add("--submission", type=Path, default=Path("submission.py"), help="file to train")
    add("--latent_dim", type=int, default=20, help="width of a code, 1 to 784")
    add("--variant", default="", help="options of the model's class: depth=4,attention=True")
    add("--train_data", type=Path, default=Path("dataset/train"), help="dataset")
    add("--valid_data", type=Path, default=Path("dataset/valid"), help="dataset")
    knobs = parser.add_argument_group("the knobs, and when to change them")
    for knob in fields(Settings):
        knobs.add_argument(
            f"--{knob.name}",
            type=type(knob.default),
            default=knob.default,
            choices=knob.metadata["choices"],
            help=knob.metadata["help"],
            nargs=nargs,
        )


def train(
    options: dict[str, Any],
    state: dict | None = None,
    stop: threading.Event | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
) -> bool:
    """Train as the options of `make_parser` say, from the checkpoint `state` if given.

    A sweep gives a `stop` of its own and more callbacks, and has no use for a bar a run.
    Returns whether the run is complete; False after a Ctrl-C, when its state is saved.
    Raises SettingsError, DataError, ContractError, CheckpointError, TrainingError, OSError.
    """
    settings = Settings(**{knob.name: options[knob.name] for knob in fields(Settings)})
    # torch takes seconds to import; --help and a mistyped option do not wait for it.
    import torch

    from data_utils import MNISTDataset, set_seed
    from lab.contract import Submission
    from lab.device import keep_freed_memory, pick_device
    from lab.run_folder import RunFolder
    from trainer import Trainer, TrainingError

    train_set = MNISTDataset(options["train_data"])
    valid_set = MNISTDataset(options["valid_data"])
    device = pick_device(settings.device)
    keep_freed_memory()
    if settings.compile == "no":
        import_compiler_later()
    set_seed(settings.seed)
    which = (options[name] for name in ("submission", "task", "latent_dim", "variant"))
    submission = Submission(*which)
    submission.check(device)

    code = submission.path.read_bytes()
    facts = {name: command.plain(options[name]) for name in (*RUN_OPTIONS, "submission")}
    facts |= {"settings": asdict(settings), "submission_sha256": hashlib.sha256(code).hexdigest()}
    folder = RunFolder(
        options["save_dir"], facts, valid_set, options["save_loss_plot"], options["video"]
    )
    going_on = _goes_on_in(options, state)
    folder.claim(going_on, options["overwrite"])

    trainer = Trainer(
        submission, settings, train_set, valid_set, [folder, *callbacks], folder.say, progress
    )
    if state is not None:
        _load_state(trainer, state)
    # Nothing of an earlier run is touched before this line, by which all is known to be well.
    if options["overwrite"] and not going_on:
        folder.clear()
    parameters = sum(p.numel() for p in trainer.parameters)
    folder.start(code, parameters)
    if state is not None and not going_on:
        folder.adopt(state)
    folder.say(
        f"{submission.class_name} of {submission.path}: {parameters:,} parameters, "
        f"{len(train_set):,} images, {trainer.device} in {'bf16' if trainer.bf16 else 'fp32'}"
    )
    if state is not None:
        folder.say(f"going on after epoch {trainer.epoch}, step {trainer.step}")
    try:
        with submission.explained("training", only_theirs=True):
            complete = trainer.fit(stop)
    except torch.OutOfMemoryError:
        raise TrainingError(
            f"{trainer.device} has too little memory for a --batch_size of "
            f"{settings.batch_size}; try half of it."
        ) from None
    if options["show_loss_plot"]:
        _show_loss_plot(trainer.history)
    return complete


def resume(options: dict[str, Any], given: set[str]) -> dict:
    """Return the checkpoint to go on from; fill `options` in from it.

    Options that the user typed (`given`) must agree with it. Raises SettingsError.
    """
    from lab import checkpoint
    from lab.contract import submission_file

    path = options["checkpoint"] or checkpoint.newest(options["save_dir"])
    state = checkpoint.load(path)
    if "settings" not in state:
        raise SettingsError(
            f"{path} is of the older layout, which does not hold what resume needs."
        )
    saved = {**state["settings"], **{name: state[name] for name in RUN_OPTIONS if name in state}}
    for name, value in saved.items():
        if name not in given:
            options[name] = type(options[name])(value)
        elif name not in FREE_ON_RESUME and command.plain(options[name]) != value:
            raise SettingsError(
                f"{path} was trained with --{name} {value}, not {options[name]}; "
                f"leave --{name} out, or begin a new run in another --save_dir."
            )
    if "save_dir" not in given:
        options["save_dir"] = path.parent
    if "submission" not in given:
        options["submission"] = submission_file(path, state)
    _refuse_other_code(options["submission"], path, state)
    return state


def _load_state(trainer: Trainer, state: dict) -> None:
    from lab.checkpoint import CheckpointError

    try:
        trainer.load_state_dict(state)
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"the checkpoint does not fit {trainer.submission.path} "
            f"({' '.join(str(error).split())[:120]}); begin a new run in another --save_dir."
        ) from None


def _refuse_other_code(file: Path, path: Path, state: dict) -> None:
    """Raise SettingsError unless the file is the one that the checkpoint was trained from."""
    if not file.is_file():
        return  # the contract says so in its own words
    if hashlib.sha256(file.read_bytes()).hexdigest() != state["submission_sha256"]:
        raise SettingsError(
            f"{file} is not the code that {path} was trained from; leave --submission out to go on "
            "with the run's own copy, or begin a new run in another --save_dir."
        )


def _goes_on_in(options: dict[str, Any], state: dict | None) -> bool:
    """Whether the run in --save_dir is the one that the checkpoint belongs to."""
    path = options["checkpoint"]
    here = path is None or path.parent.resolve() == options["save_dir"].resolve()
    return state is not None and here


def _show_loss_plot(history: list[dict]) -> None:
    from PIL import Image

    from lab import plots

    picture = io.BytesIO()
    plots.loss_curve(picture, history)
    Image.open(picture).show("loss curve")


def main() -> None:
    """Parse, train, say where things are."""
    parser = make_parser()
    options = vars(parser.parse_args())
    given = command.given_options(parser)
    options["save_dir"] = options["save_dir"] or Path("runs") / options["task"]

    with quick_imports():
        from data_utils import DataError
        from lab.checkpoint import CheckpointError, to_infer_from
        from lab.contract import ContractError
        from trainer import TrainingError
    end_with_python()

    errors = (SettingsError, CheckpointError, ContractError, DataError, TrainingError)
    with command.clear_errors(parser.prog, *errors):
        state = None
        if options["checkpoint"] or options["load_from_checkpoint"]:
            state = resume(options, given)
        complete = train(options, state)
    save_dir = options["save_dir"]
    if not complete:
        print(f"stopped and saved in {save_dir}; to go on:")
        print(f"  python train.py --load_from_checkpoint --save_dir {save_dir}")
        sys.exit(130)
    print(f"the run is in {save_dir}; next:")
    print(f"  python inference.py --checkpoint_path {to_infer_from(save_dir)}")


if __name__ == "__main__":
    main()

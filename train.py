"""Train the model of a task on MNIST."""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import command, deterministic
from lab.lock import FolderInUseError, only_one
from lab.metrics import TASKS
from lab.settings import Settings, SettingsError, add_options, option

if TYPE_CHECKING:
    from lab.callbacks import Callback
    from lab.checkpoint import CheckpointError
    from lab.run_folder import RunFolder
    from trainer import Trainer

EXAMPLES = """examples:
  python train.py                                     the VAE, in runs/VAEwolabel
  python train.py --task Genwithlabel --var 0.25      the conditional model, in runs/Genwithlabel
  python train.py --submission model.py --video --save_dir runs/example     the demo model
  python train.py --load_from_checkpoint              continue where Ctrl-C stopped it
  python train.py --load_from_checkpoint --epochs 30  continue for longer
"""

# A resumed run keeps these options, and those of Settings ...
RUN_OPTIONS = ("task", "latent_dim", "variant", "train_data", "valid_data", "deterministic")
# ... except these, which do not affect what was trained so far.
FREE_ON_RESUME = {
    *("epochs", "train_data", "valid_data", "pred_step", "eval_num"),
    *("device", "compile", "convolutions"),
}


@dataclass(frozen=True, kw_only=True)
class TrainOptions(Settings):
    """What to train, on which data, in which folder, with which settings."""

    task: str = option("VAEwolabel", "which model", TASKS)
    submission: Path = option(Path("submission.py"), "file to train", kind=Path)
    latent_dim: int = option(20, "width of a code, 1 to 784")
    variant: str = option("", "options of the model's class: depth=4,attention=True")
    train_data: Path = option(Path("dataset/train"), "training set", kind=Path)
    valid_data: Path = option(Path("dataset/valid"), "validation set", kind=Path)

    save_dir: Path | None = option(None, "the run's folder; runs/TASK if not given", kind=Path)
    overwrite: bool = option(False, "replace the run in --save_dir")
    load_from_checkpoint: bool = option(False, "continue from the run's newest checkpoint")
    checkpoint: Path | None = option(None, "continue from this checkpoint", kind=Path)
    show_loss_plot: bool = option(False, "open the loss curve")
    save_loss_plot: bool = option(True, "write loss_curve.png")
    video: bool = option(False, "write training.gif")
    tensorboard: bool = option(False, "also write the history for TensorBoard")
    deterministic: bool = option(
        False, "same bytes on every x86 machine, in fp32 with two threads; slower"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.deterministic and self.precision == "bf16":
            raise SettingsError(
                "--deterministic needs fp32, because not every processor computes bf16 alike; "
                "leave --precision out."
            )

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.save_dir or Path("runs") / self.task

    @property
    def settings(self) -> Settings:
        """The settings alone, as the Trainer takes them."""
        values = {field.name: getattr(self, field.name) for field in fields(Settings)}
        return Settings(**values | ({"precision": "fp32"} if self.deterministic else {}))


SETTINGS = fields(Settings)
SWEPT = {*RUN_OPTIONS, "submission"} - {"deterministic"}
WHAT = tuple(o for o in fields(TrainOptions) if o.name in SWEPT)
FOLDER = tuple(o for o in fields(TrainOptions) if o not in (*SETTINGS, *WHAT))


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of train.py."""
    parser = command.make_parser(__doc__, EXAMPLES)
    add_training_options(parser)
    add_options(parser.add_argument_group("the run's folder"), FOLDER)
    return parser


def add_training_options(parser: argparse.ArgumentParser, nargs: str | None = None) -> None:
    """Add the options that determine the scores of a run: model, data and settings.

    nargs: "+" allows several values per option, as in a sweep.
    """
    add_options(parser.add_argument_group("what to train"), WHAT, nargs)
    add_options(parser.add_argument_group("settings, and when to change them"), SETTINGS, nargs)


# ---------------------------------------------------------------- a run


def train(
    options: TrainOptions,
    state: dict[str, Any] | None = None,
    stop: threading.Event | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
    typed: str = "",
) -> bool:
    """Train as the options say, from the checkpoint `state` if given.

    Args:
        stop: once it is set, training stops at the next complete step; by default, Ctrl-C sets it.
        callbacks: called after the callback that writes the run's files.
        progress: whether to show the progress bar.
        typed: the command that the user typed, for train.log.

    Returns whether the run is complete. After a stop it returns False, and the state is saved.
    Raises SettingsError, DataError, ContractError, CheckpointError, TrainingError, OSError.
    """
    trainer, folder = _set_up(options, state, callbacks, progress)
    submission = trainer.submission
    if typed:
        folder.note(typed)
    folder.say(
        f"{submission.class_name} of {submission.path}: {trainer.parameter_count:,} parameters, "
        f"{len(trainer.batches.images):,} images, {trainer.device} in {trainer.precision.name}"
    )
    if state is not None:
        folder.say(f"continuing after epoch {trainer.state.epoch}, step {trainer.state.step}")
        if _was_edited(options.submission, state):
            folder.say(
                f"{state['submission']} was edited since this run began; the run continues with "
                f"the code it began with, {options.submission}"
            )
    complete = fit(trainer, stop, resumed=state is not None)
    if complete:
        folder.say(f"training took {trainer.state.seconds:.1f} s, without validation")
    if options.show_loss_plot:
        _show_loss_plot(trainer.state.history)
    return complete


def fit(trainer: Trainer, stop: threading.Event | None, resumed: bool) -> bool:
    """Run the Trainer, and explain an exception. Raises ContractError, TrainingError, OSError.

    resumed: an optimizer checks its state from a checkpoint only when it uses it, so an exception
        in the first step is a CheckpointError.
    """
    import torch

    from lab.loading import ContractError
    from lab.recovery import TrainingError

    start = trainer.state.step
    try:
        with trainer.submission.explained("training", only_theirs=True):
            return trainer.fit(stop)
    except torch.OutOfMemoryError:
        raise TrainingError(
            f"{trainer.device} has too little memory for a --batch_size of "
            f"{trainer.settings.batch_size}; try half of it."
        ) from None
    except (ContractError, TrainingError, OSError):
        raise
    except Exception as error:
        if resumed and trainer.state.step == start:
            raise _does_not_fit(trainer, error) from error
        raise


def _set_up(
    options: TrainOptions,
    state: dict[str, Any] | None,
    callbacks: Sequence[Callback],
    progress: bool,
) -> tuple[Trainer, RunFolder]:
    """Check everything, then start the run's folder; return the Trainer, ready to fit."""
    from data_utils import MNISTDataset, set_seed
    from lab.code_digest import code_digest
    from lab.contract import check_contract
    from lab.device import keep_freed_memory, pick_device
    from lab.run_folder import RunFolder
    from lab.split_model import Submission
    from lab.tensorboard import TensorBoard
    from trainer import Trainer

    settings = options.settings
    train_set, valid_set = MNISTDataset(options.train_data), MNISTDataset(options.valid_data)
    device = pick_device(settings.device)
    keep_freed_memory()
    set_seed(settings.seed)
    submission = Submission(options.submission, options.task, options.latent_dim, options.variant)
    check_contract(submission, device)

    code = submission.path.read_bytes()
    facts = {name: command.plain(getattr(options, name)) for name in (*RUN_OPTIONS, "submission")}
    facts |= {"settings": asdict(settings), "submission_sha256": hashlib.sha256(code).hexdigest()}
    facts["code_sha256"] = code_digest(code)
    facts["train_sha256"] = train_set.sha256
    if state is not None:  # the file that was given first, not the run's own copy
        facts["submission"] = state.get("submission", facts["submission"])
    folder = RunFolder(options.folder, facts, valid_set, options.save_loss_plot, options.video)
    resuming = _resumes_in_place(options, state)
    folder.claim(resuming, options.overwrite)
    every: list[Callback] = [folder, *callbacks]
    if options.tensorboard:
        every.append(TensorBoard(options.folder))
    trainer = Trainer(submission, settings, train_set, valid_set, every, folder.say, progress)
    trainer.prepare()
    if state is not None:
        _refuse_other_data(options.train_data, facts["train_sha256"], state)
        _load_state(trainer, state)
    # Everything above may fail, so an earlier run is not changed before this line.
    if options.overwrite and not resuming:
        folder.clear()
    folder.start(code, trainer.parameter_count)
    if state is not None and not resuming:
        folder.adopt(state)
    return trainer, folder


def _show_loss_plot(history: list[dict[str, Any]]) -> None:
    from PIL import Image

    from lab import plots

    picture = io.BytesIO()
    plots.loss_curve(picture, history)
    Image.open(picture).show("loss curve")


# ---------------------------------------------------------------- resume


def resume(options: TrainOptions, given: set[str]) -> tuple[TrainOptions, dict[str, Any]]:
    """Return the options completed from the checkpoint to continue from, and the checkpoint.

    given: names of the options that the user typed; they must agree with the checkpoint.
    Raises SettingsError, CheckpointError, ContractError.
    """
    from data_utils import one_line
    from lab import checkpoint
    from lab.loading import submission_file

    path = options.checkpoint or checkpoint.newest(options.folder)
    state = checkpoint.load(path)
    if "settings" not in state:
        raise SettingsError(
            f"{path} is an older checkpoint, which does not contain what resuming needs; "
            "start a new run in another --save_dir."
        )
    saved = {**state["settings"], **{name: state[name] for name in RUN_OPTIONS if name in state}}
    if saved.get("deterministic") and not options.deterministic:
        raise SettingsError(
            f"{path} was trained with --deterministic; add it, or start a new run in another "
            "--save_dir."
        )
    taken: dict[str, Any] = {}
    for name, value in saved.items():
        asked: Any = getattr(options, name, None)
        if not hasattr(options, name) or type(value) is not type(command.plain(asked)):
            raise checkpoint.CheckpointError(
                f"{path} states the option {one_line(name)} as {one_line(value)}, which is not "
                "one of this lab; start a new run in another --save_dir."
            )
        if name not in given:
            taken[name] = value if value is None else type(asked)(value)
        elif name not in FREE_ON_RESUME and command.plain(asked) != value:
            raise SettingsError(
                f"{path} was trained with --{name} {value}, not {asked}; "
                f"leave --{name} out, or start a new run in another --save_dir."
            )
    if "save_dir" not in given:
        taken["save_dir"] = path.parent
    if "submission" not in given:
        taken["submission"] = submission_file(path, state)
    options = replace(options, **taken)
    if not _is_trained(options, state):
        _refuse_other_code(options.submission, path, state)
    return options, state


def _is_trained(options: TrainOptions, state: dict[str, Any]) -> bool:
    """Return whether all epochs of a run are done, and only fit_prior, which failed, is left.

    Then the code may have changed: the weights do not depend on fit_prior.
    """
    from lab.run_folder import PRIOR_FAILED

    return state.get(PRIOR_FAILED) is True and state["epoch"] >= options.epochs


def _refuse_other_code(file: Path, path: Path, state: dict[str, Any]) -> None:
    """Raise SettingsError unless the file is the one that the checkpoint was trained from."""
    if not file.is_file():
        return  # loading it gives the error
    if hashlib.sha256(file.read_bytes()).hexdigest() != state.get("submission_sha256"):
        raise SettingsError(
            f"{file} is not the code that {path} was trained from; leave --submission out to "
            "continue with the run's own copy, or start a new run in another --save_dir."
        )


def _was_edited(used: Path, state: dict[str, Any]) -> bool:
    """Return whether a run continues with its own copy of a file that has other code by now."""
    original = Path(state.get("submission", ""))
    if not original.is_file():
        return False
    return original.read_bytes() != used.read_bytes()


def _refuse_other_data(path: Path, sha256: str, state: dict[str, Any]) -> None:
    """Raise SettingsError if the images of an epoch that has begun are not those of its rest.

    Between epochs, the training images may change.
    """
    if state["counters"]["batch"] and state.get("train_sha256", sha256) != sha256:
        raise SettingsError(
            f"{path} is not the data on which the interrupted epoch began; leave --train_data out, "
            "or continue from the epoch before it (--checkpoint epoch_N.pth)."
        )


def _load_state(trainer: Trainer, state: dict[str, Any]) -> None:
    try:
        trainer.load_state_dict(state)
    except Exception as error:  # torch raises errors of many types for a damaged state
        raise _does_not_fit(trainer, error) from error


def _does_not_fit(trainer: Trainer, error: Exception) -> CheckpointError:
    from data_utils import one_line
    from lab.checkpoint import CheckpointError

    return CheckpointError(
        f"the checkpoint does not fit {trainer.submission.path} ({one_line(error)}); "
        "start a new run in another --save_dir."
    )


def _resumes_in_place(options: TrainOptions, state: dict[str, Any] | None) -> bool:
    """Return whether the run in the folder is the one that the checkpoint belongs to."""
    path = options.checkpoint
    here = path is None or path.parent.resolve() == options.folder.resolve()
    return state is not None and here


# ---------------------------------------------------------------- the command


def main() -> None:
    """Parse, train, print the run's folder and the next command."""
    parser = make_parser()
    typed = parser.parse_args()
    given = command.given_options(parser)
    if typed.deterministic:
        deterministic.pin()  # before torch is imported

    from data_utils import DataError
    from lab.checkpoint import CheckpointError, best_or_newest
    from lab.loading import ContractError
    from lab.watch import Watch
    from trainer import TrainingError

    watch = Watch()
    errors = (SettingsError, CheckpointError, ContractError, DataError, TrainingError)
    with command.clear_errors(parser.prog, *errors, FolderInUseError):
        options, state = TrainOptions(**vars(typed)), None
        if options.checkpoint or options.load_from_checkpoint:
            options, state = resume(options, given)
        with only_one(options.folder, "--save_dir"):
            typed_command = command.as_typed(*sys.argv)
            complete = train(options, state, callbacks=[watch], typed=typed_command)
    if not complete:
        print(f"stopped and saved in {options.folder}; to continue:")
        again = ("--load_from_checkpoint", "--save_dir", options.folder)
        print(f"  {command.as_typed('train.py', *again)}")
        sys.exit(command.status_of_stop())
    if watch.found:
        print(f"the run is in {options.folder}, but something is wrong with its model:")
        print("\n".join(f"  {fault}" for fault in watch.found.values()))
        print("correct it, then train again with --overwrite. If it is as you want it:")
    else:
        print(f"the run is in {options.folder}; next:")
    best = best_or_newest(options.folder)
    print(f"  {command.as_typed('inference.py', '--checkpoint_path', best)}")


if __name__ == "__main__":
    command.run(main)

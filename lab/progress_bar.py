"""The progress bar of a training run."""

from __future__ import annotations

from types import TracebackType

from tqdm import tqdm


class ProgressBar:
    """Counts images over all epochs and shows the newest named parts of the loss.

    Args:
        epochs: the number of epochs of the run.
        images: the number of images per epoch.
        epoch, done: the complete epochs so far, and the images of the current epoch.
        shown: whether to show the bar.
    """

    def __init__(self, epochs: int, images: int, epoch: int, done: int, shown: bool) -> None:
        self.epochs = epochs
        self.bar = tqdm(
            total=epochs * images,
            initial=min(epoch * images + done, epochs * images),
            desc=self._text(epoch),
            unit=" images",
            unit_scale=True,
            disable=not shown,
            dynamic_ncols=True,
        )

    def step(self, images: int, parts: dict[str, float]) -> None:
        """Advance by one step of `images` images, and show its named parts."""
        self.bar.update(images)
        if parts:
            self.bar.set_postfix({k: f"{v:.4g}" for k, v in parts.items()}, refresh=False)

    def epoch_end(self, epoch: int) -> None:
        """Show that `epoch` epochs are complete."""
        self.bar.set_description(self._text(epoch))

    def _text(self, epoch: int) -> str:
        return f"epoch {min(epoch + 1, self.epochs)}/{self.epochs}"

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.bar.close()

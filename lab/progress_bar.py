"""The progress bar of a training run."""

from __future__ import annotations

from types import TracebackType

from tqdm import tqdm


class ProgressBar:
    """Counts images over all epochs and shows the newest named parts of the loss.

    Args:
        epochs: in all.
        images: per epoch.
        epoch, done: complete epochs, and images of the current one.
        shown: whether to show it at all.
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
        """Count a step of so many images."""
        self.bar.update(images)
        if parts:
            self.bar.set_postfix({k: f"{v:.4g}" for k, v in parts.items()}, refresh=False)

    def epoch_end(self, epoch: int) -> None:
        """Say that `epoch` epochs are complete."""
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

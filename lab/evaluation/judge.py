"""The judge: a small classifier of digits, whose features say more of an image than its pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_utils import NUM_CLASSES, to_float

JUDGE_FILE = Path(__file__).resolve().parents[1] / "judge" / "judge.pth"
FEATURES = 128


class Judge(nn.Module):
    """A convolutional classifier of digits. Its last hidden layer gives the features."""

    def __init__(self) -> None:
        super().__init__()

        def block(inputs: int, outputs: int) -> nn.Sequential:
            convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
            return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())

        self.image_to_maps = nn.Sequential(
            *(block(1, 16), block(16, 16), nn.MaxPool2d(2)),  # (B, 16, 14, 14)
            *(block(16, 32), block(32, 32), nn.MaxPool2d(2)),  # (B, 32, 7, 7)
            *(block(32, 64), nn.MaxPool2d(2)),  # (B, 64, 3, 3)
        )
        self.maps_to_features = nn.Linear(64 * 3 * 3, FEATURES)
        self.features_to_scores = nn.Linear(FEATURES, NUM_CLASSES)

    def features(self, images: Tensor) -> Tensor:
        """Return the features (B, 128) of images (B, 1, 28, 28) in [0, 1]."""
        return F.relu(self.maps_to_features(self.image_to_maps(images).flatten(1)))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the ten digits, (B, 10)."""
        return self.features_to_scores(self.features(images))


def load_judge() -> Judge:
    """Return the judge that the lab contains, in evaluation mode."""
    state = torch.load(JUDGE_FILE, map_location="cpu", weights_only=True)
    judge = Judge().eval()
    judge.load_state_dict({name: value.float() for name, value in state.items()})
    return judge


@torch.no_grad()
def features_and_classes(judge: Judge, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the judge's features and classes of images, uint8 (N, 28, 28).

    Features are float64 (N, 128), classes int64 (N,), 0 to 9.
    """
    features, classes = [], []
    for chunk in torch.from_numpy(images).split(1000):
        features.append(judge.features(to_float(chunk)))
        classes.append(judge.features_to_scores(features[-1]).argmax(1))
    return torch.cat(features).double().numpy(), torch.cat(classes).numpy()

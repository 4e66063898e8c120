"""Train the judge, the classifier of `grade.py --diagnostics`, and test it once.

    python -m staff.build_judge       5 minutes on 2 cores; writes judge.pth and judge.json

Augmentation with small random rotations, shifts and scales make it robust. The stored weights are
a running mean over the training steps (Polyak and Juditsky 1992), in half precision.
"""

from __future__ import annotations

import json
import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from data_utils import Batches, MNISTDataset, set_seed
from lab import ROOT, command
from lab.checkpoint import write_whole
from lab.device import keep_freed_memory, native_bf16, pick_device
from lab.evaluation.judge import JUDGE_FILE, Judge, features_and_classes

EPOCHS, BATCH_SIZE, LR, WEIGHT_DECAY, SEED = 24, 250, 4e-3, 5e-4, 42
ROTATION, SHIFT, SCALE = math.radians(12), 0.14, 0.12  # 0.14 of half the width: two pixels


def augmented(images: Tensor) -> Tensor:
    """Rotate, shift and scale each image (B, 1, 28, 28) a little at random."""
    angle, scale, *shift = (2 * torch.rand(4, len(images), device=images.device) - 1).unbind()
    angle, scale = ROTATION * angle, 1 + SCALE * scale
    cos, sin = scale * torch.cos(angle), scale * torch.sin(angle)
    rows = [cos, -sin, SHIFT * shift[0], sin, cos, SHIFT * shift[1]]
    grid = F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), [*images.shape], align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def accuracy(judge: Judge, dataset: MNISTDataset) -> float:
    """Return the share of images that the judge classifies correctly."""
    _, classes = features_and_classes(judge.cpu().eval(), dataset.images)
    return float((classes == dataset.labels).mean())


def main() -> None:
    """Train the judge, average its weights, test it, write judge.pth and judge.json."""
    device = pick_device("auto")
    keep_freed_memory()
    set_seed(SEED)
    train_set = MNISTDataset(ROOT / "dataset" / "train")
    batches = Batches(train_set, BATCH_SIZE, device, SEED)
    judge = Judge().to(device)
    mean = AveragedModel(judge, multi_avg_fn=get_ema_multi_avg_fn(0.998), use_buffers=True)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    steps = EPOCHS * len(batches)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps)
    with tqdm(total=steps, unit="step") as bar:
        for epoch in range(EPOCHS):
            judge.train()
            for x, labels in batches.epoch(epoch):
                with torch.autocast(device.type, torch.bfloat16, enabled=native_bf16(device)):
                    scores = judge(augmented(x))
                loss = F.cross_entropy(scores.float(), labels, label_smoothing=0.05)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
                mean.update_parameters(judge)
                bar.update()
    state = {name: value.half() for name, value in mean.module.state_dict().items()}
    judge.load_state_dict({name: value.float() for name, value in state.items()})
    with write_whole(JUDGE_FILE) as file:
        torch.save(state, file)
    names = {"train": train_set, "valid": None, "test": None}
    found = {
        name: accuracy(judge, dataset or MNISTDataset(ROOT / "dataset" / name))
        for name, dataset in names.items()
    }
    found["bytes"] = JUDGE_FILE.stat().st_size
    with write_whole(JUDGE_FILE.parent / "judge.json") as file:
        file.write((json.dumps(found, indent=2) + "\n").encode())
    print(found)


if __name__ == "__main__":
    command.run(main)

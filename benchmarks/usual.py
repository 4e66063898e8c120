"""The usual pipeline of course labs, for the same models, without artificial slowdowns.

    python -m benchmarks.usual arrow DATASET FILE      write a dataset folder as Arrow, PNG bytes
    python -m benchmarks.usual train SUBMISSION --train FILE --valid FILE --out CHECKPOINT
    python -m benchmarks.usual infer SUBMISSION --data FILE --checkpoint CHECKPOINT --out FOLDER
    python -m benchmarks.usual grade --data FILE --outputs FOLDER
    python -m benchmarks.usual train model.py --train train.arrow --valid valid.arrow --epochs 1

A DataLoader decodes PNG files one by one; Adam trains in fp32; 5 000 images are validated every 10
steps; inference writes one PNG file per image, and grading reads it back. All
commands except `arrow` print a line of JSON at the end: seconds and peak memory. Only the models
are the lab's.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import time
from pathlib import Path
from types import ModuleType

BATCH, LR, VAR, LATENT_DIM = 1024, 5e-3, 0.5, 20
PRED_STEP, EVAL_NUM, GEN_NUM = 10, 5000, 100


def load_model(path: Path) -> ModuleType:
    """Import a file of models."""
    spec = importlib.util.spec_from_file_location("models", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def print_json(**facts: object) -> None:
    """Print a line of JSON, with the peak memory of this process."""
    print(json.dumps({**facts, "peak_mib": peak_mib()}))


def peak_mib() -> float:
    """Return the peak memory of this process in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage includes the parent's memory on Linux
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024  # KiB
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS


def pick_device():
    """Return the fastest device of this machine."""
    import torch

    name = "mps" if torch.backends.mps.is_available() else "cpu"
    return torch.device("cuda" if torch.cuda.is_available() else name)


def make_dataset(file: Path, count: int | None = None):
    """Return a torch Dataset that decodes an image each time it is accessed."""
    import numpy as np
    import pyarrow
    import torch
    from PIL import Image

    class ArrowImages(torch.utils.data.Dataset):
        def __init__(self) -> None:
            with pyarrow.memory_map(str(file)) as source:
                table = pyarrow.ipc.open_file(source).read_all()
            self.images = table["image"]
            self.labels = table["label"].to_numpy()

        def __len__(self) -> int:
            return min(count or len(self.labels), len(self.labels))

        def __getitem__(self, index: int):
            png = self.images[index].as_py()["bytes"]
            pixels = np.array(Image.open(io.BytesIO(png)), dtype=np.float32) / 255
            return torch.from_numpy(pixels).unsqueeze(0), int(self.labels[index])

    return ArrowImages()


def write_arrow(folder: Path, file: Path) -> None:
    """Write a dataset folder of the lab as an Arrow table of PNG bytes and labels."""
    import pyarrow
    from PIL import Image

    from data_utils import MNISTDataset

    dataset = MNISTDataset(folder)
    cells = []
    for pixels in dataset.images:
        png = io.BytesIO()
        Image.fromarray(pixels).save(png, "PNG")
        cells.append({"bytes": png.getvalue(), "path": None})
    table = pyarrow.table({"image": cells, "label": dataset.labels})
    with pyarrow.ipc.new_file(str(file), table.schema) as writer:
        writer.write_table(table)


def train(args: argparse.Namespace) -> None:
    """Train; print the seconds of each epoch, without and with its validations."""
    import torch
    from tqdm import tqdm

    torch.manual_seed(42)
    module = load_model(args.submission)
    device = pick_device()
    model = module.VAE(LATENT_DIM).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    loader = torch.utils.data.DataLoader(
        make_dataset(args.train), BATCH, shuffle=True, num_workers=args.workers
    )
    valid = torch.utils.data.DataLoader(make_dataset(args.valid, EVAL_NUM), BATCH)

    def loss_of(x, labels):
        x, labels = x.to(device), labels.to(device)
        recon_x, mu, log_var = model(x, torch.zeros_like(labels))
        return module.vae_loss(recon_x, x, mu, log_var, VAR)

    def validate() -> None:
        model.eval()
        with torch.no_grad():
            losses = [loss_of(x, labels).item() for x, labels in valid]
        assert all(loss == loss for loss in losses)
        model.train()

    plain, validated = [], []
    step = 0
    for epoch in range(args.epochs):
        started, validating = time.perf_counter(), 0.0
        for x, labels in tqdm(loader, desc=f"epoch {epoch + 1}"):
            loss = loss_of(x, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if step % PRED_STEP == 0:
                before = time.perf_counter()
                validate()
                validating += time.perf_counter() - before
        validated.append(time.perf_counter() - started)
        plain.append(validated[-1] - validating)
    if args.out:
        torch.save(model.state_dict(), args.out)
    print_json(epochs=plain, validated=validated)


def infer(args: argparse.Namespace) -> None:
    """Write a PNG file per reconstruction and per sample; print the seconds after the imports."""
    import pyarrow  # noqa: F401, imports are not timed
    import torch
    from PIL import Image

    started = time.perf_counter()
    device = pick_device()
    model = load_model(args.submission).VAE(LATENT_DIM).to(device)
    model.load_state_dict(torch.load(args.checkpoint, weights_only=True))
    model.eval()
    loader = torch.utils.data.DataLoader(make_dataset(args.data), BATCH, num_workers=args.workers)

    def save(images: torch.Tensor, names: list[Path]) -> None:
        pixels = (images.reshape(-1, 28, 28).clamp(0, 1) * 255).round().byte().cpu().numpy()
        for name, one in zip(names, pixels):
            Image.fromarray(one).save(name)

    (args.out / "recon").mkdir(parents=True, exist_ok=True)
    done = 0
    with torch.no_grad():
        for x, labels in loader:
            x, labels = x.to(device), labels.to(device)
            mu, _ = model.encode(x, torch.zeros_like(labels))
            recon = model.decode(mu, torch.zeros_like(labels))
            save(recon, [args.out / "recon" / f"recon_{done + i}.png" for i in range(len(x))])
            done += len(x)
        for label in range(10):
            (args.out / "gen" / str(label)).mkdir(parents=True, exist_ok=True)
            z = torch.randn(GEN_NUM, LATENT_DIM, device=device)
            samples = model.decode(z, torch.full((GEN_NUM,), label, device=device))
            save(samples, [args.out / "gen" / str(label) / f"{j}.png" for j in range(GEN_NUM)])
    print_json(seconds=time.perf_counter() - started)


def grade(args: argparse.Namespace) -> None:
    """Read the PNG files back and score them, image by image, as such graders usually do."""
    import numpy as np
    import pyarrow
    from PIL import Image
    from skimage.metrics import structural_similarity

    started = time.perf_counter()
    with pyarrow.memory_map(str(args.data)) as source:
        table = pyarrow.ipc.open_file(source).read_all()
    labels = table["label"].to_numpy()
    images = [np.array(Image.open(io.BytesIO(c["bytes"]))) for c in table["image"].to_pylist()]
    ssims, mses = [], []
    for i, true in enumerate(images):
        recon = np.array(Image.open(args.outputs / "recon" / f"recon_{i}.png"))
        ssims.append(structural_similarity(recon, true, data_range=255))
        mses.append(np.mean((recon / 255 - true / 255) ** 2))
    fids = []
    for label in () if args.no_samples else range(10):
        paths = [args.outputs / "gen" / str(label) / f"{j}.png" for j in range(GEN_NUM)]
        made = np.stack([np.array(Image.open(path)).ravel() for path in paths]) / 255
        real = np.stack([images[i].ravel() for i in np.flatnonzero(labels == label)]) / 255
        v_g, v_a = made.var(axis=0), real.var(axis=0)
        distance = ((made.mean(axis=0) - real.mean(axis=0)) ** 2).sum()
        fids.append(distance + (v_g + v_a - 2 * np.sqrt(v_g * v_a)).sum())
    scores = {"ssim": np.mean(ssims), "mse": np.mean(mses)}
    if fids:
        scores["fid"] = np.mean(fids)
    print_json(seconds=time.perf_counter() - started, **scores)


def main() -> None:
    """Run the subcommand."""
    # Does not use benchmarks.commands, because importing it would take time on this side.
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.usual",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("arrow")
    one.add_argument("folder", type=Path)
    one.add_argument("file", type=Path)
    one = commands.add_parser("train")
    one.add_argument("submission", type=Path)
    for name in ("train", "valid", "out"):
        one.add_argument(f"--{name}", type=Path)
    one.add_argument("--epochs", type=int, default=2)
    one.add_argument("--workers", type=int, default=0, help="processes that decode images")
    one = commands.add_parser("infer")
    one.add_argument("submission", type=Path)
    for name in ("data", "checkpoint", "out"):
        one.add_argument(f"--{name}", type=Path, required=True)
    one.add_argument("--workers", type=int, default=0, help="processes that decode images")
    one = commands.add_parser("grade")
    for name in ("data", "outputs"):
        one.add_argument(f"--{name}", type=Path, required=True)
    one.add_argument("--no-samples", action="store_true", help="score reconstructions only")
    args = parser.parse_args()
    if args.command == "arrow":
        write_arrow(args.folder, args.file)
    else:
        {"train": train, "infer": infer, "grade": grade}[args.command](args)


if __name__ == "__main__":
    main()

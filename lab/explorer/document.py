"""Put the page together: one HTML file with the model, the runtime, the style and the scripts."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from markupsafe import Markup
from torch import Tensor

from data_utils import MNISTDataset, to_float
from lab.explorer.atlas import make_atlas
from lab.explorer.export import (
    TOLERANCE,
    Decoder,
    Encoder,
    ExportError,
    Network,
    export_decoder,
    export_encoder,
    for_export,
    with_half_weights,
)
from lab.explorer.facts import Subject
from lab.pages import templates, verbatim
from lab.split_model import Submission

HERE = Path(__file__).resolve().parent
# In the order in which they build on each other.
SCRIPTS = (
    *("unpack", "texts", "theme", "pictures", "model", "state", "debug"),
    *("gallery", "labels", "generate", "samples", "traverse", "plane"),
    *("pad", "posterior", "encode", "morph", "explain", "main"),
)
RUNTIME = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")


def build(submission: Submission, dataset: MNISTDataset, run: dict[str, Any]) -> tuple[str, dict]:
    """Return the page, and what it holds: the precision of each half, or why it is missing.

    Args:
        submission: a trained model on the CPU, in evaluation mode.
        dataset: the images to pick from, and behind the figures.
        run: what the page says about the run: name, epoch, var.

    Raises ContractError.
    """
    subject = Subject(submission, dataset)
    traced = for_export(submission)
    half = _half_is_enough(traced, subject)
    blobs: dict[str, bytes] = {}
    held: dict[str, dict[str, Any]] = {}
    exports = {"decoder": export_decoder}
    if submission.has_encoder:
        exports["encoder"] = export_encoder
    for name, export in exports.items():
        try:
            network: Network = export(traced, half[name])
        except ExportError as error:
            held[name] = {"precision": None, "why": str(error)}
        else:
            held[name] = {"precision": network.precision, "batch": network.batch}
            blobs[name] = network.content
    arrays = dict(subject.arrays)
    if "decoder" not in blobs:
        arrays |= make_atlas(subject)
    blobs |= {name: _bytes_of(array) for name, array in arrays.items()}
    zipped = {name: gzip.compress(content, 6, mtime=0) for name, content in blobs.items()}
    if any(half["precision"] for half in held.values()):
        zipped |= {name: (HERE / "runtime" / f"{name}.gz").read_bytes() for name in RUNTIME}
    facts = {**subject.facts, "run": run, **held}
    return _page(facts, zipped), held


@torch.no_grad()
def _half_is_enough(submission: Submission, subject: Subject) -> dict[str, bool]:
    """Return for each half whether its weights may be rounded to float16.

    They may if no figure of the page changes by TOLERANCE: mu, log_var, the pixels of samples and
    those of reconstructions.
    """
    rounded = with_half_weights(submission)
    z, labels = subject.starts()
    if subject.codes is not None:
        z, labels = subject.codes, torch.from_numpy(subject.labels)
    decode, decode_rounded = Decoder(submission), Decoder(rounded)
    half = {"decoder": _close(decode(z, labels), decode_rounded(z, labels))}
    if submission.has_encoder:
        inputs = to_float(torch.from_numpy(subject.images)), labels, torch.ones_like(z)
        mu, log_var, z = Encoder(submission)(*inputs)
        mu_rounded, log_var_rounded, z_rounded = Encoder(rounded)(*inputs)
        used = decode_rounded if half["decoder"] else decode
        half["encoder"] = (
            _close(mu, mu_rounded)
            and _close(log_var, log_var_rounded)
            and _close(decode(z, labels), used(z_rounded, labels))
        )
    return half


def _close(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() < TOLERANCE)


def _bytes_of(array: np.ndarray) -> bytes:
    """Return the values of an array as the page reads them: bytes, or little-endian float32."""
    return array.astype(np.uint8 if array.dtype == np.uint8 else "<f4").tobytes()


# ---------------------------------------------------------------- HTML


def _page(facts: dict[str, Any], zipped: dict[str, bytes]) -> str:
    """Return page.html with its parts filled in."""
    folder = HERE / "page"
    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    return (
        templates(folder)
        .get_template("page.html")
        .render(
            title=f"{facts['class_name']} · {facts['run']['name']}",
            style=verbatim(folder / "style.css"),
            facts=_json(facts),
            texts=_json(texts),
            licence=verbatim(HERE / "runtime" / "LICENSE"),
            blobs={name: base64.b64encode(content).decode() for name, content in zipped.items()},
            scripts=[verbatim(folder / f"{name}.js") for name in SCRIPTS],
        )
    )


def _json(value: Any) -> Markup:
    """Return JSON that cannot end the element it stands in."""
    return Markup(json.dumps(value, ensure_ascii=False).replace("<", "\\u003c"))

"""Hostile submissions: each is `model.py`, changed to attack the grader.

An attack adds code before the classes of model.py, replaces parts of it, or changes the checkpoint.
The tests never import this code; it runs only in the sandbox.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from data_utils import MNISTDataset
from lab import ROOT
from lab.split_model import Submission
from tests import archives

MODEL = (ROOT / "model.py").read_text(encoding="utf-8")
ENCODE = "        hidden = F.leaky_relu(self.hidden(x.flatten(1)), 0.2)  # (B, hidden_dim)\n"
DECODE = "        return self.decoder(z)\n"
GENERATE = "        return super().decode(torch.cat([z, F.one_hot(labels, 10)], dim=1), labels)\n"
LAYERS = "        self.hidden = nn.Linear"
MU = "self.mu = nn.Linear(hidden_dim, latent_dim)"
LOG_VAR = "self.log_var = nn.Linear(hidden_dim, latent_dim)"
DECODER = "nn.Linear(latent_dim + label_dim, hidden_dim)"
ALWAYS_8 = {old: old.replace("latent_dim", "8") for old in (MU, LOG_VAR, DECODER)}
LATENT_DIM = 8
PLACES = ("/tmp", "/dev/shm", "/var/tmp", "/inputs", "/lab", ".", "/root", "/home")

HIDE = f"""
import os, pathlib
def hide(x):
    for place in {PLACES}:
        try: torch.save(x, place + "/cache.pt")
        except Exception: pass
def find():
    for place in {PLACES}:
        try: return torch.load(place + "/cache.pt")
        except Exception: pass
"""
LOOK = """
import os, glob
for path in {paths}:
    for found in [path, *glob.glob(path + "/*")]:
        try: print("SEEN", found, open(found, "rb").read(20))
        except OSError: pass
for file in glob.glob("/proc/*/environ"):
    try: print("".join(word for word in open(file).read().split(chr(0)) if "SECRET" in word))
    except OSError: pass
"""
FORGE = """
import io, os, sys
buffer = io.BytesIO()
array = __import__("numpy").full((120, 28, 28), 255, "uint8")
__import__("numpy").save(buffer, array)
for name in ("result.json", "/tmp/result.json", "grade_result.json"):
    open(name, "w").write('{"score": 40, "status": "graded"}')
for descriptor in range(1, 64):
    try: os.write(descriptor, b'{"done": true, "score": 40}\\n' + buffer.getvalue())
    except OSError: pass
os._exit(0)
"""
FORGED_WORDS = """
import os
for descriptor in range(3, 64):
    try: os.write(descriptor, {words!r}.encode() + b"\\n")
    except OSError: pass
os._exit(0)
"""
PATCH = """
import sys, types, numpy, skimage.metrics
numpy.mean = numpy.square = lambda *_, **__: 0.0
skimage.metrics.structural_similarity = lambda *_, **__: 1.0
for name in ("metrics", "grade", "staff", "staff.student"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["metrics"].raw_score = lambda *_: 40.0
"""
LIAR = """
class Liar(torch.Tensor):
    shape = (1, 28, 28)
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function.__name__ in ("isfinite", "all"):
            return torch.tensor(True)
        return super().__torch_function__(function, types, args, kwargs or {})
"""

# Keeps bubblewrap's first process alive, if the stage can write to its memory, and then tells
# bubblewrap that the stage has ended. The code is for x86-64; elsewhere the first "SEEN" counts.
TAKE_OVER = """
import ctypes, os, time
libc = ctypes.CDLL(None)
def take_over():
    lines = [line.split() for line in open("/proc/1/maps")]
    code = next(line for line in lines if line[1] == "r-xp" and "libc" in line[-1])
    start, end = (int(word, 16) for word in code[0].split("-"))
    # prctl(PR_SET_PDEATHSIG, 0); for (;;) pause();
    forever = bytes.fromhex("b89d000000bf0100000031f60f05b8220000000f05ebf7")
    with open("/proc/1/mem", "r+b", buffering=0) as memory:
        print("SEEN", memory)
        memory.seek(start)
        memory.write(b"\\x90" * (end - start - len(forever)) + forever)
    if os.fork() == 0:
        if os.fork() == 0:
            time.sleep(0.1)  # the end of this orphan wakes the first process
        os._exit(0)
    time.sleep(0.5)
    if os.fork() == 0:
        while True: time.sleep(1000)
    first = libc.syscall(434, 1, 0)  # pidfd_open
    for number in os.listdir("/proc/1/fd"):
        if "eventfd" in os.readlink(f"/proc/1/fd/{number}"):
            event = libc.syscall(438, first, int(number), 0)  # pidfd_getfd
            os.write(event, (1).to_bytes(8, "little"))
if os.getpid() != 1:
    take_over()
"""
VMSPLICE = """
import ctypes, mmap, os
libc = ctypes.CDLL(None, use_errno=True)
class Piece(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
page = ctypes.create_string_buffer(4096)
read, write = os.pipe()
if libc.vmsplice(write, ctypes.byref(Piece(ctypes.addressof(page), 4096)), 1, 0) < 0:
    raise OSError(ctypes.get_errno(), "vmsplice")
"""
# The kernel keeps events until they are read: about 1 KiB each, counted for no process.
INOTIFY = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
queue = libc.inotify_init()
if queue < 0:
    raise OSError(ctypes.get_errno(), "inotify_init")
"""
READ_BACK = """
import os
back = os.open("/proc/self/fd/1", os.O_RDONLY | os.O_NONBLOCK)
for _ in range(100_000):
    os.write(1, b"x")
    try: os.read(back, 10)
    except BlockingIOError: pass
"""
# What tells one stage what another has read, or where the lab is on the machine.
OWN_FILES = ("pagemap", "smaps", "smaps_rollup", "maps", "mem", "mountinfo", "mounts", "cgroup")
LOOK_AT_ITSELF = f"""
import os
for name in {OWN_FILES}:
    for pid in ("self", "1"):
        try: print("SEEN", name, open(f"/proc/{{pid}}/{{name}}", "rb").read(1))
        except OSError: pass
"""


@dataclass
class Attack:
    """One hostile submission and its expected result.

    Attributes:
        status: the statuses that are correct.
        prelude: code before the classes.
        replaced: text of model.py and its replacement.
        task: of the checkpoint.
        state: changes the checkpoint's state before it is written.
        latent_dim: as the checkpoint states it.
        stored: name of the images that are stored in the weights; see `images_to_store`.
        says: what the message or a flag must contain.
    """

    status: tuple[str, ...]
    prelude: str = ""
    replaced: dict[str, str] = field(default_factory=dict)
    task: str = "VAEwolabel"
    state: Callable[[dict[str, Any]], None] = lambda state: None
    latent_dim: int = LATENT_DIM
    stored: str = ""
    says: str = ""

    def code(self) -> str:
        """Return the text of the submission."""
        text = MODEL
        for old, new in self.replaced.items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        head, rest = text.split("class VAE", 1)
        return f"{head}{self.prelude}\n\nclass VAE{rest}"


LOOKED_UP = "self.stored[(z[:, 0] * 1000).long().abs() % 10 + 10 * labels]"
STORED = {
    LAYERS: '        self.register_buffer("stored", torch.zeros(100, 784))\n' + LAYERS,
    GENERATE: f"        return {LOOKED_UP}\n",
}
# Copies for 40 % of the samples, drawn by the model for the others.
MIXED = STORED | {
    GENERATE: GENERATE.replace("return", "drawn =")
    + f"        return torch.where(z[:, 1:2] < -0.2533, {LOOKED_UP}, drawn)\n",
}
KEPT = {LAYERS: '        self.register_buffer("stored", torch.zeros(120, 784))\n' + LAYERS}
CODES = "        return self.mu(hidden), self.log_var(hidden)\n"
INDEX = "torch.cdist(x.flatten(1), self.stored).argmin(dim=1)"
GOOD = ("graded",)
ATTACKS: dict[str, Attack] = {
    "cache-from-encode-to-decode": Attack(
        GOOD,
        HIDE,
        {ENCODE: "        hide(x)\n" + ENCODE, DECODE: "        x = find()\n"
         "        return self.decoder(z) if x is None else x[: len(z)]\n"},
    ),
    "false-latent-dim": Attack(
        ("contract breach",),
        replaced=ALWAYS_8,
        latent_dim=2,
        says="(batch, latent_dim)",
    ),
    "false-latent-dim-checks-patched": Attack(
        ("contract breach",),
        "from lab import split_model\nsplit_model.Submission.expect_codes = lambda *_: None\n",
        ALWAYS_8,
        latent_dim=2,
        says="expected float16 (120, 2)",
    ),
    "mantissa-stuffing": Attack(
        GOOD,
        replaced={
            # Eight pixels of one bit each in every float32 mantissa, far below float16's ten bits.
            "        return self.mu(hidden), self.log_var(hidden)\n":
            "        bits = (x.flatten(1)[:, ::98][:, :8] > 0.5).float()\n"
            "        return 1 + bits * 2.0**-20, self.log_var(hidden)\n",
            DECODE: "        on = (z > 1).any(dim=1, keepdim=True)\n"
            "        return torch.where(on, torch.ones_like(z[:, :1]), 0.0).expand(-1, 784)\n",
        },
    ),
    "codes-of-another-type": Attack(
        ("contract breach",),
        "import numpy\nnumpy.save_ = numpy.save\n"
        "numpy.save = lambda file, array, **k: numpy.save_(file, array.astype('f8'), **k)\n",
        says="expected float16",
    ),
    "images-in-the-weights": Attack(
        ("flagged",),
        replaced={LAYERS: '        self.register_buffer("kept", '
                  "torch.zeros(10_000, 784, dtype=torch.uint8))\n" + LAYERS},
        state=lambda state: state["model_state_dict"].update(
            kept=torch.zeros(10_000, 784, dtype=torch.uint8)
        ),
        says="of integers",
    ),
    "images-in-the-source": Attack(
        ("flagged",), prelude=f"DATA = '{'x' * 150_000}'\n", says="submission.py has"
    ),
    "reads-what-is-not-its-own": Attack(GOOD, "READING"),  # filled in by the test
    "network": Attack(GOOD, "NETWORK"),  # filled in by the test
    "fork-bomb": Attack(
        ("student error", "out of memory"), "import os\nwhile True:\n    os.fork()\n"
    ),
    "memory-bomb": Attack(
        ("out of memory",), "kept = []\nwhile True:\n    kept.append(bytearray(1 << 24))\n"
    ),
    "memory-bomb-of-many": Attack(
        ("out of memory",),
        "import os, time\nfor _ in range(6):\n    if os.fork() == 0:\n"
        "        kept = bytearray(1 << 28)\n        time.sleep(60)\ntime.sleep(60)\n",
    ),
    "memory-bomb-in-silence": Attack(
        ("out of memory",),
        "import os\nos.closerange(0, 64)\nkept = []\nwhile True:\n"
        "    kept.append(bytearray(1 << 24))\n",
    ),
    "memory-of-nobody": Attack(
        ("student error",), "import os\nos.memfd_create('kept')\n", says="PermissionError"
    ),
    "memory-that-is-shared": Attack(
        ("student error",), "import mmap\nmmap.mmap(-1, 1 << 24)\n", says="PermissionError"
    ),
    "memory-in-sockets": Attack(
        ("student error",), "import socket\nsocket.socketpair()\n", says="PermissionError"
    ),
    "memory-in-pipes": Attack(("student error",), VMSPLICE, says="PermissionError"),
    "memory-in-inotify": Attack(("student error",), INOTIFY, says="PermissionError"),
    "memory-in-file-locks": Attack(
        ("student error",),
        "import fcntl\nfile = open('/tmp/locked', 'w')\nfor n in range(1000):\n"
        "    fcntl.lockf(file, fcntl.LOCK_EX, 1, 2 * n)\n",
        says="PermissionError",
    ),
    "memory-in-empty-files": Attack(
        ("student error",),
        "for n in range(50_000):\n    for folder in ('/tmp', '/dev/shm'):\n"
        "        open(f'{folder}/{n}', 'x').close()\n",
        says="No space left",
    ),
    "task-that-is-no-word": Attack(
        ("contract breach",), state=lambda state: state.update(task=["\x1b[2J"]),
        says="its task is of type list",
    ),
    "endless-loop": Attack(("timeout",), "while True:\n    pass\n"),
    "endless-sleep": Attack(("timeout",), "import time\ntime.sleep(10_000)\n"),
    "time-of-ignored-children": Attack(
        ("student error",),
        "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n",
        says="PermissionError",
    ),
    "full-disk": Attack(
        ("student error",),
        "n = 0\nwhile True:\n    n += 1\n"
        "    open(f'/tmp/{n}', 'wb').write(bytes(1 << 22))\n",
        says="No space left",
    ),
    "large-file": Attack(
        ("student error",),
        "file = open('/tmp/large', 'wb', buffering=0)\nfile.seek(1 << 40)\nfile.write(b'x')\n",
    ),
    "ten-gigabytes-printed": Attack(
        ("student error",),
        "import sys\nfor _ in range(10_000):\n    sys.stdout.write('x' * (1 << 20))\n",
        says="printed more",
    ),
    "child-that-outlives": Attack(
        GOOD,
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        "        while True: time.sleep(1000)\n    os._exit(0)\n",
    ),
    "takes-over-the-first-process": Attack(GOOD, TAKE_OVER),
    "looks-at-itself": Attack(GOOD, LOOK_AT_ITSELF),
    "reads-its-output-back": Attack(("student error",), READ_BACK),
    "exit-zero": Attack(
        ("student error",), "import os\nos._exit(0)\n", says="ended without a result"
    ),
    "forged-results": Attack(("student error", "contract breach"), FORGE),
    "words-that-are-no-text": Attack(
        ("student error",), FORGED_WORDS.format(words='{"error": 1, "message": "\\ud800=1+1"}')
    ),
    "words-without-end": Attack(("student error",), FORGED_WORDS.format(words="[" * 30_000)),
    "patched-libraries": Attack(GOOD, PATCH),
    "reduce-in-the-checkpoint": Attack(("contract breach",), says="is not a checkpoint"),
    "tensor-subclass": Attack(
        ("student error", "contract breach"),
        LIAR,
        {DECODE: "        return (self.decoder(z) * float('nan')).as_subclass(Liar)\n"},
    ),
    "not-finite": Attack(
        ("contract breach",),
        replaced={DECODE: "        return self.decoder(z) / 0 * 0\n"},
        says="not finite",
    ),
    "out-of-range": Attack(
        ("contract breach",), replaced={DECODE: "        return 2 * self.decoder(z) + 1\n"}
    ),
    "infinite-codes": Attack(
        ("contract breach",),
        replaced={"        return self.mu(hidden), self.log_var(hidden)\n":
                  "        return self.mu(hidden) + 1e30, self.log_var(hidden)\n"},
        says="float16",
    ),
    "copies-of-training-images": Attack(
        ("flagged",), replaced=STORED, task="Genwithlabel", stored="train", says="copies"
    ),
    "turned-training-images": Attack(
        ("flagged",), replaced=STORED, task="Genwithlabel", stored="turned", says="copies"
    ),
    "copies-of-validation-images": Attack(
        ("flagged",), replaced=STORED, task="Genwithlabel", stored="valid", says="copies"
    ),
    "copies-of-test-images": Attack(
        ("flagged",), replaced=STORED, task="Genwithlabel", stored="test", says="copies"
    ),
    "some-samples-are-copies": Attack(
        ("flagged",), replaced=MIXED, task="Genwithlabel", stored="turned", says="copies"
    ),
    "images-by-their-position": Attack(
        ("flagged",),
        replaced=KEPT | {
            CODES: "        return self.mu(hidden) * 0, self.log_var(hidden)\n",
            DECODE: "        return self.stored[torch.arange(len(z)) % len(self.stored)]\n",
        },
        stored="graded",
        says="does decode use their position",
    ),
    "images-by-their-hash": Attack(
        ("flagged",),
        replaced=KEPT | {
            CODES: f"        place = {INDEX}\n"
            "        return place[:, None].expand(-1, 8) * 97.0 % 120, self.log_var(hidden)\n",
            DECODE: "        return self.stored[(z[:, 0].round().long() * 73) % 120]\n",
        },
        stored="graded",
        says="does decode look images up",
    ),
    "images-by-their-nearest-code": Attack(
        ("flagged",),
        replaced=KEPT | {
            DECODE: "        codes = self.encode(self.stored, labels)[0].half().float()\n"
            "        return self.stored[torch.cdist(z, codes).argmin(dim=1)]\n",
        },
        stored="graded",
        says="does decode look images up",
    ),
    "private-image-in-a-message": Attack(
        ("flagged",),
        replaced=KEPT | {
            # The few random images of the checks of the TODOs are nobody's.
            CODES: "        known = torch.cdist(x.flatten(1), self.stored).amin(dim=1)\n"
            "        if len(x) > 50 and known.max() > 0.1:\n"
            "            print('PRIVATE', x)\n"
            "            raise RuntimeError(f'PRIVATE {x}')\n" + CODES,
        },
        stored="graded",
        says="it failed on the private split",
    ),
    "samples-without-z": Attack(
        ("flagged",),
        replaced={GENERATE: GENERATE.replace("[z,", "[torch.zeros_like(z),")},
        task="Genwithlabel",
        says="all alike",
    ),
    "samples-without-label": Attack(
        ("flagged",),
        replaced={GENERATE: GENERATE.replace("one_hot(labels, 10)", "one_hot(labels * 0, 10)")},
        task="Genwithlabel",
        says="the same image for every label",
    ),
    "wrong-task": Attack(
        ("contract breach",), state=lambda state: state.update(task="Genwithlabel"),
        says="was trained for",
    ),
    "not-done": Attack(
        ("student error",),
        replaced={ENCODE: '        raise NotImplementedError("TODO 2.2.2")\n' + ENCODE},
        says="TODO 2.2.2",
    ),
}  # fmt: skip


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.file}",)


def state_of(task: str, latent_dim: int = LATENT_DIM) -> dict[str, Any]:
    """Return the state of a checkpoint of an untrained model.py."""
    torch.manual_seed(0)
    submission = Submission(ROOT / "model.py", task, LATENT_DIM)
    return {
        "format_version": 1,
        "epoch": 1,
        "task": task,
        "latent_dim": latent_dim,
        "model_state_dict": submission.model.state_dict(),
        "optimizer_state_dict": {},
    }


def images_to_store(graded: Path) -> dict[str, torch.Tensor]:
    """Return the images that attacks store, by name, each (n, 784) in [0, 1].

    "train", "valid" and "test", the split to grade on, have ten of each label in order; "turned"
    are those of "train", turned by 4 degrees; "graded" are the first 120 images of "test".
    """
    found = {}
    folders = {"train": ROOT / "dataset" / "train", "valid": ROOT / "dataset" / "valid"}
    for split, folder in (folders | {"test": graded}).items():
        data = MNISTDataset(folder)
        chosen = [np.flatnonzero(data.labels == label)[-10:] for label in range(10)]
        found[split] = data.images[np.concatenate(chosen)]
    assert min(len(images) for images in found.values()) == 100
    found["turned"] = ndimage.rotate(found["train"], 4, axes=(2, 1), reshape=False, order=1)
    found["graded"] = MNISTDataset(graded).images[:120]
    return {name: torch.from_numpy(images.reshape(-1, 784)) / 255 for name, images in found.items()}


def write(
    name: str,
    attack: Attack,
    folder: Path,
    marker: Path,
    weights: dict[str, dict],
    stored: dict[str, torch.Tensor],
) -> None:
    """Write an attack's folder.

    Args:
        marker: the file that the attack would make; it must not appear.
        weights: of a trained model of each task.
        stored: what `images_to_store` returned.
    """
    folder.mkdir(parents=True)
    (folder / "submission.py").write_text(attack.code(), encoding="utf-8")
    state = state_of(attack.task, attack.latent_dim)
    if attack.task == "Genwithlabel" or attack.stored:
        state["model_state_dict"] = dict(weights[attack.task])
    if attack.stored:
        state["model_state_dict"]["stored"] = stored[attack.stored]
    attack.state(state)
    if name == "reduce-in-the-checkpoint":
        state["bomb"] = Bomb(marker)
    torch.save(state, folder / f"{attack.task}.pth")


# Names of folders, as bytes, and the students' keys. The bytes are Latin-1, escape sequences with a
# formula, and two names of the greatest length that differ only in case.
NAMES = {
    b"name-in-latin-\xe9": "name-in-latin-é",
    b"\x1b[2J\xe2\x80\xae=name-of-escape-sequences": "2J-name-of-escape-sequences",
    b"x" * 255: f"{'x' * 47}-{hashlib.sha256(b'x' * 255).hexdigest()[:12]}",
    b"X" * 255: f"{'X' * 47}-{hashlib.sha256(b'X' * 255).hexdigest()[:12]}",
}


def write_names(folder: Path) -> None:
    """Write folders and files with hostile names. They hold no submission that could be run."""
    for name in NAMES:
        for inside in (b"a\x1b[31m", b"\xe9"):
            file = os.fsencode(folder) + b"/" + name + b"/" + inside + b"/submission.py"
            os.makedirs(os.path.dirname(file))
            with open(file, "wb"):
                pass
    with open(os.fsencode(folder) + b"/loose-\x1b[2J\xe9.py", "wb"):
        pass


def write_archives(folder: Path) -> dict[str, str]:
    """Write hostile archives and links; return what each message must contain, by name."""
    weights = io.BytesIO()
    torch.save(state_of("VAEwolabel"), weights)
    honest = {"submission.py": MODEL.encode(), "VAEwolabel.pth": weights.getvalue()}
    archives.write(folder, honest)
    linked = folder / "linked-submission"
    linked.mkdir()
    (linked / "VAEwolabel.pth").write_bytes(honest["VAEwolabel.pth"])
    (linked / "submission.py").symlink_to("/etc/passwd")
    (folder / "linked-folder").symlink_to(ROOT / "tests")
    empty = folder / "nothing-handed-in"
    empty.mkdir()
    (empty / "notes.txt").write_text(json.dumps({"score": 40}), encoding="utf-8")
    return {
        **archives.MESSAGES,
        "linked-submission": "is a link",
        "linked-folder": "is a link",
        "nothing-handed-in": "no submission.py",
    }

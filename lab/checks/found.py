"""What a check found wrong, with a hint on where to look."""

from __future__ import annotations

import re
from dataclasses import dataclass

UNTESTED, NOT_DONE, RAISED = "untested", "not done", "raised"  # kinds of a problem
UNFINISHED = "did not end within"  # in the text of an experiment that was stopped

# What an exception's text means, with the hint. The first that fits is used.
MESSAGES = (
    (r"^TODO ", "write this TODO"),
    (
        r"SyntaxError|IndentationError|TabError",
        "Python cannot read that line: look there, and one line above, for a missing bracket, "
        "colon or quote, or for wrong indentation",
    ),
    (
        UNFINISHED,
        "look there for a loop that never ends, such as `while True` without a `break`",
    ),
    (
        r"\((\d+)x28 and (784|794)x\d+\)",
        "flatten the image before the first linear layer: x.flatten(1) is (B, 784)",
    ),
    (
        r"\(\d+x784 and 794x\d+\)",
        "the label is missing: append it as 10 numbers, one-hot, to the image",
    ),
    (
        r"\(\d+x(\d+) and (\d+)x\d+\)",
        "the layer expects another width than it gets; is something appended that the layer does "
        "not know of, or a label missing?",
    ),
    (
        r"Expected all tensors to be on the same device|CUDA|cuda|NVIDIA",
        "do not name a device; make new tensors on the device of the inputs: device=x.device",
    ),
    (
        r"before Module.__init__",
        "begin __init__ with super().__init__()",
    ),
    (
        r"view size is not compatible",
        "use reshape or flatten instead of view",
    ),
    (
        r"shape '.*' is invalid for input of size",
        "a number is fixed there that depends on the batch; let -1 or x.shape[0] stand for B only",
    ),
    (
        r"has no attribute '(\w+)'",
        "make it in __init__ and assign it to self, with the same name",
    ),
    (
        r"returned .+; expected a tensor",
        "keep it a tensor: no float(), .item(), .tolist() or .numpy()",
    ),
    (
        r"not callable|takes \d+ positional|unexpected keyword|missing \d+ required",
        "compare the method's arguments with those in the handout's submission.py",
    ),
    (
        r"one_hot is only applicable|Class values must be|expected.*(Long|int64)",
        "labels are int64 (B,): F.one_hot(labels, 10).float()",
    ),
    (
        r"Dimension out of range|too many indices|number of dimensions|must match|Sizes of tensors",
        "print the shapes there: x is (B, 1, 28, 28), labels are (B,), codes are (B, latent_dim)",
    ),
    (
        r"more than 1 value per channel",
        "BatchNorm cannot train on one image; it works in evaluation, so call model.eval() there",
    ),
)
ELSE = "the message names the operation that failed"


@dataclass(frozen=True)
class Problem:
    """What is wrong, and where to look.

    Attributes:
        kind: the same for the same mistake in VAE and in GenModel, which costs points once.
        text: what was found; a clause without a full stop.
        hint: what to do about it; a clause without a full stop.
    """

    kind: str
    text: str
    hint: str


def raised(text: str) -> Problem:
    """Return the problem of an experiment that raised an exception, with a hint for its text."""
    kind = NOT_DONE if text.startswith("TODO ") else f"{RAISED}: {text}"
    hint = next((hint for pattern, hint in MESSAGES if re.search(pattern, text)), ELSE)
    return Problem(kind, text, hint)


def untested(first: str) -> Problem:
    """Return the problem of a check that needs something else first."""
    return Problem(UNTESTED, f"cannot be tested before {first}", f"go on with {first}")

"""How alike the code of two submissions is, apart from what everybody may share.

What a student has written is parsed by another process, `syntax.py`, which has limits. What every
student gets (the handout, model.py, the zoo) or may read here (the reference solution) is the
baseline, and does not count. Of the rest, a fingerprint counts less the more students have it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lab import ROOT
from staff.integrity import syntax
from staff.integrity.sites import Site

BASELINE = ("submission.py", "model.py", "zoo/*.py")
MAX_BYTES = 200_000  # of a file that is compared; flags.of_files reports larger ones
SECONDS = 30
# Alike above this share of the rarer of the two codes, by weight. `benchmarks/integrity.py`
# measures it: independent solutions reach 0.55, copies in all disguises are above 0.7.
ALIKE = 0.6
LEAST_SHARED = 20  # fingerprints; fewer say nothing
LEAST_OWN = 30  # fingerprints beyond the baseline; with fewer, the code is the baseline's


@dataclass(frozen=True)
class Code:
    """What is compared of one submission file.

    Attributes:
        sha256: of the file.
        digest: of its syntax tree; see `lab.code_digest`. "" if the file could not be parsed.
        prints: for each fingerprint, the lines that it is on: (first, last) pairs.
        problem: why the file could not be compared; "" otherwise.
        lines: of the file; empty for a submission of an earlier year.
        sites: places that questions can be asked about.
    """

    sha256: str
    digest: str = ""
    prints: Mapping[int, list[tuple[int, int]]] = field(default_factory=dict)
    problem: str = ""
    lines: tuple[str, ...] = ()
    sites: tuple[Site, ...] = ()

    @functools.cached_property  # asked for in every pair of submissions
    def own(self) -> frozenset[int]:
        """The fingerprints that are not in the baseline."""
        return frozenset(self.prints) - baseline()

    @property
    def is_baseline(self) -> bool:
        """Whether there is next to nothing in it that is not in the baseline."""
        return not self.problem and len(self.own) < LEAST_OWN


def read_code(content: bytes) -> Code:
    """Return what is compared of a submission file. Its faults are in `problem`, not raised."""
    sha256 = hashlib.sha256(content).hexdigest()
    if len(content) > MAX_BYTES:
        return Code(sha256, problem=f"has more than {MAX_BYTES:,} bytes")
    answer = _parsed(content)
    if "error" in answer:
        return Code(sha256, problem=str(answer["error"])[:200])
    prints: dict[int, list[tuple[int, int]]] = {}
    for value, first, last in answer["prints"]:
        prints.setdefault(value, []).append((first, last))
    lines = tuple(content.decode("utf-8-sig").splitlines())
    sites = tuple(Site(**{**one, "sizes": tuple(one["sizes"])}) for one in answer["sites"])
    return Code(sha256, answer["digest"], prints, lines=lines, sites=sites)


def _parsed(content: bytes) -> dict[str, Any]:
    """Run syntax.py on a file, and return its answer or an "error"."""
    words = [sys.executable, "-I", "-S", syntax.__file__, str(ROOT)]
    try:
        done = subprocess.run(words, input=content, capture_output=True, timeout=SECONDS, env={})
        answer = json.loads(done.stdout)
        if "error" not in answer:
            str(answer["digest"]), [(int(a), int(b), int(c)) for a, b, c in answer["prints"]]
            [Site(**one) for one in answer["sites"]]
        return answer
    except subprocess.TimeoutExpired:
        return {"error": "takes too long to be parsed"}
    except (ValueError, KeyError, TypeError):  # the parser itself ended
        return {"error": "is nested too deeply or takes too long to be compared"}


@functools.cache
def baseline() -> frozenset[int]:
    """Return the fingerprints of what everybody may share."""
    files = [file for pattern in BASELINE for file in sorted(ROOT.glob(pattern))]
    prints = (syntax.prints_of(file.read_text(encoding="utf-8")) for file in files)
    return frozenset(value for own in prints for value, _, _ in own)


class Rarity:
    """How much each fingerprint counts: the logarithm of one over the share of codes that have it.

    codes: the own fingerprints of every submission of the class.
    """

    def __init__(self, codes: Iterable[Collection[int]]) -> None:
        all_codes = list(codes)
        self.number = len(all_codes)
        self.having = Counter(value for own in all_codes for value in set(own))

    def weight(self, values: Collection[int]) -> float:
        """Return the sum of the weights of fingerprints; those of earlier years count fully."""
        number = max(self.number, 2)
        return sum(math.log((number + 1) / max(self.having[value], 1)) for value in values)

    def likeness(self, one: frozenset[int], other: frozenset[int]) -> float:
        """Return which share of the smaller code is in the other one too, 0 to 1, by weight.

        0 if they have too few fingerprints in common to say anything.
        """
        shared = one & other
        if len(shared) < LEAST_SHARED:
            return 0.0
        return self.weight(shared) / max(min(self.weight(one), self.weight(other)), 1e-9)


def shared_lines(code: Code, shared: Collection[int]) -> set[int]:
    """Return the numbers of the lines of a code that hold shared fingerprints."""
    spans = [span for value in shared for span in code.prints.get(value, [])]
    return {line for first, last in spans for line in range(first, last + 1)}

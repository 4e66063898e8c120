"""Judge what vae_loss returned, from its recording alone.

The loss is  mean over the batch of  ||x - recon_x||^2 / (2 var) + KL(q(z|x) || N(0, I)).
With mu = 0 and log_var = 0 the KL term is 0, and with recon_x = x the reconstruction term is 0. So
each term is measured alone, and a mistake in one does not hide or cause another:

    KL term of one image = sum over dimensions of  a mu^2 + b exp(log_var) + c log_var + constant

with a = b = 1/2, c = -1/2 and the constant -1/2. The numbers a, b and c are fitted to the measured
values.
"""

from __future__ import annotations

import numpy as np

from lab.checks.found import Problem, raised
from lab.checks.recording import KL_DRAWS, PIXELS, VARS, Recording, Setting, loss_inputs
from lab.checks.seen import Checked

NAME = "vae_loss"
CHECKS = ("likeness", "var", "kl_terms", "kl_zero", "kl_sign", "kl_factor", "sums", "mean")
EXACT = 5e-3  # relative error of what should be equal
FITTED = 2e-4  # relative error that a fit may leave: rounding in fp32
NOTHING = 1e-4  # a term below this is missing
SUMMED = 0.05, 20.0  # a sum over pixels of another likeness than squared error, of the squared one
TERMS = ("mu^2", "exp(log_var)", "log_var")
HALVES = np.array([0.5, 0.5, -0.5])
# What a wrong KL term may hold in place of one of the terms.
OTHERS = {
    "exp(0.5 * log_var), which is sigma": lambda mu, log_var: np.expm1(0.5 * log_var),
    "exp(2 * log_var)": lambda mu, log_var: np.expm1(2 * log_var),
    "log_var^2": lambda mu, log_var: log_var**2,
    "mu": lambda mu, log_var: mu,
    "|mu|": lambda mu, log_var: np.abs(mu),
}


class LossJudge:
    """Judges vae_loss.

    Args:
        recording: what vae_loss returned.
        setting: the sizes of the recording.
    """

    def __init__(self, recording: Recording, setting: Setting) -> None:
        self.recording, self.setting = recording, setting
        self.inputs = loss_inputs(setting)

    def judge(self) -> Checked:
        """Return what is wrong, by check; None where nothing is."""
        problems = self.recording.problems
        for name in ("file", f"{NAME}.value", f"{NAME}.terms"):
            if name in problems:
                return dict.fromkeys(CHECKS, raised(problems[name]))
        found: Checked = dict.fromkeys(CHECKS)
        try:
            found["mean"] = self._mean()
            self._judge_reconstruction(found)
            self._judge_kl(found)
        except Exception:  # a value that is missing, or of an unexpected shape
            text = "what vae_loss returned cannot be judged"
            return dict.fromkeys(CHECKS, Problem("unusable", text, "return one number, a loss"))
        no_likeness = found["likeness"] is not None and found["likeness"] == found["var"]
        if no_likeness and found["kl_sign"] and found["kl_sign"] == found["kl_factor"]:
            return dict.fromkeys(CHECKS, found["likeness"])  # no term at all
        return found

    # ------------------------------------------------------------ the batch

    def _mean(self) -> Problem | None:
        shape = tuple(int(size) for size in self._values("value shape"))
        if int(np.prod(shape, dtype=int)) != 1:
            return Problem(
                "loss not one number",
                f"vae_loss returned {shape}; expected one number",
                "take the mean over the batch: .mean()",
            )
        for term, name in (("reconstruction", "distance"), ("KL", "kl")):
            if not np.isfinite(self._values(f"{name} twice") - self._values("zero twice")):
                words = "the loss of some batches is not finite"
                return Problem("not finite", words, "look for a logarithm or a division by zero")
            if self._summed(term):
                return Problem(
                    "loss summed over the batch",
                    f"the {term} term of the same images twice is twice as large: it is summed "
                    "over the batch",
                    "take the mean over the batch, so that --lr means the same at any batch size",
                )
        return None

    def _summed(self, term: str) -> bool:
        """Return whether a term grows with the number of images, instead of being their mean."""
        name = "distance" if term == "reconstruction" else "kl"
        once = self._values(name)[0] - self._values("zero")
        twice = self._values(f"{name} twice") - self._values("zero twice")
        return bool(abs(once) > NOTHING and _close(twice / once, 2.0))

    def _per_image(self, values: np.ndarray, term: str) -> np.ndarray:
        """Return a term as the mean over the batch, even where it is summed."""
        return values / self.setting.batch if self._summed(term) else values

    # ------------------------------------------------------------ the reconstruction term

    def _judge_reconstruction(self, found: Checked) -> None:
        zero = self._values("zero")
        term = self._per_image(self._values("distance") - zero, "reconstruction")  # (4,)
        squared = np.square(self.inputs["recon"] - self.inputs["x"]).sum(axis=(2, 3, 4)).mean(1)
        if np.abs(term).max() < NOTHING or not np.isfinite(term).all():
            missing = Problem(
                "no reconstruction term",
                "the loss of a perfect reconstruction and of a poor one are the same"
                if np.isfinite(term).all()
                else "the reconstruction term is not finite",
                "add the squared error of recon_x and x, divided by 2 var",
            )
            found["likeness"] = found["var"] = missing
            return
        ratio = term / squared
        is_squared = bool(np.ptp(ratio) < EXACT * abs(ratio[0]))
        along = self._values("line") - zero
        grows = is_squared or bool((np.diff(along) > 0).all())
        if (term < 0).any() or not grows or not np.isfinite(along).all():
            found["likeness"] = Problem(
                "not a likeness",
                "the reconstruction term does not grow with the distance of recon_x from x",
                "recon_x and x may differ in shape, and then their difference pairs each image "
                "with all others; reshape both to (B, 784). Check the sign, too",
            )
            return
        if not self._values("gradient")[0] > 0:
            found["likeness"] = Problem(
                "no gradient",
                "no gradient flows from the reconstruction term to recon_x",
                "remove .detach(), .item() and torch.no_grad()",
            )
        scale = float(ratio[0])  # 1 for the sum of squares divided by 2 var, with var = 0.5
        averaged = scale < 0.5 if is_squared else scale < SUMMED[0]
        if averaged:
            found["sums"] = Problem(
                "averaged over pixels",
                f"the reconstruction term is {1 / max(scale, 1e-9):.0f} times too small, as if "
                f"averaged over the {PIXELS} pixels",
                'sum over the pixels: (x - recon_x).square().sum(dim=1), or reduction="none"',
            )
            scale *= PIXELS
        found["var"] = self._var(scale if is_squared else 1.0)

    def _var(self, scale: float) -> Problem | None:
        """Return what is wrong with the division by 2 var.

        scale: the term at var = 0.5, divided by the right one.
        """
        by_var = self._values("by_var")
        powers = np.log(by_var[1:] / by_var[0]) / np.log(VARS[0] / np.array(VARS[1:]))
        hint = "divide the squared error by 2 * var"
        if not np.isfinite(powers).all() or np.ptp(powers) > 0.02:
            return Problem("var", "the reconstruction term is not divided by var", hint)
        power = float(powers.mean())
        if abs(power) < 0.02:
            words = "var has no effect on the reconstruction term, so --var does nothing"
            return Problem("var", words, hint)
        if abs(power - 1) > 0.02:
            words = f"the reconstruction term is divided by var to the power {power:.2g}"
            return Problem("var", words, f"var is sigma^2 already: {hint}")
        if not _close(scale, 1.0):
            words = f"the reconstruction term is {scale:.3g} times what it should be"
            return Problem("var", words, hint)
        return None

    # ------------------------------------------------------------ the KL term

    def _judge_kl(self, found: Checked) -> None:
        zero = float(self._values("zero"))
        kl = self._per_image(self._values("kl") - zero, "KL")  # (KL_DRAWS,)
        if not np.isfinite(kl).all() or np.abs(kl).max() < NOTHING:
            missing = Problem(
                "no KL term",
                "the loss does not depend on mu and log_var"
                if np.isfinite(kl).all()
                else "the KL term is not finite",
                "add the KL divergence of N(mu, sigma^2) from N(0, I), summed over dimensions",
            )
            for name in ("kl_terms", "kl_zero", "kl_sign", "kl_factor"):
                found[name] = missing
            return
        numbers, words = self._fitted(kl)
        largest = float(np.abs(numbers).max())
        negative = _proportional(numbers, -HALVES)
        if negative or numbers[0] < -NOTHING and not _proportional(numbers, HALVES):
            found["kl_sign"] = Problem(
                "KL sign",
                "the KL term has the wrong sign: the loss falls when codes move away from N(0, I)",
                "KL = -0.5 * sum(1 + log_var - mu^2 - exp(log_var)); mind the minus in front",
            )
        right = negative or _proportional(numbers, HALVES)
        if not right or words:
            found["kl_terms"] = Problem(
                "KL terms",
                f"per dimension, the KL term is {_formula(numbers)}{words}",
                "expected 0.5 mu^2 + 0.5 exp(log_var) - 0.5 log_var - 0.5",
            )
            if (np.abs(numbers) > 0).sum() < 2:  # next to nothing of the divergence
                for name in ("kl_zero", "kl_sign", "kl_factor"):
                    found[name] = found["kl_terms"]
                return
            if negative is False and found["kl_sign"] and not _proportional(-numbers, HALVES, 0.3):
                found["kl_sign"] = None  # one mistake: a term, not the sign of them all
        elif not (self._values("gradient")[1:] > 0).all():
            found["kl_terms"] = Problem(
                "no gradient",
                "no gradient flows from the KL term to mu and log_var",
                "remove .detach(), .item() and torch.no_grad()",
            )
        if right:
            self._judge_scale(largest, found)
        rest = abs(self._per_image(np.array(zero), "KL")) / (largest * self.setting.latent_dim)
        if rest > 0.01 and found["likeness"] is None and found["kl_terms"] is None:
            found["kl_zero"] = Problem(
                "KL at zero",
                f"for recon_x = x, mu = 0 and log_var = 0 the loss is {zero:.3g}; expected 0",
                "the divergence of N(0, I) from itself is 0: is the 1 in the formula missing?",
            )

    def _judge_scale(self, largest: float, found: Checked) -> None:
        """Judge the factor of the whole KL term, 1/2, and whether dimensions are summed.

        largest: the fitted factor of mu^2, without its sign.
        """
        factor, d = 2 * largest, self.setting.latent_dim
        for count, of in ((d, f"the {d} latent dimensions"), (PIXELS, f"{PIXELS} numbers")):
            for times in (1.0, 2.0):
                if _close(factor * count, times):
                    found["sums"] = found["sums"] or Problem(
                        "averaged over dimensions",
                        f"the KL term is averaged over {of}; expected their sum",
                        "sum over the latent dimensions: .sum(dim=1)",
                    )
                    factor *= count
        if not _close(factor, 1.0):
            doubled = _close(factor, 2.0)
            hint = "the factor 1/2 is missing" if doubled else "check the factor 1/2"
            found["kl_factor"] = Problem(
                "KL factor", f"the KL term is {factor:.3g} times what it should be", hint
            )

    def _fitted(self, kl: np.ndarray) -> tuple[np.ndarray, str]:
        """Fit the factors of mu^2, exp(log_var) and log_var to values of the KL term.

        kl: (KL_DRAWS,). Returns the factors, and words on what the term holds besides; "" if
        these three terms explain it.
        """
        mu, log_var = self.inputs["kl"]
        usual = [mu**2, np.expm1(log_var), log_var]  # each 0 for N(0, I)
        features = np.stack([part.sum(axis=2).mean(axis=1) for part in usual], axis=1)  # (n, 3)
        numbers, rest = _least_squares(features, kl)
        if rest < FITTED:
            return np.where(np.abs(numbers) < EXACT * np.abs(numbers).max(), 0, numbers), ""
        for name, of in OTHERS.items():
            extra = of(mu, log_var).sum(axis=2).mean(axis=1)  # (KL_DRAWS,)
            more, rest = _least_squares(np.column_stack([features, extra]), kl)
            if rest < FITTED:
                more = np.where(np.abs(more) < EXACT * np.abs(more).max(), 0, more)
                return more[:3], f" + {more[3]:.3g} {name}"
        assert len(kl) == KL_DRAWS
        return numbers, " + something else"

    def _values(self, name: str) -> np.ndarray:
        return self.recording.arrays[f"{NAME}.{name}"].astype(np.float64)


def _least_squares(features: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the factors that fit best, and the relative size of what they leave."""
    numbers = np.linalg.lstsq(features, values, rcond=None)[0]
    rest = np.linalg.norm(features @ numbers - values) / np.linalg.norm(values)
    return numbers, float(rest)


def _proportional(a: np.ndarray, b: np.ndarray, error: float = 0.02) -> bool:
    """Return whether a is b times a positive number."""
    factor = float(a @ b) / float(b @ b)
    return factor > 0 and bool(np.abs(a - factor * b).max() < error * factor)


def _formula(numbers: np.ndarray) -> str:
    """Return the fitted terms in words: 0.5 mu^2 + 0.5 exp(log_var) - 0.5 log_var."""
    signed = [f"{'-' if n < 0 else '+'} {abs(n):.3g} {t}" for n, t in zip(numbers, TERMS) if n]
    return " ".join(signed).removeprefix("+ ") or "0"


def _close(a: float, b: float) -> bool:
    return bool(abs(a - b) < EXACT * abs(b))

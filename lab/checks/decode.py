"""Judge what decode returned."""

from __future__ import annotations

import numpy as np

from lab.checks.found import Problem, raised
from lab.checks.recording import IMAGE_SHAPES, NEAR_END
from lab.checks.seen import CONSTANT_IMAGES, NO_GRADIENT, Checked, Seen, near

IN_RANGE = 1e-3  # how far outside [0, 1] a pixel may lie
AMOUNT = 0.93  # correlation of labels' distances and images' distances, if labels are amounts


class DecodeJudge(Seen):
    """Judges the TODO of decode, 2.2.3 and 3.3."""

    def judge(self) -> Checked:
        """Return what is wrong, by check; None where nothing is."""
        shapes, in_range = self.attempt(self.shapes_of_images), self.attempt(self.range)
        found = {
            "rows": self.attempt(self.rows_of_images),
            "repeats": self.attempt(self.decode_repeats),
        }
        if self.name == "VAE":
            return {"shapes": shapes, "range": in_range, **found}
        return {
            "shapes": shapes or in_range,
            "label": self.attempt(self.label),
            "category": self.attempt(self.category),
            **found,
        }

    def shapes_of_images(self) -> Problem | None:
        """Images have one of the allowed shapes, for many codes and for one."""
        for name, count in (("decode.images", self.setting.batch), ("decode.one", 1)):
            shape = self.shape(name)
            if shape is None:
                problem = self.missing("decode" if name == "decode.images" else name)
                words = "" if count > 1 else "for one code: "
                return Problem(problem.kind, words + problem.text, problem.hint)
            allowed = [(count, *one) for one in IMAGE_SHAPES]
            if shape not in allowed:
                return Problem(
                    "shape of images",
                    f"decode gives {shape} for {count} codes; expected "
                    f"{allowed[0]}, {allowed[1]} or {allowed[2]}",
                    "one image per code; avoid squeeze() and fixed batch sizes",
                )
        if self.array("decode.far") is None:
            return self.missing("decode.far")
        return None

    def range(self) -> Problem | None:
        """Pixels lie in [0, 1], and training can bring them near 0 and near 1."""
        images, far = self.array("decode.images"), self.array("decode.far")
        if images is None or far is None:
            return self.missing("decode")
        both = np.concatenate([images.ravel(), far.ravel()])
        if not np.isfinite(both).all():
            return Problem(
                "images not finite",
                "pixels are not finite",
                "look for a division by zero or an exp of a large number",
            )
        low, high = float(both.min()), float(both.max())
        if low < -IN_RANGE or high > 1 + IN_RANGE:
            return Problem(
                "images out of range",
                f"pixels lie in [{low:.3g}, {high:.3g}]; expected [0, 1]",
                "end the decoder with a sigmoid",
            )
        dark, bright = self.array("decode.dark"), self.array("decode.bright")
        darkest = low if dark is None else float(dark)
        brightest = high if bright is None else float(bright)
        if not (darkest <= NEAR_END and brightest >= 1 - NEAR_END):
            for name in ("decode.dark", "decode.bright"):  # training raised, or did not end in time
                if text := self.recording.problems.get(f"{self.name}.{name}"):
                    return raised(text)
            return Problem(
                "images confined",
                f"training moves pixels only between {darkest:.2f} and {brightest:.2f}; they must "
                "come near 0 and 1",
                "one sigmoid at the end is enough: two leave pixels between 0.5 and 0.73",
            )
        return None

    def rows_of_images(self) -> Problem | None:
        """The image of a code depends on this code alone."""
        images, one = self.array("decode.images"), self.array("decode.one")
        far = self.array("decode.far")
        if images is None or far is None:
            return self.missing("decode")
        if len(np.atleast_1d(images)) != self.setting.batch:
            return None  # counted by shapes_of_images
        if far.shape != images.shape:
            return self.missing("decode.far")
        images, far = (array.reshape(self.setting.batch, -1) for array in (images, far))
        if np.abs(far - far[:1]).max() < 1e-6 and np.abs(images - images[:1]).max() < 1e-6:
            return Problem(
                CONSTANT_IMAGES,
                "all codes have the same image",
                "the image must depend on z: does z reach the last layer?",
            )
        if self.differs("decode"):
            return None  # counted by decode_repeats
        if one is None or one.size != images.shape[1]:
            return None if self.shapes_of_images() else self.missing("decode.one")
        if not near(images[1], one.ravel()):
            return Problem(
                "images mixed",
                "the image of a code depends on the other codes in the batch",
                "in decode, nothing may mix the rows of a batch (dim 0)",
            )
        return None

    def decode_repeats(self) -> Problem | None:
        """The same codes give the same images, z is unchanged, and gradients flow."""
        if self.shape("decode.images") is None:
            return self.missing("decode")
        if problem := self.moved("decode", "z"):
            return problem
        if self.array("decode.again") is None:
            return self.missing("decode.again")
        if self.differs("decode") and not self.makes_layers():
            return Problem(
                "decode draws",
                "two calls with the same codes give different images, in evaluation mode",
                "decode draws nothing; use nn.Dropout, which knows model.eval()",
            )
        gradient = self.array("decode.gradient")
        if gradient is None or not np.isfinite(gradient).all():
            return self.missing("decode.gradient")
        if not gradient.any() and not self.is_constant("decode.far"):
            return Problem(
                NO_GRADIENT,
                "no gradient flows from the images to z",
                "remove .detach(), .item(), .data and torch.no_grad()",
            )
        return None

    def label(self) -> Problem | None:
        """One code has different images for different labels."""
        images = self.array("decode.labels")
        if images is None:
            return self.missing("decode.labels")
        if np.abs(images - images[:1]).max() < 1e-6:
            return Problem(
                "label ignored",
                "decode gives the same image for every label",
                "append the label, one-hot or embedded, to z",
            )
        return None

    def category(self) -> Problem | None:
        """Labels that are near as numbers are not more alike than others."""
        images = self.array("decode.labels")
        if images is None:
            return self.missing("decode.labels")
        if problem := self.label():
            return problem
        rows = images.reshape(len(images), -1)
        first, second = np.triu_indices(len(rows), 1)
        distances = np.linalg.norm(rows[first] - rows[second], axis=1)
        if np.corrcoef(distances, second - first)[0, 1] > AMOUNT:
            return Problem(
                "label as an amount",
                "images of labels that are near as numbers are alike: 3 and 4 more than 3 and 8",
                "a label is a category: use F.one_hot(labels, 10) or an embedding",
            )
        return None

"""Questions for the oral defence of a submission: templates, each with a condition.

A template is a function of the facts of one submission. It returns a question where its condition
holds, with the answer that was measured or follows from the student's own line, and what to expect
of a student who did the work. No language model is used. Every text is in English and Chinese.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lab.checks.model import NUMBERS
from staff.integrity.sites import Site
from staff.statuses import TASKS

ASKED = 5
MOST_OF_TOPIC = 2
WITH_LINE = 2  # questions on a line of the student's, where there are as many
WEAK, ACTIVE = 0.05, 0.1  # nats: below the one a dimension tells next to nothing
UNSEEN = 1e-5  # mse: a dimension that changes the image by less has no effect on it
IGNORED = 0.1  # of the effect of the strongest dimension: a weak one with more is not ignored
NARROW = 0.5  # sigma: a posterior below it is much narrower than N(0, 1)
FAST = 0.03  # relative fall in an epoch
ROSE = 0.002  # relative rise of the validation loss that is asked about
BLOCK = re.compile(r"(?:class|def)\s+(\w+)")  # at the beginning of a line
CLASS_OF_TASK = dict(zip(TASKS, NUMBERS))  # VAE and GenModel
CODES, LOSS, TRAINING, SCORES, LAYERS = "codes", "loss", "training", "scores", "layers"


@dataclass(frozen=True)
class Facts:
    """What is known of one task of a submission.

    Attributes:
        task: VAEwolabel or Genwithlabel.
        lines: of submission.py.
        sites: places in it.
        settings: of the training.
        history: one row per validation.
        figures: see `measure_stage.run`; {} if the model could not be measured.
        per_label: the scores of each label from grading; [] if it was not graded.
    """

    task: str
    lines: Sequence[str]
    sites: Sequence[Site]
    settings: Mapping[str, Any]
    history: Sequence[Mapping[str, float]]
    figures: Mapping[str, Any] = field(default_factory=dict)
    per_label: Sequence[Mapping[str, Any]] = ()

    def of_kind(self, kind: str) -> list[Site]:
        """Return the places of a kind, those in the task's class first.

        Those in the other task's class are left out, unless the task's class inherits from it.
        """
        own = CLASS_OF_TASK[self.task]
        header = next((one for one in self.lines if re.match(rf"class\s+{own}\b", one)), "")
        others = {name for name in CLASS_OF_TASK.values() if name not in header}
        blocks = [(self._block_of(site), site) for site in self.sites if site.kind == kind]
        found = [(block != own, site) for block, site in blocks if block not in others]
        return [site for _, site in sorted(found, key=lambda one: one[0])]

    def first(self, kind: str) -> int:
        """Return the line of the first place of a kind; 0 for none."""
        return next((site.line for site in self.of_kind(kind)), 0)

    def _block_of(self, site: Site) -> str:
        """Return the name of the class or function at the top of the file that a place is in."""
        for line in reversed(self.lines[: site.line]):
            if match := BLOCK.match(line):
                return match[1]
        return ""


@dataclass(frozen=True)
class Text:
    """A text in both languages."""

    en: str
    zh: str


@dataclass(frozen=True)
class Question:
    """A question to one student.

    Attributes:
        topic: what it is about; at most MOST_OF_TOPIC are asked of one.
        weight: how much it tells; the greatest are asked.
        asked: the question.
        answer: what was measured, or follows from the line.
        expect: what a student who did the work says.
        line: number of the line that it quotes; 0 for none.
    """

    topic: str
    weight: int
    asked: Text
    answer: Text
    expect: Text
    line: int = 0


Template = Callable[[Facts], "Question | None"]


def questions(facts: Facts, before: Sequence[Question] = ()) -> list[Question]:
    """Return at most ASKED questions whose condition holds, the most telling first.

    Two of them quote a line, where there are as many.

    before: questions on the other task of the same student, which are not asked in the same words.
    """
    known = {question.asked for question in before}
    found = [question for template in TEMPLATES if (question := template(facts))]
    found = [question for question in found if question.asked not in known]
    found.sort(key=lambda question: -question.weight)
    chosen: list[Question] = []

    def take(some: Iterable[Question], most: int) -> None:
        for one in some:
            of_topic = sum(other.topic == one.topic for other in chosen)
            if len(chosen) < most and one not in chosen and of_topic < MOST_OF_TOPIC:
                chosen.append(one)

    take((one for one in found if one.line), WITH_LINE)
    take(found, ASKED)
    return sorted(chosen, key=lambda question: -question.weight)


# ---------------------------------------------------------------- the codes


def weakest_dimension(facts: Facts) -> Question | None:
    """Asked where a dimension has a KL below WEAK and hardly an effect, and another one is used."""
    kl, effect = _vectors(facts, "kl", "effect")
    if not kl or min(kl) > WEAK or max(kl) < ACTIVE:
        return None
    weak, strong = kl.index(min(kl)), kl.index(max(kl))
    low, high = effect[weak], effect[strong]
    if high < UNSEEN or low > IGNORED * high:
        return None
    return Question(
        CODES,
        9,
        Text(
            f"Dimension {weak} of your code has a KL of {kl[weak]:.3f} nats. What does the decoder "
            "do with it?",
            f"你的编码中第 {weak} 维的 KL 只有 {kl[weak]:.3f} nat。解码器怎样使用这一维？",
        ),
        Text(
            f"Moving z_{weak} from -2 to 2 changes the image by an mse of {low:.6f}; z_{strong}, "
            f"with a KL of {kl[strong]:.2f}, changes it by {high:.6f}.",
            f"把 z_{weak} 从 -2 移到 2，图像变化的 mse 为 {low:.6f}；而 KL 为 {kl[strong]:.2f} 的 "
            f"z_{strong} 使图像变化 {high:.6f}。",
        ),
        Text(
            "Next to nothing. Its posterior is N(0, 1) for every image, so it tells nothing about "
            "the image, and the decoder has learnt to ignore it. It costs no KL either.",
            "几乎不用。对每幅图像，它的后验都接近 N(0, 1)，不含图像的信息，解码器学会了忽略它；"
            "它也几乎不增加 KL。",
        ),
    )


def strongest_dimension(facts: Facts) -> Question | None:
    """Asked where all dimensions are used."""
    kl, effect, sigma = _vectors(facts, "kl", "effect", "sigma")
    if len(kl) < 2 or min(kl) <= WEAK or max(effect) < UNSEEN:
        return None
    strong = kl.index(max(kl))
    narrower = ("much narrower", "窄得多") if sigma[strong] < NARROW else ("narrower", "窄")
    return Question(
        CODES,
        6,
        Text(
            f"Which of your {len(kl)} dimensions tells most about the image? What is its posterior "
            "like, beside N(0, 1)?",
            f"你的 {len(kl)} 个维度中，哪一维包含的图像信息最多？与 N(0, 1) 相比，它的后验是什么样的？",
        ),
        Text(
            f"Dimension {strong}: KL {kl[strong]:.2f} nats, mean sigma {sigma[strong]:.3f}, and from "
            f"-2 to 2 it changes the image by an mse of {effect[strong]:.5f}.",
            f"第 {strong} 维：KL 为 {kl[strong]:.2f} nat，sigma 平均为 {sigma[strong]:.3f}；从 -2 到 2，"
            f"图像变化的 mse 为 {effect[strong]:.5f}。",
        ),
        Text(
            f"The one with the largest KL. Its posterior is {narrower[0]} than the prior, and its "
            "mean differs from image to image.",
            f"KL 最大的一维。它的后验比先验{narrower[1]}，均值随图像而变。",
        ),
    )


def unused_dimensions(facts: Facts) -> Question | None:
    """Asked where at least a quarter of the dimensions is hardly used."""
    kl, effect = _vectors(facts, "kl", "effect")
    used = sum(one > ACTIVE for one in kl)
    if not used or max(effect) < UNSEEN or len(kl) - used < len(kl) / 4:
        return None
    return Question(
        CODES,
        7,
        Text(
            f"You chose latent_dim {len(kl)}. How many dimensions does the model use, and what would "
            "a smaller latent_dim cost or gain?",
            f"你选的 latent_dim 是 {len(kl)}。模型实际用到多少维？如果把 latent_dim 改小，会有什么得失？",
        ),
        Text(
            f"{used} of {len(kl)} have a KL above {ACTIVE} nats; the sum of all is {sum(kl):.1f} nats.",
            f"{len(kl)} 维中有 {used} 维的 KL 大于 {ACTIVE} nat；所有维之和为 {sum(kl):.1f} nat。",
        ),
        Text(
            f"About {used} would give nearly the same reconstructions, and a higher compression "
            "bonus. With fewer, the reconstructions get worse.",
            f"取大约 {used} 维，重建几乎不变，而压缩加分更高；再少，重建就会变差。",
        ),
    )


def ignored_code(facts: Facts) -> Question | None:
    """Asked where the code tells something and the decoder does not use it."""
    kl, effect = _vectors(facts, "kl", "effect")
    if not kl or max(kl) < ACTIVE or max(effect) >= UNSEEN:
        return None
    return Question(
        CODES,
        10,
        Text(
            f"Your codes have a KL of {sum(kl):.1f} nats. What does the decoder do with z?",
            f"你的编码共有 {sum(kl):.1f} nat 的 KL。解码器用 z 做了什么？",
        ),
        Text(
            "Nothing: whichever dimension moves from -2 to 2, the image changes by an mse of at most "
            f"{max(effect):.6f}.",
            f"什么也没做：无论哪一维从 -2 移到 2，图像变化的 mse 都不超过 {max(effect):.6f}。",
        ),
        Text(
            "z does not reach the image: it is multiplied by 0, detached, or not passed on. Then the "
            "KL is a price for nothing, and training would bring it to 0.",
            "z 没有传到图像：它被乘以 0、被 detach，或者根本没有用上。这样 KL 只是白付的代价，"
            "继续训练会降到 0。",
        ),
    )


def collapsed(facts: Facts) -> Question | None:
    """Asked where no dimension is used."""
    (kl,) = _vectors(facts, "kl")
    if not kl or max(kl) > ACTIVE:
        return None
    return Question(
        CODES,
        9,
        Text(
            "How much does your code tell about the image, and what do the reconstructions of two different digits look like?",
            "你的编码包含多少图像的信息？两个不同数字的重建图像看起来怎样？",
        ),
        Text(
            f"The KL of all {len(kl)} dimensions together is {sum(kl):.2f} nats; none has more than {ACTIVE}.",
            f"全部 {len(kl)} 维的 KL 之和只有 {sum(kl):.2f} nat，没有一维超过 {ACTIVE}。",
        ),
        Text(
            "Next to nothing: the posterior has collapsed to the prior, and all reconstructions are nearly the same blurred mean. A longer training, a smaller var or a weaker KL at the beginning help.",
            "几乎没有：后验已坍缩到先验，所有重建都接近同一幅模糊的平均图像。延长训练、减小 var，或在开始时减弱 KL 会有帮助。",
        ),
    )


# ---------------------------------------------------------------- the loss


def sum_or_mean(facts: Facts) -> Question | None:
    """Asked where one sum on a line of vae_loss is one of the two terms."""
    lines = [site.line for site in facts.of_kind("sum")]
    places = [site for site in facts.of_kind("sum") if lines.count(site.line) == 1]
    (kl,) = _vectors(facts, "kl")
    error = _number(facts.figures.get("squared_error"))
    if not places or not kl or error is None:
        return None
    place = next((site for site in places if site.detail == "kl"), places[0])
    var = _number(facts.settings.get("var")) or 0.5
    recon, total = error / (2 * var), sum(kl)
    count = len(kl) if place.detail == "kl" else 784
    after = (recon, total / count) if place.detail == "kl" else (recon / count, total)
    term = ("KL", "KL 项") if place.detail == "kl" else ("reconstruction term", "重建项")
    return Question(
        LOSS,
        8,
        Text(
            f"Line {place.line}: what would change if the sum were a mean?",
            f"第 {place.line} 行：如果把求和改成求平均，会有什么变化？",
        ),
        Text(
            f"The {term[0]} would be divided by {count}. On the validation images the reconstruction "
            f"term is {recon:.1f} and the KL {total:.1f}; with a mean {after[0]:.2f} and "
            f"{after[1]:.2f}.",
            f"{term[1]}会被除以 {count}。在验证图像上，重建项为 {recon:.1f}，KL 为 {total:.1f}；"
            f"改成平均后分别为 {after[0]:.2f} 和 {after[1]:.2f}。",
        ),
        Text(
            "It is not a matter of scale alone: the balance of the two terms changes. "
            + (
                "A KL that weighs less gives better reconstructions and worse samples."
                if place.detail == "kl"
                else "The KL wins: the posterior becomes the prior, and all images look alike."
            ),
            "这不只是尺度的变化，两项的比例变了。"
            + (
                "KL 的权重变小，重建变好，而生成的样本变差。"
                if place.detail == "kl"
                else "KL 会占上风：后验退化为先验，重建的图像都一样。"
            ),
        ),
        place.line,
    )


def batch_mean(facts: Facts) -> Question | None:
    """Asked where vae_loss returns a mean."""
    places = facts.of_kind("mean")
    size = facts.settings.get("batch_size")
    if not places or not isinstance(size, int):
        return None
    line = places[-1].line
    return Question(
        LOSS,
        4,
        Text(
            f"Line {line}: what would change in the training if this were a sum over the batch?",
            f"第 {line} 行：如果这里改成对整个 batch 求和，训练会有什么变化？",
        ),
        Text(
            f"Loss and gradients would be {size} times as large, your batch size, and the last batch "
            "of an epoch would count less than the others.",
            f"损失和梯度会变成原来的 {size} 倍（你的 batch_size），而每个 epoch 最后的 batch 较小，"
            "所占的比重也更小。",
        ),
        Text(
            "The minimum stays where it is. Adam divides by the size of the gradients, so its steps "
            "are nearly the same; with SGD the learning rate would have to be smaller.",
            "最小值的位置不变。Adam 会除以梯度的大小，所以步长几乎不变；用 SGD 就要减小学习率。",
        ),
        line,
    )


def half_of_log_var(facts: Facts) -> Question | None:
    """Asked where a line takes exp of half of log_var."""
    places = facts.of_kind("exp")
    (sigma,) = _vectors(facts, "sigma")
    if not places or not sigma:
        return None
    line, mean = places[0].line, math.fsum(sigma) / len(sigma)
    return Question(
        LOSS,
        6,
        Text(
            f"Line {line}: why half of log_var? What would the model do without the half?",
            f"第 {line} 行：为什么要把 log_var 减半？不减半会怎样？",
        ),
        Text(
            f"exp(log_var / 2) is sigma, exp(log_var) the variance. Your mean sigma is {mean:.3f}; "
            f"its square is {mean**2:.3f}.",
            f"exp(log_var / 2) 是 sigma，exp(log_var) 是方差。你的模型 sigma 平均为 {mean:.3f}，"
            f"其平方为 {mean**2:.3f}。",
        ),
        Text(
            "The noise would have another spread than the one that the KL term assumes. Training "
            "still works, but the posterior that is drawn from is not the one that is penalised.",
            "采样用的标准差就与 KL 项假设的不一致。训练仍能进行，但被采样的后验不是被惩罚的那个后验。",
        ),
        line,
    )


def weight_of_var(facts: Facts) -> Question | None:
    """Asked of every training that states var; more telling where it is not the default."""
    var = _number(facts.settings.get("var"))
    (kl,) = _vectors(facts, "kl")
    error = _number(facts.figures.get("squared_error"))
    if not var or not kl or error is None:
        return None
    return Question(
        LOSS,
        7 if var != 0.5 else 3,
        Text(
            f"You trained with var = {var:g}. What is its part in the loss, and what would half of it "
            "do?",
            f"你训练时用的 var 是 {var:g}。它在损失中起什么作用？减半会怎样？",
        ),
        Text(
            f"The squared error, {error:.1f} per image, is multiplied by 1 / (2 var) = {0.5 / var:g}: "
            f"{error / (2 * var):.1f}, beside a KL of {sum(kl):.1f} nats.",
            f"每幅图像的平方误差 {error:.1f} 乘以 1 / (2 var) = {0.5 / var:g}，得 "
            f"{error / (2 * var):.1f}；KL 为 {sum(kl):.1f} nat。",
        ),
        Text(
            "It is the decoder's variance. Half of it makes the squared error count twice as much: "
            "sharper reconstructions, a larger KL, and samples from N(0, I) that are worse.",
            "它是解码器的方差。减半后平方误差的权重加倍：重建更清晰，KL 更大，而从 N(0, I) 生成的样本更差。",
        ),
    )


# ---------------------------------------------------------------- the training


def loss_rose(facts: Facts) -> Question | None:
    """Asked where the validation loss rose after its best epoch."""
    rows = _rows(facts)
    if len(rows) < 3:
        return None
    losses = [row["valid_loss"] for row in rows]
    best = losses.index(min(losses))
    if best == len(losses) - 1 or losses[-1] - losses[best] < ROSE * abs(losses[best]):
        return None
    first, last = rows[best], rows[-1]
    train = (first.get("train_loss", math.nan), last.get("train_loss", math.nan))
    falls = train[1] < train[0]
    return Question(
        TRAINING,
        9,
        Text(
            f"Your validation loss rose after epoch {first['epoch']:g}. Why?",
            f"你的验证损失在第 {first['epoch']:g} 个 epoch 之后上升了。为什么？",
        ),
        Text(
            f"Validation: {first['valid_loss']:.2f} in epoch {first['epoch']:g}, "
            f"{last['valid_loss']:.2f} in epoch {last['epoch']:g}. Training: {train[0]:.2f}, "
            f"{train[1]:.2f}.",
            f"验证损失：第 {first['epoch']:g} 个 epoch 为 {first['valid_loss']:.2f}，第 "
            f"{last['epoch']:g} 个为 {last['valid_loss']:.2f}。训练损失：{train[0]:.2f}，{train[1]:.2f}。",
        ),
        Text(
            "The training loss still falls, so the model overfits; best.pth is of the better epoch."
            if falls
            else "The training loss does not fall either: the learning rate is too high, or the loss "
            "is noisy. It is not overfitting.",
            "训练损失仍在下降，所以是过拟合；best.pth 保存的是较好的那个 epoch。"
            if falls
            else "训练损失也没有下降：学习率太大，或损失有噪声，不是过拟合。",
        ),
    )


def loss_still_falls(facts: Facts) -> Question | None:
    """Asked where the last epoch is the best one."""
    rows = _rows(facts)
    if len(rows) < 2 or rows[-1]["valid_loss"] >= min(row["valid_loss"] for row in rows[:-1]):
        return None
    before, last = rows[-2]["valid_loss"], rows[-1]["valid_loss"]
    return Question(
        TRAINING,
        5,
        Text(
            f"Your last epoch, {rows[-1]['epoch']:g}, has the lowest validation loss. Would more "
            "epochs help, and how can you tell?",
            f"你的最后一个 epoch（第 {rows[-1]['epoch']:g} 个）验证损失最低。继续训练会有帮助吗？怎么判断？",
        ),
        Text(
            f"From {before:.3f} to {last:.3f} in the last step of the history, "
            f"{100 * (before - last) / abs(before):.2f} %.",
            f"最后一次从 {before:.3f} 降到 {last:.3f}，即 {100 * (before - last) / abs(before):.2f} %。",
        ),
        _what_more_epochs_do(before, last, facts.settings.get("lr_schedule", "cosine")),
    )


def _what_more_epochs_do(before: float, last: float, schedule: object) -> Text:
    if before - last > FAST * abs(before):
        return Text(
            "Yes: the loss still falls fast, so the training was stopped early. A new run with more --epochs is needed where the learning rate follows a schedule.",
            "会：损失仍在快速下降，训练停得太早。如果学习率按曲线变化，就要用更多的 --epochs 重新训练。",
        )
    if schedule == "cosine":
        return Text(
            "The learning rate is near zero at the end of the cosine schedule, so the curve is flat in any case; a longer run has a longer schedule, and has to be tried.",
            "cosine 学习率在最后接近零，曲线总会变平；更长的训练有更长的学习率曲线，要试了才知道。",
        )
    return Text(
        "The rate is constant, so the curve tells: while it falls, more epochs help.",
        "学习率不变，所以看曲线就知道：只要还在下降，继续训练就有用。",
    )


def gap_of_losses(facts: Facts) -> Question | None:
    """Asked where the validation loss is at least 3 % above the training loss."""
    rows = _rows(facts)
    if not rows or "train_loss" not in rows[-1]:
        return None
    train, valid = rows[-1]["train_loss"], rows[-1]["valid_loss"]
    if not train > 0 or valid < 1.03 * train:
        return None
    return Question(
        TRAINING,
        6,
        Text(
            f"At the end your training loss is {train:.2f} and your validation loss {valid:.2f}. What "
            "does the gap say, and what would make it smaller?",
            f"训练结束时，你的训练损失是 {train:.2f}，验证损失是 {valid:.2f}。差距说明什么？怎样缩小？",
        ),
        Text(
            f"The gap is {100 * (valid / train - 1):.1f} %.",
            f"差距为 {100 * (valid / train - 1):.1f} %。",
        ),
        Text(
            "The model fits its training images better than new ones. Fewer parameters, dropout, a "
            "larger var or fewer epochs make it smaller.",
            "模型对训练图像拟合得比新图像好。减少参数、用 dropout、增大 var 或减少 epoch 都能缩小差距。",
        ),
    )


def skipped_steps(facts: Facts) -> Question | None:
    """Asked where steps were skipped because a number was not finite."""
    skipped = facts.history[-1].get("skipped_steps", 0) if facts.history else 0
    lr = _number(facts.settings.get("lr"))
    if not skipped or lr is None:
        return None
    return Question(
        TRAINING,
        9,
        Text(
            f"{skipped:g} steps of your training were skipped. What happened in them?",
            f"你的训练跳过了 {skipped:g} 步。这些步里发生了什么？",
        ),
        Text(
            f"A loss or gradient was not finite; the learning rate is {lr:g}.",
            f"损失或梯度不是有限的数；学习率为 {lr:g}。",
        ),
        Text(
            "exp(log_var) overflows, or there is a logarithm of zero or a division by zero. A lower "
            "learning rate or a clamp of log_var helps.",
            "exp(log_var) 溢出，或者对零取对数、除以零。减小学习率或限制 log_var 的范围会有帮助。",
        ),
    )


# ---------------------------------------------------------------- scores and layers


def worst_label(facts: Facts) -> Question | None:
    """Asked where grading gave an ssim for every label."""
    rows = [row for row in facts.per_label if _number(row.get("ssim")) is not None]
    if len(rows) < 2:
        return None
    low, high = min(rows, key=lambda row: row["ssim"]), max(rows, key=lambda row: row["ssim"])
    if high["ssim"] - low["ssim"] < 0.01:
        return None
    return Question(
        SCORES,
        8,
        Text(
            f"By ssim, your reconstructions of the digit {low['label']} are the worst and those of "
            f"{high['label']} the best. Why?",
            f"按 ssim 衡量，你的重建中数字 {low['label']} 最差，{high['label']} 最好。为什么？",
        ),
        Text(
            f"ssim {low['ssim']:.4f} for {low['label']}, {high['ssim']:.4f} for {high['label']}; mse "
            f"{low['mse']:.5f} and {high['mse']:.5f}.",
            f"数字 {low['label']} 的 ssim 为 {low['ssim']:.4f}，{high['label']} 为 {high['ssim']:.4f}；mse "
            f"分别为 {low['mse']:.5f} 和 {high['mse']:.5f}。",
        ),
        _why_worst(low, high),
    )


def _why_worst(low: Mapping[str, Any], high: Mapping[str, Any]) -> Text:
    """Return why one label has the lowest ssim and another one the highest."""
    if low["mse"] < high["mse"]:
        return Text(
            "The mse says the opposite. It counts bright pixels, of which a thin digit has few; ssim "
            "compares contrast at each place, so a grey haze on a black background costs much.",
            "mse 的结论正好相反。mse 看的是亮的像素，笔画细的数字本来就少；ssim 逐处比较对比度，"
            "所以黑色背景上的一片灰雾会扣很多。",
        )
    one = ("; a 1 is one stroke with few pixels", "；1 只有一笔，像素很少")
    en, zh = one if high["label"] == 1 else ("", "")
    return Text(
        f"A digit with more strokes that vary more needs more of the code{en}. The labels have about "
        "equally many images, so it is not their number.",
        f"笔画多、变化大的数字需要更多的编码信息{zh}。各标签的图像数差不多，所以不是数量的原因。",
    )


def largest_layer(facts: Facts) -> Question | None:
    """Asked where a layer is made with numbers that the line states."""
    layers = facts.of_kind("layer")
    if not layers:
        return None
    place = max(layers, key=_parameters_of)
    count = _parameters_of(place)
    sizes = ", ".join(map(str, place.sizes))
    formula = {
        "Linear": "{0} x {1} weights and {1} biases",
        "Conv2d": "{0} x {1} x {2} x {2} weights and {1} biases",
        "ConvTranspose2d": "{0} x {1} x {2} x {2} weights and {1} biases",
    }[place.detail].format(*place.sizes)
    total = sum(facts.figures.get("parameters", {}).values())
    share = f", {100 * count / total:.0f} % of all {total:,}" if total else ""
    share_zh = f"，占全部 {total:,} 个的 {100 * count / total:.0f} %" if total else ""
    return Question(
        LAYERS,
        5,
        Text(
            f"Line {place.line}: what goes into {place.detail}({sizes}, ...), what comes out, and how "
            "many parameters does it have?",
            f"第 {place.line} 行：{place.detail}({sizes}, ...) 的输入和输出的形状是什么？它有多少参数？",
        ),
        Text(
            f"{formula}: {count:,} parameters (with a bias){share}.",
            f"{formula.replace(' weights and ', ' 个权重和 ').replace(' biases', ' 个偏置')}："
            f"共 {count:,} 个参数（有偏置时）{share_zh}。",
        ),
        Text(
            "The shapes with the batch first, and where the sizes come from (784 pixels, the width of "
            "a hidden layer, latent_dim, 10 labels).",
            "说出带 batch 维的形状，以及各尺寸的来历（784 个像素、隐藏层宽度、latent_dim、10 个标签）。",
        ),
        place.line,
    )


def without_activation(facts: Facts) -> Question | None:
    """Asked where encode or decode calls an activation."""
    places = facts.of_kind("activation")
    if not places:
        return None
    place, lines = places[0], ", ".join(str(one.line) for one in places)
    return Question(
        LAYERS,
        4,
        Text(
            f"Line {place.line}, in {place.where}: what could the model still learn without "
            f"{place.detail}?",
            f"第 {place.line} 行（{place.where}）：去掉 {place.detail}，模型还能学到什么？",
        ),
        Text(
            f"The model has {len(places)} activations in its methods, on lines {lines}.",
            f"模型的方法里共有 {len(places)} 处激活函数，在第 {lines} 行。",
        ),
        Text(
            "Two linear layers in a row are one linear layer. Without any activation the encoder is "
            "linear, as in PCA.",
            "两个相连的线性层等于一个线性层。如果没有激活函数，编码器就是线性的，如同 PCA。",
        ),
        place.line,
    )


def label_as_number(facts: Facts) -> Question | None:
    """Asked of the conditional model where a line makes a one-hot label."""
    line = facts.first("one_hot")
    if facts.task != "Genwithlabel" or not line:
        return None
    return Question(
        LAYERS,
        6,
        Text(
            f"Line {line}: why ten numbers for a label? What would the one number 0 to 9 do?",
            f"第 {line} 行：标签为什么要用十个数表示？直接用 0 到 9 这一个数会怎样？",
        ),
        Text(
            "The label enters as 10 numbers, of which one is 1 and the others are 0.",
            "标签以 10 个数输入，其中一个为 1，其余为 0。",
        ),
        Text(
            "One number would say that 4 is between 3 and 5 and that 8 is twice 4. Labels are "
            "categories without order, and a linear layer can treat ten inputs independently.",
            "一个数意味着 4 在 3 和 5 之间，8 是 4 的两倍。标签是没有顺序的类别，"
            "而线性层可以独立地处理十个输入。",
        ),
        line,
    )


def without_sigmoid(facts: Facts) -> Question | None:
    """Asked where a line has the sigmoid of the decoder."""
    line = facts.first("sigmoid")
    if not line:
        return None
    return Question(
        LAYERS,
        3,
        Text(
            f"Line {line}: what is the sigmoid for, and what would break without it?",
            f"第 {line} 行：sigmoid 的作用是什么？没有它会出什么问题？",
        ),
        Text(
            "Pixels are in [0, 1], and check.py refuses others.",
            "像素在 [0, 1] 内，check.py 不接受其他值。",
        ),
        Text(
            "It maps any number to (0, 1). Without it images leave [0, 1]; the squared error would "
            "still train, a cross entropy would not.",
            "它把任意实数映射到 (0, 1)。没有它，图像会超出 [0, 1]；平方误差仍可训练，交叉熵则不行。",
        ),
        line,
    )


def gradient_through_noise(facts: Facts) -> Question | None:
    """Asked where a line draws the noise."""
    line = facts.first("noise")
    if not line:
        return None
    return Question(
        CODES,
        4,
        Text(
            f"Line {line} draws random numbers. How do gradients still reach the encoder?",
            f"第 {line} 行抽取随机数。梯度怎样仍能传到编码器？",
        ),
        Text(
            "The derivative of z by mu is 1, that by log_var is noise * sigma / 2.",
            "z 对 mu 的导数是 1，对 log_var 的导数是 noise * sigma / 2。",
        ),
        Text(
            "z = mu + sigma * noise: the noise does not depend on the weights, and mu and sigma enter "
            "by a sum and a product, which have derivatives.",
            "z = mu + sigma * noise：噪声与权重无关，mu 和 sigma 通过加法和乘法进入，都可以求导。",
        ),
        line,
    )


TEMPLATES: tuple[Template, ...] = (
    *(
        weakest_dimension,
        strongest_dimension,
        unused_dimensions,
        ignored_code,
        collapsed,
        sum_or_mean,
        batch_mean,
    ),
    *(half_of_log_var, weight_of_var, loss_rose, loss_still_falls, gap_of_losses, skipped_steps),
    *(worst_label, largest_layer, without_activation, label_as_number, without_sigmoid),
    gradient_through_noise,
)


# ---------------------------------------------------------------- the facts


def _vectors(facts: Facts, *names: str) -> list[list[float]]:
    """Return figures that are lists of finite numbers, of one length; empty lists otherwise."""
    found = []
    for name in names:
        values = facts.figures.get(name)
        usable = isinstance(values, list) and all(_number(one) is not None for one in values)
        found.append([float(one) for one in values] if usable and values else [])
    return found if len({len(one) for one in found}) == 1 else [[] for _ in names]


def _number(value: object) -> float | None:
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if known and math.isfinite(value) else None  # type: ignore[arg-type]


def _rows(facts: Facts) -> list[Mapping[str, float]]:
    """Return the rows of history that have an epoch and a finite validation loss."""
    return [
        row
        for row in facts.history
        if _number(row.get("valid_loss")) is not None and _number(row.get("epoch")) is not None
    ]


def _parameters_of(site: Site) -> int:
    kernel = site.sizes[2] ** 2 if len(site.sizes) > 2 else 1
    return site.sizes[0] * site.sizes[1] * kernel + site.sizes[1]

"""The generated blocks of README.zh.md: the figures of README.md, in Chinese sentences."""

from __future__ import annotations

from typing import Any


def render_demo(demo: dict[str, Any]) -> str:
    """Return the block `demo`; see `reference.render_demo`."""
    grades = "、".join(
        f"{task} {row['score']:.4g} / {row['cap']:.4g}（原始分 {row['raw']:.2f}）"
        for task, row in demo["scores"].items()
    )
    return (
        "`make demo` 创建虚拟环境，把两个任务各训练 5 个 epoch，然后推理、评分，"
        "最后打印图片的位置。"
        f"九个 TODO 都像参考实现那样填好之后，在 {demo['cores']} 个 CPU 核上"
        f"用时 {demo['seconds']:.0f} 秒（不含安装），"
        f"得分为 {grades}。\n"
    )


def render_commands(code: str, commands: dict[str, Any]) -> str:
    """Return the block `commands`: the code of the English block, then the grade.

    code: the commands with their seconds, which need no translation.
    """
    scores = commands["scores"]
    return (
        f"{code}\n\n注释中的用时是在 {commands['cores']} 个 CPU 核上用参考实现和默认选项测得的，"
        f"得分为 {scores['score']:.2f} / {scores['cap']:.4g}"
        f"（在验证集 `dataset/valid` 上，ssim {scores['ssim']:.3f}，mse {scores['mse']:.4f}）。\n"
    )


def render_speed_summary(epoch: float, grade: float, cost: float, model: str, cores: int) -> str:
    """Return the block `speed-summary`; see `speed_page.render_summary`."""
    return (
        f"- 在 {cores} 个 CPU 核上，{model} 训练一个 epoch 的速度是常见流程的 {epoch:.1f} 倍，"
        f"评分的速度是 {grade:.1f} 倍；Trainer 的用时是纯 PyTorch 循环的 {cost:.2f}：见"
        "[速度](docs/speed.md)。\n"
    )

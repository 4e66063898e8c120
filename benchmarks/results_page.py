"""The blocks of docs/results.md: the reports' tables beside the lab's figures."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping
from typing import Any

from benchmarks.report_tables import CONTROLS, TABLES, Row, Scores, Table

SEEDS = (42, 43, 44)  # for rows where a report's training failed; the others have the first alone
COLLAPSED = 0.5  # ssim below which a reconstruction shows almost nothing of its input
SCORES = {"ssim": 4, "mse": 5, "fid": 3, "fid_pooled": 3, "raw": 2}  # digits
DRAWN = {"ssim": "ssim_draw", "mse": "mse_draw"}  # the same score with z drawn from q(z|x)
NAMES = {"fid_pooled": "pooled fid"}
# What another seed changes: differences up to these are level.
NOISE = {"ssim": 0.003, "mse": 0.0002, "fid": 0.1, "raw": 0.15}
LARGER_IS_BETTER = {"ssim", "raw"}

Results = Mapping[str, Mapping[str, Any]]  # a row's figures under its command


def seeds_of(row: Row) -> tuple[int, ...]:
    """Return the seeds that a row is run with."""
    return SEEDS if isinstance(row.report, str) else SEEDS[:1]


def results_of(table: Table, row: Row, results: Results) -> list[Mapping[str, Any]]:
    """Return the stored results of a row, one per seed that has been run."""
    keys = (" ".join(table.command(row, seed)) for seed in seeds_of(row))
    return [results[key] for key in keys if key in results]


def means(results: list[Mapping[str, Any]]) -> dict[str, float]:
    """Return the mean of each score over the results that have it."""
    found = {}
    for name in (*SCORES, *DRAWN.values(), "active_units"):
        values = [result[name] for result in results if result.get(name) is not None]
        if values:
            found[name] = statistics.fmean(values)
    return found


def verdict(row: Row, scores: Mapping[str, float]) -> str:
    """Return "ahead", "level" or "behind" of the report, or "" where it has no scores.

    A row is behind if one score is worse by more than the noise, ahead if all are better.
    """
    if not isinstance(row.report, dict) or not row.report:
        return ""
    if not row.report.keys() <= scores.keys():
        return "behind"  # its training stopped
    gains = {
        name: (scores[name] - theirs) * (1 if name in LARGER_IS_BETTER else -1)
        for name, theirs in row.report.items()
    }
    if any(gain < -NOISE[name] for name, gain in gains.items()):
        return "behind"
    return "ahead" if all(gain > 0 for gain in gains.values()) else "level"


def render(table: Table, results: Results) -> str:
    """Return a table: for each score the report's figure and the lab's, and who is ahead."""
    rows = [(row, results_of(table, row, results)) for row in table.rows]
    names = [name for name in SCORES if any(name in means(found) for _, found in rows)]
    head = [table.varied, *(_head(name) for name in names)]
    head += ["lab", "active units", "trained", "steps skipped"]
    lines = [f"## {table.title}", "", f"{table.epochs} epochs: `{_shared_command(table)}`", ""]
    lines += [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    lines += [f"| {' | '.join(_cells(row, found, names))} |" for row, found in rows]
    return "\n".join(lines) + "\n"


def _head(name: str) -> str:
    third = " / z drawn" if name in DRAWN else ""
    return f"{NAMES.get(name, name)}: report / lab{third}"


def _shared_command(table: Table) -> str:
    words = table.command(Row(""), SEEDS[0])[:-2]
    return f"python train.py {' '.join(words)}"


def _cells(row: Row, found: list[Mapping[str, Any]], names: list[str]) -> list[str]:
    scores = means(found)
    report = row.report if isinstance(row.report, dict) else {}
    cells = [_cell(name, report, scores) for name in names]
    if not found:
        return [row.label, *cells, *["-"] * 4]
    trained = sum(
        "stopped" not in result and (result.get("ssim") is None or result["ssim"] >= COLLAPSED)
        for result in found
    )
    failed = f", report: {row.report}" if isinstance(row.report, str) else ""
    return [
        row.label,
        *cells,
        verdict(row, scores) or "-",
        f"{scores['active_units']:.3g}" if "active_units" in scores else "-",
        f"{trained} of {len(found)}{failed}",
        f"{sum(result['skipped_steps'] for result in found)}",
    ]


def _cell(name: str, report: Mapping[str, float], scores: Mapping[str, float]) -> str:
    shown = [report.get(name), scores.get(name)]
    if name in DRAWN:
        shown.append(scores.get(DRAWN[name]))
    figures = ("-" if figure is None else f"{figure:.{SCORES[name]}f}" for figure in shown)
    return " / ".join(figures)


def counts(results: Results) -> Counter[str]:
    """Return how many rows with scores of a report are ahead, level, behind, or not run yet.

    A row that stands in several tables counts once.
    """
    return Counter(
        verdict(row, means(found)) if found else "not run yet"
        for row, _, found in _rows_with_figures(results)
    )


def _rows_with_figures(results: Results) -> list[tuple[Row, Scores, list[Mapping[str, Any]]]]:
    """Return each row of the reports that has scores, once: the row, its scores, our results."""
    rows = {
        table.command(row, SEEDS[0]): (row, row.report, results_of(table, row, results))
        for table in TABLES
        for row in table.rows
        if row.report and isinstance(row.report, dict)
    }
    return list(rows.values())


def blocks(results: Results) -> dict[str, str]:
    """Return the blocks `counts` and `tables` of docs/results.md."""
    tables = [render(table, results) for table in (*TABLES, *CONTROLS)]
    return {"counts": _summary(results) + _why_ahead(results), "tables": "\n".join(tables)}


def _why_ahead(results: Results) -> str:
    """Return a paragraph on the reports' ssim beside the lab's at the mean and at a draw."""
    gains = []
    for _, report, found in _rows_with_figures(results):
        scores = means(found)
        if "ssim_draw" in scores:
            gains.append([scores[name] - report["ssim"] for name in ("ssim", "ssim_draw")])
    if not gains:
        return ""
    at_mean, drawn = (statistics.fmean(each) for each in zip(*gains))
    return (
        "\nMost of the distance to the reports is in the evaluation, not in the training. They "
        "decoded a z drawn from q(z|x), and the noise of the draw blurs the image. In the "
        f"{len(gains)} rows where both are known, the lab's ssim less the report's is "
        f"{at_mean:+.4f} on average at the posterior mean, and {drawn:+.4f} at a drawn z.\n"
    )


def _summary(results: Results) -> str:
    count = counts(results)
    said = [f"{count[word]} {word}" for word in ("ahead", "level", "behind") if count[word]]
    text = f"Of the {count.total()} rows with figures, {_listed(said)}"
    noise = ", ".join(f"{limit:g} in {name}" for name, limit in NOISE.items())
    rest = f"; {count['not run yet']} not run yet" if count["not run yet"] else ""
    return f"{text}{rest}. Differences that another seed makes count as level: {noise}.\n"


def _listed(words: list[str]) -> str:
    if len(words) < 2:
        return f"{''.join(words) or 'none has been run'}"
    return f"{', '.join(words[:-1])} and {words[-1]}"

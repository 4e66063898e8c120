"""The blocks of docs/results.md: the reports' tables beside the lab's figures."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping
from typing import Any

from benchmarks.report_tables import CONTROLS, TABLES, Row, Scores, Table

SEEDS = (42, 43, 44)
COLLAPSED = 0.5  # ssim below which a reconstruction shows almost nothing of its input
SCORES = {"ssim": 4, "mse": 5, "fid": 3, "fid_pooled": 3, "raw": 2}  # digits
DRAWN = {"ssim": "ssim_draw", "mse": "mse_draw"}  # the same score with z drawn from q(z|x)
# What another seed changes: differences up to these are level.
NOISE = {"ssim": 0.003, "mse": 0.0002, "fid": 0.1, "raw": 0.15}
LARGER_IS_BETTER = {"ssim", "raw"}

Results = Mapping[str, Mapping[str, Any]]  # a row's figures under its command


def seeds_of(table: Table, row: Row) -> tuple[int, ...]:
    """Return the seeds of a row: several where a report's training failed, and ours must not."""
    return SEEDS if table in TABLES and row.failed else SEEDS[:1]


def results_of(table: Table, row: Row, results: Results) -> list[Mapping[str, Any]]:
    """Return the stored results of a row, one per seed that has been run."""
    keys = (" ".join(table.command(row, seed)) for seed in seeds_of(table, row))
    return [results[key] for key in keys if key in results]


def means(results: list[Mapping[str, Any]]) -> dict[str, float]:
    """Return the mean of each score over the results that have it."""
    found = {}
    for name in (*SCORES, *DRAWN.values(), "active_units"):
        values = [result[name] for result in results if result.get(name) is not None]
        if values:
            found[name] = statistics.fmean(values)
    return found


def verdict(report: Scores, scores: Mapping[str, float]) -> str:
    """Return "ahead", "level" or "behind" of the report, or "" where it has no scores.

    A row is behind if one score is worse by more than the noise, ahead if all are better.
    """
    if not report:
        return ""
    if not report.keys() <= scores.keys():
        return "behind"  # its training stopped
    gains = {
        name: (scores[name] - theirs) * (1 if name in LARGER_IS_BETTER else -1)
        for name, theirs in report.items()
    }
    if any(gain < -NOISE[name] for name, gain in gains.items()):
        return "behind"
    return "ahead" if all(gain > 0 for gain in gains.values()) else "level"


def render(table: Table, results: Results) -> str:
    """Return a table: for each score the report's figure and the lab's, and who is ahead.

    Columns that no row fills are left out.
    """
    rows = [_cells(table, row, results) for row in table.rows]
    shown = [head for head in rows[0] if any(cells[head] for cells in rows)]
    lines = [f"## {table.title}", "", f"{table.epochs} epochs: `{_shared_command(table)}`", ""]
    lines += [f"| {' | '.join(shown)} |", "| --- " * len(shown) + "|"]
    lines += [f"| {' | '.join(cells[head] or '-' for head in shown)} |" for cells in rows]
    return "\n".join(lines) + "\n"


def _shared_command(table: Table) -> str:
    words = table.command(Row(""), SEEDS[0])[:-2]
    return f"python train.py {' '.join(words)}"


def _cells(table: Table, row: Row, results: Results) -> dict[str, str]:
    """Return the cells of a row by the heads of their columns; "" where nothing is known."""
    found = results_of(table, row, results)
    scores = means(found)
    cells = {table.varied: row.label, "the lab": ""}
    if found:
        cells["the lab"] = _trains(found) if row.failed else verdict(row.scores, scores)
    for name, digits in SCORES.items():
        columns = {f"{name}, report": row.scores.get(name), name: scores.get(name)}
        if name in DRAWN:
            columns[f"{name}, z drawn"] = scores.get(DRAWN[name])
        cells |= {
            head: "" if figure is None else f"{figure:.{digits}f}"
            for head, figure in columns.items()
        }
    if isinstance(row.report, str):
        cells["ssim, report"] = row.report
    if "ssim" in scores:  # the FID of all labels together is for models that ignore the label
        cells["fid_pooled"] = ""
    cells["active units"] = f"{scores['active_units']:.3g}" if "active_units" in scores else ""
    cells["steps skipped"] = str(sum(result["skipped_steps"] for result in found) or "")
    return cells


def _trains(found: list[Mapping[str, Any]]) -> str:
    """Return whether the runs of a row trained, without a skipped step."""
    trained = sum(
        result.get("ssim", 0) >= COLLAPSED and not result["skipped_steps"] for result in found
    )
    if trained in (0, len(found)):
        return "trains" if trained else "does not train"
    return f"trains with {trained} of {len(found)} seeds"


def blocks(results: Results) -> dict[str, str]:
    """Return the blocks `counts` and `tables` of docs/results.md."""
    tables = [render(table, results) for table in (*TABLES, *CONTROLS)]
    return {"counts": _counts(results) + _at_a_draw(results), "tables": "\n".join(tables)}


def _rows_with_figures(results: Results) -> list[tuple[Scores, list[Mapping[str, Any]]]]:
    """Return the report's scores and our results of each row where the report has scores.

    A row that stands in several tables is there once.
    """
    rows = {
        table.command(row, SEEDS[0]): (row.scores, results_of(table, row, results))
        for table in TABLES
        for row in table.rows
        if row.scores
    }
    return list(rows.values())


def _counts(results: Results) -> str:
    """Return a paragraph that counts the rows ahead, level, behind and not run yet."""
    rows = _rows_with_figures(results)
    run = [verdict(report, means(found)) for report, found in rows if found]
    rest = f"; {len(rows) - len(run)} not run yet" if len(run) < len(rows) else ""
    noise = ", ".join(f"{limit:g} in {name}" for name, limit in NOISE.items())
    return (
        f"Of the {len(rows)} rows with figures, {_counted(run)}{rest}. "
        f"Differences that another seed makes count as level: {noise}.\n"
    )


def _at_a_draw(results: Results) -> str:
    """Return a paragraph on the scores at the posterior mean and with z drawn from q(z|x)."""
    pairs = []
    for report, found in _rows_with_figures(results):
        scores = means(found)
        if DRAWN["ssim"] in scores:
            drawn = scores | {name: scores[other] for name, other in DRAWN.items()}
            pairs.append((report, scores, drawn))
    if not pairs:
        return ""
    at_mean = statistics.fmean(scores["ssim"] - report["ssim"] for report, scores, _ in pairs)
    at_draw = statistics.fmean(drawn["ssim"] - report["ssim"] for report, _, drawn in pairs)
    # raw is of the scores at the mean.
    verdicts = [
        verdict({name: theirs for name, theirs in report.items() if name != "raw"}, drawn)
        for report, _, drawn in pairs
    ]
    return (
        "\nMost of the distance to the reports is in the evaluation, not in the training. They "
        "decoded a z drawn from q(z|x), and the noise of the draw blurs the image. In the "
        f"{len(pairs)} rows where both are known, the lab's ssim less the report's is "
        f"{at_mean:+.4f} on average at the posterior mean, and {at_draw:+.4f} at a drawn z. "
        f"At a drawn z, {_counted(verdicts)}.\n"
    )


def _counted(verdicts: list[str]) -> str:
    """Return how many rows are ahead, level and behind, as in "5 are ahead and 1 is level"."""
    count = Counter(verdicts)
    said = [
        f"{count[word]} {'is' if count[word] == 1 else 'are'} {word}"
        for word in ("ahead", "level", "behind")
        if count[word]
    ]
    return " and ".join(filter(None, [", ".join(said[:-1]), *said[-1:]])) or "none has been run"

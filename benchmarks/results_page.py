"""The blocks of docs/results.md: the reports' tables beside the lab's figures."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping
from typing import Any

from benchmarks.report_tables import CONTROLS, TABLES, Row, Scores, Table

COLLAPSED = 0.5  # ssim below which a reconstruction shows almost nothing of its input
SCORES = {"ssim": 4, "mse": 5, "fid": 3, "fid_pooled": 3, "raw": 2}  # digits
DRAWN = {"ssim": "ssim_draw", "mse": "mse_draw"}  # the same score with z drawn from q(z|x)
# What another seed changes: differences up to these are level.
NOISE = {"ssim": 0.003, "mse": 0.0002, "fid": 0.1, "raw": 0.15}
LARGER_IS_BETTER = {"ssim", "raw"}

Results = Mapping[str, Mapping[str, Any]]  # a row's figures under its command


def result_of(table: Table, row: Row, results: Results) -> Mapping[str, Any]:
    """Return the stored figures of a row; {} if it has not been run."""
    return results.get(" ".join(table.command(row)), {})


def verdict(report: Scores, scores: Mapping[str, Any]) -> str:
    """Return "ahead", "level" or "behind" of the report, or "" where it has no scores.

    A row is behind if one score is worse by more than the noise, ahead if all are better by more.
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
    return "ahead" if all(gain > NOISE[name] for name, gain in gains.items()) else "level"


def render(table: Table, results: Results) -> str:
    """Return a table: for each score the report's figure and the lab's, and who is ahead.

    Columns that no row fills are left out.
    """
    rows = [_cells(table, row, results) for row in table.rows]
    shown = [head for head in rows[0] if any(cells[head] for cells in rows)]
    lines = [
        f"## {table.title}",
        "",
        f"{table.epochs} epochs: `python train.py {table.shared}`",
        "",
    ]
    lines += [f"| {' | '.join(shown)} |", "| --- " * len(shown) + "|"]
    lines += [f"| {' | '.join(cells[head] or '-' for head in shown)} |" for cells in rows]
    return "\n".join(lines) + "\n"


def _cells(table: Table, row: Row, results: Results) -> dict[str, str]:
    """Return the cells of a row by the heads of their columns; "" where nothing is known."""
    found = result_of(table, row, results)
    cells = {table.varied: row.label, "the lab": ""}
    if found:
        cells["the lab"] = _trains(found) if row.failed else verdict(row.scores, found)
    for name, digits in SCORES.items():
        columns = {f"{name}, report": row.scores.get(name), name: found.get(name)}
        if name in DRAWN:
            columns[f"{name}, z drawn"] = found.get(DRAWN[name])
        cells |= {
            head: "" if figure is None else f"{figure:.{digits}f}"
            for head, figure in columns.items()
        }
    if isinstance(row.report, str):
        cells["ssim, report"] = row.report
    if "ssim" in found:  # the FID of all labels together is for models that ignore the label
        cells["fid_pooled"] = ""
    cells["active units"] = str(found.get("active_units", ""))
    cells["steps skipped"] = str(found.get("skipped_steps") or "")
    return cells


def _trains(found: Mapping[str, Any]) -> str:
    """Return whether a row trained, without a skipped step."""
    trained = found.get("ssim", 0) >= COLLAPSED and not found["skipped_steps"]
    return "trains" if trained else "does not train"


def blocks(results: Results) -> dict[str, str]:
    """Return the blocks `counts` and `tables` of docs/results.md."""
    tables = [render(table, results) for table in (*TABLES, *CONTROLS)]
    return {"counts": _counts(results) + _at_a_draw(results), "tables": "\n".join(tables)}


def _rows_with_figures(results: Results) -> list[tuple[Scores, Mapping[str, Any]]]:
    """Return the report's scores and the lab's figures of each row where the report has scores.

    A row that stands in several tables is there once.
    """
    rows = {
        table.command(row): (row.scores, result_of(table, row, results))
        for table in TABLES
        for row in table.rows
        if row.scores
    }
    return list(rows.values())


def _counts(results: Results) -> str:
    """Return a paragraph that counts the rows ahead, level, behind and not run yet."""
    rows = _rows_with_figures(results)
    run = [verdict(report, found) for report, found in rows if found]
    rest = f"; {len(rows) - len(run)} not run yet" if len(run) < len(rows) else ""
    noise = ", ".join(f"{limit:g} in {name}" for name, limit in NOISE.items())
    return (
        f"Of the {len(rows)} rows with figures, {_counted(run)}{rest}. "
        "A row is ahead if every score is better by more than chance, and behind if one is worse "
        f"by more than chance: {noise}.\n"
    )


def _at_a_draw(results: Results) -> str:
    """Return a paragraph on the scores at the posterior mean and with z drawn from q(z|x)."""
    pairs = [
        (report, found, {**found, **{name: found[other] for name, other in DRAWN.items()}})
        for report, found in _rows_with_figures(results)
        if DRAWN["ssim"] in found
    ]
    if not pairs:
        return ""
    at_mean = statistics.median(found["ssim"] - report["ssim"] for report, found, _ in pairs)
    at_draw = statistics.median(drawn["ssim"] - report["ssim"] for report, _, drawn in pairs)
    # raw is of the scores at the mean.
    verdicts = [
        verdict({name: theirs for name, theirs in report.items() if name != "raw"}, drawn)
        for report, _, drawn in pairs
    ]
    return (
        "\nIn most rows the distance to the report is in the evaluation, not in the training. The "
        "reports decoded a z drawn from q(z|x), whose noise makes a reconstruction worse. In the "
        f"{len(pairs)} rows where both are known, the median of the lab's ssim less the report's "
        f"is {at_mean:+.4f} at the posterior mean, and {at_draw:+.4f} at a drawn z. At a drawn z, "
        f"{_counted(verdicts)}.\n"
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

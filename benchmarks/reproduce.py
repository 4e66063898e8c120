"""Run the tables of the original reports again, each row at the report's settings and length.

    python -m benchmarks.reproduce            the rows that have no result yet: hours on 2 cores
    python -m benchmarks.reproduce --only WGAN   rows of tables with that word in the title
    python -m benchmarks.reproduce --report   run nothing; write docs/results.md from stored figures

Each result is stored in benchmarks/reproduce.json when its row is done, under the options of
train.py that made it. A row that has a result is not run again, on another machine neither.
"""

from __future__ import annotations

from benchmarks import figures, results_page
from benchmarks.commands import make_parser
from benchmarks.markdown import put_blocks
from benchmarks.report_tables import CONTROLS, TABLES
from benchmarks.stored_runs import run_missing
from lab import ROOT

RESULTS = ROOT / "docs" / "results.md"
FIGURES = ROOT / "benchmarks" / "reproduce.json"


def wanted(only: str = "") -> list[tuple[str, ...]]:
    """Return the options of the runs of all tables with a text in their title."""
    return [
        table.command(row)
        for table in (*TABLES, *CONTROLS)
        for row in table.rows
        if only in table.title
    ]


def write_page(results: results_page.Results) -> None:
    """Write the blocks of docs/results.md."""
    put_blocks(RESULTS, results_page.blocks(results))


def main() -> None:
    """Run what is missing, store each result, write docs/results.md."""
    parser = make_parser("benchmarks.reproduce", __doc__)
    parser.add_argument("--only", default="", help="run the tables with this text in the title")
    parser.add_argument("--report", action="store_true", help="run nothing")
    args = parser.parse_args()
    if not args.report:
        run_missing(wanted(args.only), FIGURES, write_page, at_a_draw=True)
    write_page(figures.stored(FIGURES))
    print(f"written: {RESULTS}")


if __name__ == "__main__":
    main()

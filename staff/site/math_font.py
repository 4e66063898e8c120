"""Make templates/math.woff, the font of the formulas, from STIX Two Math.

A formula needs a font with tables for mathematics. Windows, macOS and iOS have one; many Linux
systems and Android do not, and there brackets, roots and integrals stay small. So the pages bring
their own: the Latin and Greek letters, operators, arrows and brackets of STIX Two Math.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

from lab import command
from lab.checkpoint import write_whole

EXAMPLES = """examples:
  python -m staff.site.math_font STIXTwoMath-Regular.ttf     from github.com/stipub/stixfonts
"""
FONT = Path(__file__).resolve().parent / "templates" / "math.woff"
CHARACTERS = (  # first and last code point of each range
    (0x20, 0x7E),  # Latin
    (0xA0, 0xFF),
    (0x370, 0x3FF),  # Greek
    (0x2010, 0x2044),  # dashes, dots, bars, primes
    (0x2061, 0x2064),  # invisible operators
    (0x20D0, 0x20EF),  # accents
    (0x2100, 0x214F),  # letterlike
    (0x2190, 0x21FF),  # arrows
    (0x2200, 0x22FF),  # operators
    (0x2308, 0x230B),  # floor and ceiling
    (0x239B, 0x23B3),  # parts of large brackets
    (0x23DC, 0x23E1),  # braces above and below
    (0x27E6, 0x27EF),  # more brackets
    (0x1D400, 0x1D7FF),  # italic, bold, script and double-struck letters
)
NAMES = [0, 1, 2, 3, 4, 5, 6, 13, 14]  # of the font; with its copyright and licence
FEATURES = ["ssty", "dtls", "flac", "kern", "mark", "mkmk"]


def subset(font: Path) -> bytes:
    """Return a font file with CHARACTERS alone, as WOFF. Raises OSError, TTLibError."""
    from fontTools import subset as tool

    options = tool.Options(
        flavor="woff", layout_features=FEATURES, name_IDs=NAMES, hinting=False, notdef_outline=True
    )
    loaded = tool.load_font(font, options)
    chosen = tool.Subsetter(options)
    chosen.populate(unicodes=[code for low, high in CHARACTERS for code in range(low, high + 1)])
    chosen.subset(loaded)
    buffer = io.BytesIO()
    tool.save_font(loaded, buffer, options)
    return buffer.getvalue()


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of math_font.py."""
    parser = command.make_parser("Make the font of the formulas.", EXAMPLES)
    parser.add_argument("font", type=Path, help="STIXTwoMath-Regular.ttf")
    return parser


def main() -> None:
    """Read, subset, write."""
    from fontTools.ttLib import TTLibError

    parser = make_parser()
    options = parser.parse_args()
    with command.clear_errors(parser.prog, TTLibError):
        content = subset(options.font)
        with write_whole(FONT) as file:
            file.write(content)
    print(f"{FONT}: {len(content) / 1e3:.0f} kB")


if __name__ == "__main__":
    command.run(main)

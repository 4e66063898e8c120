"""One Markdown document as HTML: formulas become MathML, headings can be linked to."""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from mdit_py_plugins.anchors import anchors_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin

from staff.solutions import HandoutError

APPLY = "\u2061"  # the invisible operator between a function and what it is applied to
PUNCTUATION = "punctuation"  # in the meta of a formula's token
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


class SiteError(HandoutError):
    """A document cannot be shown; the message names the file and what is wrong."""


@dataclass(frozen=True)
class Heading:
    """A heading of a document: its level (1 to 6), its anchor, and its text as HTML."""

    level: int
    anchor: str
    html: str


@dataclass(frozen=True)
class Link:
    """Where a link leads, and whether the document says there only where another form of it is.

    Attributes:
        target: the address in the page; None leaves the words without a link.
        is_other_form: the target is the same document in another language or format.
    """

    target: str | None
    is_other_form: bool = False


@dataclass(frozen=True)
class Document:
    """A rendered document: its title as plain text, its HTML, and its headings."""

    title: str
    html: str
    headings: list[Heading]


def render(text: str, name: str, follow: Callable[[str], Link]) -> Document:
    """Return a document as HTML. Raises SiteError.

    A paragraph that only links to other forms of the document is left out, because every page of
    the site links to them.

    Args:
        text: Markdown as GitHub reads it, with formulas between dollar signs; the only HTML in it
            is comments, which are left out.
        name: of the file, for messages.
        follow: returns the Link for an address as the document gives it.
    """
    parser = _parser()
    tokens = _without_other_forms(parser.parse(text), follow)
    for token in _inline(tokens):
        _follow_link(token, follow)
    for block in tokens:
        for token, following in itertools.pairwise(block.children or ()):
            _keep_together(token, following)
    try:
        html = parser.renderer.render(tokens, parser.options, {})
    except SiteError as error:
        raise SiteError(f"{name}: {error}") from None
    headings = list(_headings(tokens, parser))
    if not headings or headings[0].level != 1:
        raise SiteError(f"{name} has no title; expected a first line that begins with '# '.")
    return Document(_plain(tokens), html, headings)


@functools.cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    parser.use(dollarmath_plugin, renderer=formula, allow_space=False, allow_digits=False)
    parser.use(anchors_plugin, max_level=6)  # the anchors are those of GitHub
    for name, rule in RULES.items():
        parser.add_render_rule(name, rule)
    return parser


# ---------------------------------------------------------------- formulas


def formula(latex: str, options: Mapping[str, Any]) -> str:
    """Return a formula as MathML. Raises SiteError for an unknown command, and for \\frac12."""
    if re.search(r"\\[dt]?frac(?!\s*\{)", latex):  # docutils would read one number, 12
        raise SiteError(f"the formula {latex.strip()} needs braces, as in \\frac{{1}}{{2}}")
    try:
        text = tex2mathml(latex.strip(), as_block=options["display_mode"])
    except MathError as error:
        raise SiteError(f"the formula {latex.strip()} cannot be read: {error}") from None
    text = re.sub(r">\s+<", "><", text).replace("&ApplyFunction;", APPLY)
    root = ElementTree.fromstring(re.sub(' xmlns="[^"]*"', "", text))  # HTML needs no namespace
    for part in root.iter():
        _as_in_latex(part)
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def _as_in_latex(part: ElementTree.Element) -> None:
    """Correct a part of a formula where docutils makes it look other than LaTeX does."""
    if part.tag == "mo" and part.text == "‖":
        part.set("stretchy", "false")  # keeps its height beside a fraction
    row = list(part)
    for index, sign in enumerate(row):
        before, after = row[:index], row[index + 1 :]
        if sign.text == "−" and [p for p in before[-1:] if _is_operator(p) and not _closes(p)]:
            sign.set("form", "prefix")  # a minus sign after an operator is no difference
        if sign.text == APPLY and sign.tag == "mo":
            # log x: a thin space, unless a bracket or an operator with its own space follows,
            if after and not _is_operator(after[0]):
                part.insert(list(part).index(after[0]), _thin_space())
            # and between the name and what it is multiplied by.
            if len(before) > 1 and (_closes(before[-2]) or not _is_operator(before[-2])):
                part.insert(list(part).index(before[-1]), _thin_space())


def _is_operator(part: ElementTree.Element) -> bool:
    """Return whether a part is an operator or bracket, perhaps with limits."""
    core = part[0] if part.tag in ("munder", "munderover") else part
    return core.tag == "mo"


def _closes(part: ElementTree.Element) -> bool:
    return part.text in (")", "]")


def _thin_space() -> ElementTree.Element:
    return ElementTree.Element("mspace", width="0.1667em")


# ---------------------------------------------------------------- parts of a document


def _comment(renderer: Any, tokens: Sequence[Token], index: int, *_: Any) -> str:
    """Leave out a comment."""
    if rest := COMMENT.sub("", tokens[index].content).strip():
        raise SiteError(f"{rest} is HTML; expected Markdown, in which < is written `<` or &lt;")
    return ""


def _softbreak(renderer: Any, tokens: Sequence[Token], index: int, *_: Any) -> str:
    """A line break of the source is a space, but not between two Chinese characters."""
    before = next((shown[-1] for token in tokens[index::-1] if (shown := _shown(token))), " ")
    after = next((shown[0] for token in tokens[index:] if (shown := _shown(token))), " ")
    widths = {unicodedata.east_asian_width(before), unicodedata.east_asian_width(after)}
    # W and F are wide. A is a quotation mark or dash, which is wide beside a wide character.
    return "" if widths <= {"W", "F", "A"} and widths != {"A"} else "\n"


def _shown(token: Token) -> str:
    return token.content + str(token.meta.get(PUNCTUATION, ""))


def _keep_together(token: Token, following: Token) -> None:
    """Move the punctuation after a formula into it, because a line may break after a formula."""
    if token.type == "math_inline" and following.type == "text":
        mark = re.match(r"[^\w\s(（“]*", following.content)
        token.meta[PUNCTUATION] = mark[0] if mark else ""
        following.content = following.content.removeprefix(token.meta[PUNCTUATION])


def _formula_in_text(renderer: Any, tokens: Sequence[Token], index: int, *_: Any) -> str:
    mark = escapeHtml(str(tokens[index].meta.get(PUNCTUATION, "")))
    html = formula(tokens[index].content, {"display_mode": False})
    return f'<span class="math inline">{html}{mark}</span>'


def _table(renderer: Any, *_: Any) -> str:
    return '<div class="table"><table>\n'  # the division scrolls where the table is too wide


def _end_of_table(renderer: Any, *_: Any) -> str:
    return "</table></div>\n"


RULES = {
    "html_block": _comment,
    "html_inline": _comment,
    "softbreak": _softbreak,
    "math_inline": _formula_in_text,
    "table_open": _table,
    "table_close": _end_of_table,
}


# ---------------------------------------------------------------- links


def _inline(tokens: Sequence[Token]) -> Iterator[Token]:
    """Yield the tokens inside paragraphs, headings and cells."""
    for token in tokens:
        yield from token.children or ()


def _address(token: Token) -> str | None:
    """Return what a link or picture refers to; None for another token."""
    value = token.attrGet({"link_open": "href", "image": "src"}.get(token.type, ""))
    return None if value is None else str(value)


def _follow_link(token: Token, follow: Callable[[str], Link]) -> None:
    """Replace the address of a link or picture by that in the site."""
    address = _address(token)
    if address is None:
        return
    target = follow(address).target
    if target is None:
        # An <a> without an address is plain text.
        token.attrs.pop("href")
    else:
        token.attrSet("href" if token.type == "link_open" else "src", target)


def _without_other_forms(tokens: list[Token], follow: Callable[[str], Link]) -> list[Token]:
    """Leave out the paragraphs in which each link leads to another form of the document."""
    left_out: set[int] = set()
    for index, token in enumerate(tokens):
        if token.type == "inline" and tokens[index - 1].type == "paragraph_open":
            addresses = [a for child in token.children or () if (a := _address(child))]
            if addresses and all(follow(address).is_other_form for address in addresses):
                left_out |= {index - 1, index, index + 1}
    return [token for index, token in enumerate(tokens) if index not in left_out]


# ---------------------------------------------------------------- headings


def _headings(tokens: Sequence[Token], parser: MarkdownIt) -> Iterator[Heading]:
    for before, token in zip(tokens, tokens[1:]):
        if before.type == "heading_open":
            words = [t for t in token.children or () if not t.type.startswith("link_")]
            assert isinstance(parser.renderer, RendererHTML)
            html = parser.renderer.renderInline(words, parser.options, {})
            yield Heading(int(before.tag[1]), str(before.attrGet("id")), html)


def _plain(tokens: Sequence[Token]) -> str:
    """Return the first heading as plain text."""
    words = next(token for token in tokens if token.type == "inline")
    return "".join(token.content for token in words.children or ())

"""The site of the documents: every address resolves, nothing comes from the network, no leaks."""

from __future__ import annotations

import base64
import io
import posixpath
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
from conftest import ROOT, assert_clear_error, run

from staff.handout import build, is_left_out, site_of, tracked
from staff.site import FOLDER
from staff.site.markdown import Link, SiteError, formula, render
from staff.site.pages import CHINESE, WORDS, file_of, in_language
from staff.site.pages import build as build_site
from staff.solutions import solutions

NAMES = tracked(ROOT, ROOT / "dist")
DOCUMENTS = [name for name in NAMES if name.endswith(".md")]
TINY = {
    "README.md": b"# Home\n\n[zh](README.zh.md) and [a](a.md#b-c)",
    "README.zh.md": b"# H\n",
    "a.md": b"# A: long\n\n## b c\n",
    "z/README.zh.md": b"# Z\n\n[home](../README.md) [code](x.py) [folder](../z/) ![p](p.png)",
    "z/x.py": b"",
    "z/p.png": b"png",
}


class Addresses(HTMLParser):
    """What a page refers to, what can be referred to in it, and its text."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []  # by the browser, to show the page
        self.anchors: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(page.decode("utf-8"))

    def handle_starttag(self, tag: str, attributes: list) -> None:
        found = dict(attributes)
        self.tags.append(tag)
        if "id" in found:
            self.anchors.append(found["id"])
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        else:
            self.loaded += [found[name] for name in ("href", "src", "data") if name in found]

    def handle_data(self, data: str) -> None:
        self.text += data


def pages_of(site: Mapping[str, bytes]) -> dict[str, Addresses]:
    return {name: Addresses(site[name]) for name in site if name.endswith(".html")}


@pytest.fixture(scope="module")
def whole() -> dict[str, bytes]:
    """The site for staff."""
    files = {name: (ROOT / name).read_bytes() for name in NAMES}
    return site_of(files, {name for name in NAMES if is_left_out(name)})


@pytest.fixture(scope="module")
def half() -> dict[str, bytes]:
    """The students' half, as the handout has it."""
    files = build(ROOT, NAMES)
    start = f"{FOLDER}/"
    return {name.removeprefix(start): files[name] for name in files if name.startswith(start)}


# ---------------------------------------------------------------- the two sites


def test_every_document_is_a_page(whole, half):
    assert {file_of(name) for name in DOCUMENTS} == set(pages_of(whole))
    for_students = {file_of(name) for name in DOCUMENTS if not is_left_out(name)}
    assert for_students == set(pages_of(half))
    assert {"index.html", "index.zh.html", "docs/handout.html", "docs/handout.zh.html"} <= set(half)


@pytest.mark.parametrize("which", ["whole", "half"])
def test_every_address_resolves(which, request):
    site = request.getfixturevalue(which)
    pages = pages_of(site)
    for name, page in pages.items():
        assert len(set(page.anchors)) == len(page.anchors), name
        for address in [*page.links, *page.loaded]:
            if address.startswith("https://") and address in page.links or address == "data:,":
                continue
            path, _, anchor = unquote(address).partition("#")
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), path or name))
            target = name if not path else target
            assert target in site, (name, address)
            assert not anchor or anchor in pages[target].anchors, (name, address)


@pytest.mark.parametrize("which", ["whole", "half"])
def test_nothing_comes_from_the_network(which, request):
    site = request.getfixturevalue(which)
    for name, page in pages_of(site).items():
        assert not [address for address in page.loaded if re.match("(https?:)?//", address)], name
        assert set(page.tags).isdisjoint({"iframe", "object", "embed", "video", "style"}), name
    for name in ("site.css", "math.css", "site.js"):
        assert not re.search(rb"https?:|url\((?!\"data:)|@import|fetch|import\(", site[name])


@pytest.mark.parametrize("which", ["whole", "half"])
def test_no_markdown_is_left(which, request):
    """No asterisk of emphasis is shown, which Chinese punctuation can break, and no dollar sign."""
    for name, content in request.getfixturevalue(which).items():
        if name.endswith(".html"):
            shown = re.sub(rb"<(pre|code|math)\b.*?</\1>", b"", content, flags=re.DOTALL)
            text = Addresses(shown).text
            assert not re.search(r"\*\*|(?<!\w)\*\S|\$|^\||\]\(|<!--", text, re.MULTILINE), name


def test_the_students_half_has_nothing_of_the_staffs(half):
    staff = re.compile("|".join(re.escape(n) for n in DOCUMENTS if is_left_out(n) and "/" in n))
    titles = {(ROOT / n).read_text("utf-8").split("\n")[0][2:] for n in DOCUMENTS if is_left_out(n)}
    for name, page in pages_of(half).items():
        assert not staff.search(page.text), name
        assert not [title for title in titles if title in page.text], name
        assert WORDS["en"]["staff"] not in page.text or page.text.count("Staff") == 0, name
        for solution in solutions((ROOT / "submission.py").read_text("utf-8")):
            assert "\n".join(solution.body) not in page.text


def test_the_start_page_of_the_handout_does_not_lead_to_itself(half):
    """What the README says to one who reads the file is not said to one who reads the site."""
    assert b"in your browser" not in half["index.html"]
    assert b"docs/site" not in half["index.html"] + half["index.zh.html"]


# ---------------------------------------------------------------- pages


def test_pages_in_one_language_are_in_both_navigations():
    site = build_site(TINY)
    pages = pages_of(site)
    assert set(pages) == {"index.html", "index.zh.html", "a.html", "z/index.zh.html"}
    for name, page in pages.items():
        start = "index.zh.html" if ".zh." in name else "index.html"
        up = "../" if "/" in name else ""
        targets = {
            posixpath.normpath(posixpath.join(posixpath.dirname(name), link)) for link in page.links
        }
        assert {"a.html", "z/index.zh.html", start} <= targets, name
        assert page.loaded[1:3] == [f"{up}site.css", f"{up}site.js"]
    english, chinese = site["index.html"].decode(), site["index.zh.html"].decode()
    assert '<span class="mark" lang="en">Chinese</span>' in english and 'lang="zh-CN"' in english
    assert '<span class="mark" lang="zh-CN">英文</span>' in chinese
    assert '<html lang="zh-CN">' in chinese
    assert ">A</a>" in english and "A: long</h1>" in site["a.html"].decode()
    # The switch leads to the same page, or to the start page.
    assert 'class="language" href="index.zh.html"' in site["a.html"].decode()
    assert 'class="language" href="../index.html"' in site["z/index.zh.html"].decode()


def test_the_chinese_navigation_is_in_chinese(whole):
    """Each document that is in English only has a Chinese title there, and a mark."""
    only_english = {name for name in DOCUMENTS if in_language(name, "zh-CN") not in NAMES}
    assert only_english == set(CHINESE)
    for name in ("docs/faq.zh.html", "staff/guide.zh.html"):
        lists = re.findall(r"<nav aria-label=.*?</nav>", whole[name].decode(), re.DOTALL)
        labels = re.findall(r"<li><a [^>]*>(.*?)</a>", lists[0])
        assert len(labels) > 20 and all(re.search("[\u4e00-\u9fff]", label) for label in labels)
        assert sum('<span class="mark" lang="zh-CN">英文' in label for label in labels) == len(
            CHINESE
        )


def test_sections_and_neighbours():
    site = build_site({**TINY, "b.md": b"# B"}, for_staff={"a.md", "b.md"})
    home, first = site["index.html"].decode(), site["a.html"].decode()
    assert home.index("Students") < home.index("Staff") < home.index("a.html")
    assert "rel=" not in home.split('class="neighbours"')[1].split("</nav>")[0]
    assert '<a rel="next" href="b.html"' in first and 'rel="prev"' not in first


def test_addresses_in_a_document():
    site = build_site(TINY)
    text = site["z/index.zh.html"].decode().split("<article>")[1].split("</article>")[0]
    assert '<a href="../index.html">home</a>' in text  # another document, in the other language
    assert "<a>code</a>" in text and "<a>folder</a>" in text and site["z/p.png"] == b"png"
    assert '<img src="p.png" alt="p"' in text
    home = site["index.html"].decode().split("<article>")[1]
    assert '<a href="a.html#b-c">a</a>' in home
    with pytest.raises(SiteError, match="a.md refers to nowhere.md, which does not exist"):
        build_site({**TINY, "a.md": b"# A\n\n[x](nowhere.md)"})
    with pytest.raises(SiteError, match="README.md is missing"):
        build_site({"a.md": b"# A"})


# ---------------------------------------------------------------- Markdown


def html(text: str, **links: Link) -> str:
    return render(f"# T\n\n{text}", "a.md", lambda address: links.get(address, Link(address))).html


def test_a_line_break_between_chinese_characters_is_no_space():
    assert "<p>图像\n20 个</p>" in html("图像\n20 个")
    assert "<p>图像，文字</p>" in html("图像，\n文字")
    assert "<p>“图”文</p>" in html("“图”\n文")
    assert "图<strong>像</strong>文" in html("图\n**像**\n文")
    assert "one\ntwo" in html("one\ntwo") and "”\n“" in html("”\n“")
    assert html("$x$，\n文").endswith("</math>，</span>文</p>\n")


def test_a_line_does_not_break_between_a_formula_and_its_comma():
    assert html("$x$, y").endswith("</math>,</span> y</p>\n")
    assert html("$x$ (y)").endswith("</math></span> (y)</p>\n")
    assert html("$x$<b").endswith("</math>&lt;</span>b</p>\n")


@pytest.mark.parametrize(
    "latex, part",
    [
        (r"\log p", 'log</mi><mo>\u2061</mo><mspace width="0.1667em"></mspace><mi>p'),
        (r"\log(p)", 'log</mi><mo>\u2061</mo><mo stretchy="false">('),
        (r"(x) \log p", ')</mo><mspace width="0.1667em"></mspace><mi>log'),
        (r"\arg\min_x y", 'arg</mi><mo>\u2061</mo><munder><mo movablelimits="true">min'),
        (r"p \| \frac{1}{q}", '<mo stretchy="false">‖'),
        (r"a \ge -b", '<mo>≥</mo><mo form="prefix">−'),
        (r"a < b", "<mo>&lt;</mo>"),
        (r"(a) - b", ")</mo><mo>−</mo>"),
        (r"\operatorname{tr} A", '<mi mathvariant="normal">tr</mi>'),
        (r"\begin{aligned} a &= b \\ &= c \end{aligned}", "<mtable"),
    ],
)
def test_formulas_look_as_in_latex(latex, part):
    assert part in formula(latex, {"display_mode": True})


def test_the_font_has_every_character_of_the_formulas(whole):
    from fontTools.ttLib import TTFont

    embedded = re.search(rb"base64,([^\"]*)", whole["math.css"])
    with TTFont(io.BytesIO(base64.b64decode(embedded[1]))) as font:
        there = set(font.getBestCmap())
        assert "MATH" in font  # without it, brackets do not grow
    for name, content in whole.items():
        if name.endswith(".html"):
            formulas = b"".join(re.findall(rb"<math.*?</math>", content, re.DOTALL))
            assert {ord(c) for c in Addresses(formulas).text} <= there | {0xA, 0x20}, name
            assert (b'math.css"' in content) == bool(formulas), name


def test_the_link_to_the_other_language_is_left_out():
    other = Link("b.html", is_other_form=True)
    assert "<a" not in html("[中文](zh)", zh=other)
    assert "see" in html("see [c](c) and [中文](zh)", zh=other)


def test_what_is_not_shown_is_an_error():
    assert "secret" not in html(
        "<!-- secret -->\n\ntext <!-- secret -->\n\n| a |\n| - |\n| b | <!-- secret -->"
    )
    with pytest.raises(SiteError, match="a.md: <b> is HTML; expected Markdown"):
        html("a <b>bold</b> word")
    with pytest.raises(SiteError, match="a.md has no title"):
        render("text", "a.md", Link)
    with pytest.raises(SiteError, match=r"a.md: the formula \\nowhere x cannot be read: Unknown"):
        html(r"$\nowhere x$")
    with pytest.raises(SiteError, match="needs braces"):
        html(r"$\frac12$")


def test_anchors_are_those_of_github():
    text = "## 1. What does `--var` do?\n\n## 安装（Windows）\n\n## A b\n\n## A b"
    found = render(f"# T\n\n{text}", "a.md", Link).headings
    assert [heading.anchor for heading in found] == [
        *("t", "1-what-does---var-do", "安装windows", "a-b", "a-b-1")
    ]
    assert found[1].html == "1. What does <code>--var</code> do?"


# ---------------------------------------------------------------- the command


def test_the_command_writes_a_site(tmp_path, whole):
    result = run("staff.site.build", "--out", tmp_path / "site")
    assert result.returncode == 0, result.stderr
    assert f"{tmp_path / 'site' / 'index.html'} in a browser" in result.stdout
    written = {
        path.relative_to(tmp_path / "site").as_posix(): path.read_bytes()
        for path in (tmp_path / "site").rglob("*")
        if path.is_file()
    }
    assert written == whole


def test_without_the_packages_the_error_says_what_to_install(tmp_path):
    (tmp_path / "markdown_it.py").write_text("raise ModuleNotFoundError(name='markdown_it')")
    path = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    for command in ("staff.site.build", "staff.handout"):
        result = run(command, "--out", tmp_path / "out", env=path)
        assert_clear_error(result, "markdown_it is not installed", "-r requirements/docs.txt")
        assert not (tmp_path / "out").exists()

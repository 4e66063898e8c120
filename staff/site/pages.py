"""All documents as a site: pages with navigation, their pictures, and what gives them their look.

A page is where its document is in the repository: docs/faq.zh.md becomes docs/faq.zh.html, and
the README of a folder its index.html. So relative addresses stay the same but for their ends.
"""

from __future__ import annotations

import base64
import posixpath
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from markupsafe import Markup

from lab.pages import templates
from staff.site import FOLDER
from staff.site.markdown import Document, Link, SiteError, render

TEMPLATES = Path(__file__).resolve().parent / "templates"
# The order of the navigation. Documents that are not named here follow in alphabetical order.
ORDER = (
    "README.md",
    "docs/handout.md",
    "docs/student-guide.md",
    "docs/report-template.md",
    "docs/faq.md",
    "docs/sweeps.md",
    "docs/cluster.md",
    "dataset/README.md",
    "staff/README.md",
    "staff/guide.md",
    "staff/solutions.md",
    "docs/security.md",
    "docs/reliability.md",
    "docs/reference.md",
    "docs/results.md",
    "docs/gallery.md",
    "zoo/README.md",
    "docs/speed.md",
    "docs/deterministic.md",
    "docs/CONTRIBUTING.md",
    "CHANGELOG.md",
)
# What the Chinese navigation calls a document that is in English only.
CHINESE = {
    "docs/sweeps.md": "超参数扫描",
    "docs/cluster.md": "在集群上扫描",
    "dataset/README.md": "数据说明",
    "staff/README.md": "分发与批改",
    "docs/security.md": "批改不可信的代码",
    "docs/reliability.md": "出现故障时的保证",
    "docs/reference.md": "参考结果",
    "docs/results.md": "原报告结果的复现",
    "docs/metrics.md": "各项指标",
    "docs/gallery.md": "图集",
    "zoo/README.md": "模型库",
    "docs/speed.md": "速度",
    "docs/deterministic.md": "逐字节相同的结果",
    "docs/CONTRIBUTING.md": "参与开发",
    "CHANGELOG.md": "更新日志",
    "benchmarks/records/README.md": "最短训练时间纪录",
}
LANGUAGES = {"en": "English", "zh-CN": "中文"}
WORDS = {
    "en": {
        "mark": "Chinese",
        "skip": "Skip to the text",
        "menu": "Menu",
        "pages": "Pages",
        "contents": "On this page",
        "theme": "Dark theme",
        "previous": "Previous",
        "next": "Next",
        "students": "Students",
        "staff": "Staff",
    },
    "zh-CN": {
        "mark": "英文",
        "skip": "跳到正文",
        "menu": "目录",
        "pages": "全部页面",
        "contents": "本页内容",
        "theme": "深色模式",
        "previous": "上一页",
        "next": "下一页",
        "students": "学生",
        "staff": "教师与助教",
    },
}


@dataclass(frozen=True)
class Page:
    """A document and its page.

    Attributes:
        name: of the document in the repository, docs/faq.zh.md.
        document: what it contains.
    """

    name: str
    document: Document

    @property
    def language(self) -> str:
        return language_of(self.name)

    @property
    def file(self) -> str:
        """The name of the page in the site."""
        return file_of(self.name)

    @property
    def label(self) -> str:
        """The title up to its first colon, for the navigation."""
        return re.split("[:：]", self.document.title)[0]


def language_of(name: str) -> str:
    """Return the language of a document."""
    return "zh-CN" if name.endswith(".zh.md") else "en"


def in_language(name: str, language: str) -> str:
    """Return the name that a document has in a language, whether it exists or not."""
    stem = name.removesuffix(".md").removesuffix(".zh")
    return f"{stem}.zh.md" if language == "zh-CN" else f"{stem}.md"


def file_of(name: str) -> str:
    """Return the name of a document's page in the site."""
    return re.sub(r"(^|/)README(?=\.)", r"\1index", name).removesuffix(".md") + ".html"


def build(files: Mapping[str, bytes], for_staff: Collection[str] = ()) -> dict[str, bytes]:
    """Return the files of the site by name, sorted. Raises SiteError.

    Args:
        files: content of the repository's files by name. Each .md file becomes a page. Pictures
            that documents show are copied.
        for_staff: names of the documents that are in the section for staff.
    """
    names = sorted((name for name in files if name.endswith(".md")), key=_place)
    site = {name: (TEMPLATES / name).read_bytes() for name in ("site.css", "site.js", "OFL.txt")}
    site["math.css"] = math_css()
    pages = {}
    for name in names:
        text = files[name].decode("utf-8").replace("\r\n", "\n")
        pages[name] = Page(
            name, render(text, name, partial(follow, name=name, files=files, site=site))
        )
    if "README.md" not in pages:
        raise SiteError("README.md is missing; expected it as the start page of the site.")
    template = templates(TEMPLATES).get_template("page.html")
    for page in pages.values():
        values = values_of(page, pages, for_staff)
        site[page.file] = template.render(values).encode("utf-8")
    return dict(sorted(site.items()))


def math_css() -> bytes:
    """Return a style sheet that holds the font of the formulas.

    The font is in it as text, because a browser may refuse to load a font file from disk.
    """
    font = base64.b64encode((TEMPLATES / "math.woff").read_bytes()).decode()
    source = f'url("data:font/woff;base64,{font}") format("woff")'
    face = f'@font-face {{ font-family: "VAE lab math"; src: {source}; }}'
    return f"/* A part of STIX Two Math; its licence is in OFL.txt. */\n{face}\n".encode()


def _place(name: str) -> tuple[int, str]:
    english = in_language(name, "en")
    return ORDER.index(english) if english in ORDER else len(ORDER), name


# ---------------------------------------------------------------- links


def follow(address: str, name: str, files: Mapping[str, bytes], site: dict[str, bytes]) -> Link:
    """Return where an address in a document leads in the site; add a picture to the site.

    A link to a document leads to its page. A file that is not a page is not in the site, so a link
    to it is none. Raises SiteError for a file that does not exist.

    Args:
        address: as the document gives it.
        name: of the document.
        files: of the repository, by name.
        site: its files so far, by name.
    """
    if re.match(r"[a-z]+:", address) or address.startswith("#"):
        return Link(address)
    path, hash_sign, anchor = unquote(address).partition("#")
    target = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
    if target.startswith(f"{FOLDER}/"):
        return Link(None, is_other_form=True)
    if f"{target}/README.md" in files:
        target = f"{target}/README.md"
    if target in files and target.endswith(".md"):
        other = target != name and in_language(target, "en") == in_language(name, "en")
        return Link(relative(file_of(target), file_of(name)) + hash_sign + anchor, other)
    if target in files and target.endswith((".png", ".gif", ".jpg", ".svg")):
        site[target] = files[target]
        return Link(relative(target, file_of(name)))
    if target in files or any(file.startswith(f"{target}/") for file in files):
        return Link(None)
    raise SiteError(f"{name} refers to {address}, which does not exist.")


def relative(target: str, page: str) -> str:
    """Return the address of a file of the site, as seen from one of its pages."""
    return posixpath.relpath(target, posixpath.dirname(page) or ".")


# ---------------------------------------------------------------- navigation


@dataclass(frozen=True)
class Entry:
    """A line of the navigation.

    Attributes:
        page: where it leads.
        label: in the reader's language, where there is one.
        language: of the label.
        mark: says that the page is in another language than the reader's; "" if it is not.
    """

    page: Page
    label: str
    language: str
    mark: str


def navigation(
    language: str, pages: Mapping[str, Page], for_staff: Collection[str]
) -> dict[str, list[Entry]]:
    """Return the entries of each section, in their order, for a reader of a language.

    A document that is not in that language is there in the other, with a mark.
    """
    sections: dict[str, list[Entry]] = {"students": [], "staff": []}
    shown = set()
    for name, page in pages.items():
        page = pages.get(in_language(name, language), page)
        if page.name not in shown:
            shown.add(page.name)
            entry = Entry(page, page.label, page.language, "")
            if page.language != language:
                entry = replace(entry, mark=WORDS[language]["mark"])
            if language == "zh-CN" and page.name in CHINESE:
                entry = replace(entry, label=CHINESE[page.name], language=language)
            sections["staff" if name in for_staff else "students"].append(entry)
    return {section: entries for section, entries in sections.items() if entries}


def neighbours(page: Page, sections: Mapping[str, Sequence[Entry]]) -> list[Page | None]:
    """Return the pages before and after one in its section, of its language."""
    row = next(
        [entry.page for entry in entries if not entry.mark]
        for entries in sections.values()
        if page in [entry.page for entry in entries]
    )
    place = row.index(page)
    return [row[place - 1] if place else None, row[place + 1] if place + 1 < len(row) else None]


def values_of(page: Page, pages: Mapping[str, Page], for_staff: Collection[str]) -> dict[str, Any]:
    """Return what the template shows on a page."""
    sections = navigation(page.language, pages, for_staff)
    (other,) = LANGUAGES.keys() - {page.language}
    start = pages.get(in_language("README.md", page.language), pages["README.md"])
    there = pages.get(in_language(page.name, other), pages.get(in_language("README.md", other)))
    before, after = neighbours(page, sections)
    return {
        "page": page,
        "has_formulas": "<math" in page.document.html,
        "body": Markup(page.document.html),
        "headings": [
            (heading.level, heading.anchor, Markup(heading.html))
            for heading in page.document.headings
            if heading.level in (2, 3)
        ],
        "sections": sections,
        "start": start,
        "there": there,
        "before": before,
        "after": after,
        "words": WORDS[page.language],
        "languages": LANGUAGES,
        "to": lambda target: relative(target, page.file),
    }

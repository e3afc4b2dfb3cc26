# SPDX-License-Identifier: MIT
"""The page and the figures: what is in them, and how they look to a browser."""

import json
import re
from base64 import b64decode
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from microbench.__main__ import main
from microbench.report import browser
from microbench.report.figures import DRAWINGS, Gap, Plot, plots
from microbench.report.page import render
from microbench.report.statements import CLAIMS
from microbench.report.style import LOOKS
from tests.bench.paper_rows import document, results
from tests.bench.test_report_claims import by, dearer

VOID = {"meta", "link", "img", "br"}
ONLY_XEN = {"8b", "9b", "12", "14", "18"}


@dataclass
class Page(HTMLParser):
    """Ids, links and images of a page, and whether its tags are closed in order."""

    ids: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    images: dict[str, str] = field(default_factory=dict)
    open: list[str] = field(default_factory=list)
    text: str = ""
    viewport: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "a":
            self.links.append(found["href"])
        if tag == "img":
            assert found["alt"]
            self.images[found["id"]] = found["src"]
        if found.get("name") == "viewport":
            self.viewport = found["content"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(text: str) -> Page:
    page = Page()
    page.feed(text)
    page.close()
    assert not page.open
    return page


@pytest.fixture(scope="module")
def whole() -> str:
    both = results()
    return render(both, list(plots(both)))


def test_all_figures_and_statements_are_on_the_page(whole: str) -> None:
    page = page_of(whole)
    assert "width=device-width" in page.viewport
    assert len(page.ids) == len(set(page.ids))
    assert {claim.key for claim in CLAIMS} <= set(page.ids)
    assert set(page.images) == {
        f"fig{drawing.figure}-{place}"
        for drawing in DRAWINGS
        for place in ("native", "xen")
        if place == "xen" or drawing.figure not in ONLY_XEN
    }
    assert {str(figure) for figure in range(6, 19)} == {d.figure.rstrip("ab") for d in DRAWINGS}
    assert all(link[1:] in page.ids for link in page.links)
    assert "An <odd> CPU & more" in page.text


def test_the_page_needs_nothing_else(whole: str) -> None:
    page = page_of(whole)
    outside = re.findall(r"(?:src|href)=\"(?!data:|#)[^\"]*|url\([^)]*|@import", whole)
    assert not outside
    for source in page.images.values():
        kind, _, data = source.partition(",")
        assert kind == "data:image/svg+xml;base64"
        picture = ElementTree.fromstring(b64decode(data))
        assert picture.tag.endswith("svg")
        assert len(list(picture.iter())) > 50
        assert b"$" not in b64decode(data)  # formulas that nobody has set


def test_a_difference_is_shown_with_its_reason() -> None:
    bent = results("xen", bend=dearer("ptxen", by(3), "fig06"))
    text = page_of(render(bent, [])).text
    assert "PTxen is about ten times as fast as PT." in text
    assert "3.7× is below the paper's 10×: each page costs naive-pt" in text


@pytest.mark.parametrize(("place", "missing"), [("native", "inside Xen"), ("xen", "natively")])
def test_one_place_alone_makes_a_page_that_says_what_is_missing(place: str, missing: str) -> None:
    text = page_of(render(results(place), [])).text
    assert f"Nothing measured {missing}" in text
    assert f"there is no result file with rows measured {missing}" in text


def test_why_there_is_no_xen_is_said() -> None:
    assert "qemu is missing. What needs" in render(results("native"), [], "qemu is missing")


def test_figures_that_cannot_be_drawn_say_why() -> None:
    only = results("native", bend=lambda row: row if row.sweep == "fig06" else None)
    drawn = list(plots(only))
    gaps = {each.figure: each.reason for each in drawn if isinstance(each, Gap)}
    assert [each.figure for each in drawn if isinstance(each, Plot)] == ["6"]
    assert gaps["8b"] == "no rows of emulxen and ptxen"
    assert "8b, natively: not drawn, no rows of emulxen and ptxen." in render(only, drawn)


def test_the_same_rows_make_the_same_pictures() -> None:
    rows = results("xen", bend=lambda row: row if row.sweep == "fig06" else None)
    first, second = ([e.svg for e in plots(rows) if isinstance(e, Plot)] for _ in range(2))
    assert first == second


def test_no_two_engines_look_alike() -> None:
    for what in ("color", "marker", "label"):
        assert len({getattr(look, what) for look in LOOKS.values()}) == len(LOOKS)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    names = []
    for place in ("native", "xen"):
        path = tmp_path / f"{place}.json"
        whole = document(place)
        rows = [row for row in whole["rows"] if row["sweep"] == "fig06"]
        path.write_text(json.dumps(whole | {"rows": rows}))
        names.append(str(path))
    return names


def test_commands_write_page_and_pictures(files: list[str], tmp_path: Path) -> None:
    page, figures = tmp_path / "out" / "page.html", tmp_path / "figures"
    assert main(["report", *files, "--out", str(page)]) == 0
    assert page_of(page.read_text()).images
    assert main(["plot", files[0], "--out", str(figures)]) == 0
    assert [path.name for path in figures.iterdir()] == ["fig6-native.svg"]


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda native: native | {"version": 7}, "version 7"),
        (lambda native: native | {"place": "mars"}, "mars"),
        (lambda native: native | {"rows": [{}]}, "rows[0]"),
        (lambda native: native | {"rows": [native["rows"][0] | {"per_txn": 0}]}, "not above 0"),
    ],
)
def test_files_that_cannot_be_used_are_refused(
    files: list[str], capsys: pytest.CaptureFixture[str], spoil: Any, complaint: str
) -> None:
    Path(files[0]).write_text(json.dumps(spoil(document("native"))))
    page = Path(files[0]).with_name("page.html")
    assert main(["report", *files, "--out", str(page)]) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert files[0] in said
    assert not page.exists()


def test_what_is_measured_twice_is_refused(
    files: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    again = tmp_path / "again.json"
    again.write_text(Path(files[0]).read_text())
    assert main(["report", *files, str(again)]) == 2
    assert "both have naive-pt in fig06 (native): give one of the two" in capsys.readouterr().err


def opened(page: Path, width: int) -> list[str]:
    program = browser.find()
    if program is None:
        pytest.skip(f"none of {', '.join(browser.NAMES)} (HAC_REPORT=1 make setup installs one)")
    return browser.complaints(program, page, width)


@pytest.mark.parametrize("width", browser.WIDTHS)
def test_a_browser_opens_it_without_complaint(whole: str, width: int, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(whole)
    assert opened(page, width) == []


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("<h1>", '<h1 style="width: 3000px">', "pixels wide"),
        ("</body>", "<script>nothing.here()</script></body>", "nothing is not defined"),
        ("data:image/svg+xml;base64,", "data:image/svg+xml;base64,AAAA", "is empty"),
        ("max-width: 100%", "min-width: 2000px", "wider than the window"),
    ],
)
def test_a_browser_finds_what_is_wrong(
    whole: str, before: str, after: str, complaint: str, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    page.write_text(whole.replace(before, after, 1))
    assert any(complaint in each for each in opened(page, 360))

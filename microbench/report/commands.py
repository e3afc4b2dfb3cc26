# SPDX-License-Identifier: MIT
"""`plot` and `report`: from result files to figures, and to one page."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from microbench.program import build_folder
from microbench.report import browser
from microbench.report.measured import Measured, Unusable, read
from microbench.results import BadResults

if TYPE_CHECKING:
    from microbench.report.figures import Gap, Plot

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

EXTRA = "needs {}: run `make setup`, or `pip install matplotlib jinja2`"

PLOT = """\
Draw the paper's figures 6 to 18 from result files of `run`, an SVG file for
each figure and place (native, xen).
"""
PLOT_EPILOG = """\
example:
  python -m microbench plot native.json xen.json --out figures

exit codes: 0 all drawn that the files have rows for; 1 no figure could be
drawn; 2 a file cannot be used, or matplotlib is missing.
"""
REPORT = """\
Make one HTML page from result files of `run`: figures 6 to 18, Table 2, every
statement of the paper with a verdict (holds, differs and why, cannot be told)
and its number beside ours. Native and Xen results together make one page; each
alone works, too, and the page says what is missing.
"""
REPORT_EPILOG = """\
example:
  python -m microbench report native.json xen.json --out report.html

exit codes: 0 written, whatever the verdicts are; 1 written, but --check found
something wrong with it; 2 a file cannot be used, or matplotlib or jinja2 is
missing. `make report` measures, makes the page and checks it.
"""


def add_command(commands: "Commands") -> None:
    for name, what, text, epilog, run in (
        ("plot", "draw the paper's figures", PLOT, PLOT_EPILOG, plot),
        ("report", "make the page with all figures", REPORT, REPORT_EPILOG, report),
    ):
        parser = commands.add_parser(
            name,
            help=what,
            description=text,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="a result file")
        out, default = ("DIR", "figures") if name == "plot" else ("HTML", "report.html")
        parser.add_argument(
            "--out", type=Path, metavar=out, help=f"where to ($HAC_BUILD/{default})"
        )
        if name == "report":
            parser.add_argument(
                "--no-xen", default="", metavar="REASON", help="why there are no results from Xen"
            )
            parser.add_argument(
                "--check", action="store_true", help="open the page in a headless browser, too"
            )
        parser.set_defaults(run=run)


def _drawn(results: Measured) -> "list[Plot | Gap]":
    from microbench.report.figures import plots

    return list(plots(results))


def plot(options: argparse.Namespace) -> int:
    try:
        results = read(options.files)
        drawn = _drawn(results)
    except (BadResults, Unusable, ModuleNotFoundError) as error:
        return _refuse("plot", error)
    from microbench.report.figures import Plot

    out = options.out or build_folder() / "figures"
    out.mkdir(parents=True, exist_ok=True)
    made = 0
    for each in drawn:
        if isinstance(each, Plot):
            path = out / f"{each.name}.svg"
            path.write_bytes(each.svg)
            made += 1
            print(path)
        else:
            print(f"not drawn: {each.figure}, {each.place}: {each.reason}", file=sys.stderr)
    return 0 if made else 1


def report(options: argparse.Namespace) -> int:
    try:
        results = read(options.files)
        from microbench.report.page import render

        text = render(results, _drawn(results), options.no_xen)
    except (BadResults, Unusable, ModuleNotFoundError) as error:
        return _refuse("report", error)
    out = options.out or build_folder() / "report.html"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text)
    print(f"written to {out}")
    return _check(out) if options.check else 0


def _check(page: Path) -> int:
    program = browser.find()
    if program is None:
        print(f"not checked: there is none of {', '.join(browser.NAMES)}; $HAC_BROWSER names one")
        return 0
    for width in browser.WIDTHS:
        try:
            complaints = browser.complaints(program, page, width)
        except browser.BrowserFailed as error:
            complaints = [str(error)]
        for complaint in complaints:
            print(f"report: {width} pixels wide: {complaint}", file=sys.stderr)
        if complaints:
            return 1
        print(f"opened in {Path(program).name}, {width} pixels wide: all is there")
    return 0


def _refuse(name: str, error: Exception) -> int:
    reason = EXTRA.format(error.name) if isinstance(error, ModuleNotFoundError) else str(error)
    print(f"{name}: {reason}", file=sys.stderr)
    return 2

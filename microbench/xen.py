# SPDX-License-Identifier: MIT
"""`xen`: the engines over Xen against user space, in instructions."""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from microbench.cells import MIB, Cell, Variant
from microbench.program import ROOT, Missing, build_folder, executable
from microbench.rows import Target
from microbench.xen_cells import (
    EMUL_PER_WRITE,
    PAIRS,
    SCAN,
    SCAN_PAPER,
    SCAN_VARIANT,
    Pair,
)
from microbench.xen_rows import ScanLine, XenDocument, XenRow

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

MEMORY_MB, TIMEOUT_S = 1400, 1500

DESCRIPTION = """\
Boot the patched Xen in an emulator that counts instructions, and compare the
engines over Xen with naive PT and with emul, in one boot. Instructions are
those of the process, the guest's kernel and Xen together. Lists of pages or of
words, no twin on either side.
"""
EPILOG = """\
example:
  python -m microbench xen --json /tmp/bench-xen.json

exit codes: 0 measured, whatever the targets say; 1 something could not be
measured; 2 not built, or the boot failed (its code is in the message).
"""


def add_command(commands: "Commands") -> None:
    parser = commands.add_parser(
        "xen",
        help="measure the engines over Xen",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="where the numbers go ($HAC_BUILD/bench-xen.json)"
    )
    parser.set_defaults(run=run)


def boot_command(share: Path, seconds: int) -> list[str]:
    """The words before a command that is to run inside Xen, its instructions counted."""
    words = [str(ROOT / "hypercall-patch" / "boot"), "--icount", "--memory", str(MEMORY_MB)]
    return [*words, "--timeout", str(seconds), "--share", str(share), "--"]


def _boot() -> XenDocument:
    with tempfile.TemporaryDirectory() as share:
        rows = Path(share) / "rows.json"
        command = boot_command(Path(share), TIMEOUT_S)
        command += [sys.executable, "-m", "microbench", "xen-inside", "--json", str(rows)]
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        if code or not rows.exists():
            raise Missing(f"the boot ended with {code}")
        document: XenDocument = json.loads(rows.read_text())
        return document


def _find(rows: list[XenRow], cell: Cell, variant: Variant) -> XenRow | None:
    for row in rows:
        if (
            (row["engine"], row["loop"], row["delta"])
            == (variant.engine, variant.loop, variant.delta)
            and not row["twin"]
            and (row["cda_bytes"], row["ppt"], row["wpp"]) == (cell.cda_bytes, cell.ppt, cell.wpp)
        ):
            return row
    return None


def _shape(pair: Pair) -> str:
    cell = pair.cell
    if pair.engine == "emulxen":
        return f"{cell.ppt * cell.wpp} writes"
    return f"{cell.ppt} of {cell.cda_bytes // 4096} pages"


def _judge(rows: list[XenRow]) -> Iterator[Target]:
    for pair in PAIRS:
        base, *ours = [_find(rows, pair.cell, variant) for variant in pair.variants()]
        for row in ours:
            if not base or not row:
                continue
            got = base["instr_per_txn"] / row["instr_per_txn"]
            loop = ", hac_next" if row["loop"] == "next" else ""
            name = f"{pair.engine} over {pair.baseline}, {_shape(pair)}{loop}"
            yield {
                "name": name,
                "kind": "target",
                "wanted": pair.wanted,
                "got": round(got, 2),
                "met": got >= pair.wanted,
            }
    yield from _judge_emul(rows)


def _judge_emul(rows: list[XenRow]) -> Iterator[Target]:
    """What one more write costs under emul: begin and end, which are not in it, fall out."""
    pairs = [pair for pair in PAIRS if pair.baseline == "emul"]
    found = [_find(rows, pair.cell, next(pair.variants())) for pair in (pairs[0], pairs[-1])]
    few, many = found
    if few and many:
        writes = many["ppt"] * many["wpp"] - few["ppt"] * few["wpp"]
        each = (many["instr_per_txn"] - few["instr_per_txn"]) / writes
        yield {
            "name": "emul: instructions a write, at most",
            "kind": "target",
            "wanted": EMUL_PER_WRITE,
            "got": round(each),
            "met": each <= EMUL_PER_WRITE,
        }


def _fit(rows: list[XenRow]) -> ScanLine | None:
    found = [row for cell in SCAN if (row := _find(rows, cell, SCAN_VARIANT))]
    if len(found) < 3:
        return None
    terms = np.array([[1.0, row["ppt"], row["cda_bytes"] / MIB] for row in found])
    cost = np.array([row["instr_per_txn"] for row in found])
    base, a, b = np.linalg.lstsq(terms, cost, rcond=None)[0]
    return {
        "base": round(float(base), 1),
        "a": round(float(a), 1),
        "b": round(float(b), 1),
        "paper_a": SCAN_PAPER[0],
        "paper_b": SCAN_PAPER[1],
    }


def _show(document: XenDocument) -> None:
    shown = None
    for row in document["rows"]:
        cell = Cell(row["cda_bytes"], row["ppt"], row["wpp"], row["pattern"], row["threads"])
        if cell != shown:
            shown = cell
            print(f"\n{cell}")
        name = str(Variant(row["engine"], row["delta"], row["twin"], row["loop"]))
        spread = 100 * row["spread"] / row["instr_per_txn"]
        print(
            f"  {name:34}{row['instr_per_txn']:12,.0f} instructions ±{spread:3.1f} %"
            f" {row['ratio_to_pt']:9.2f}x"
        )
    print("\ntargets")
    for target in document["targets"]:
        verdict = "met" if target["met"] else "MISSED"
        print(f"  {verdict:8}{target['name']}: wanted {target['wanted']:g}, got {target['got']:g}")
    for engine, paper in {pair.engine: pair.paper for pair in PAIRS}.items():
        print(f"  the paper, {engine}: {paper}")
    _show_line(document["scan"])
    for title in ("skipped", "failed"):
        for entry in document[title]:
            print(f"{title}: {entry['what']}: {entry['reason']}")


def _show_line(line: ScanLine | None) -> None:
    if not line:
        return
    print("\nscanxen: y = a PPT + b MB")
    print(
        f"  here   a = {line['a']:g}, b = {line['b']:g} instructions (and {line['base']:g} always)"
    )
    print(f"  paper  a = {line['paper_a']:g}, b = {line['paper_b']:g} of an unnamed unit")
    print(
        f"  a / b  here {line['a'] / line['b']:.3f}, "
        f"paper {line['paper_a'] / line['paper_b']:.3f} MB a page"
    )


def run(options: argparse.Namespace) -> int:
    try:
        for name in ("naive_pt", "engine_bench"):
            executable(name)
        document = _boot()
    except Missing as error:
        print(f"xen: {error}", file=sys.stderr)
        return 2
    document["targets"] = list(_judge(document["rows"]))
    document["scan"] = _fit(document["rows"])
    out = options.json or build_folder() / "bench-xen.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(document, indent=1) + "\n")
    _show(document)
    print(f"\nwritten to {out}")
    return 1 if document["failed"] or document["skipped"] else 0

# SPDX-License-Identifier: MIT
"""`run --xen` without Xen: guests share their jobs, and what they say is put together."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from microbench import jobs, results, table2
from microbench.cells import NAIVE, Cell, listing
from microbench.measuring import Job, save
from microbench.program import ROOT
from microbench.run import _empty
from microbench.run_inside import JOBS, SETTINGS, found_by
from microbench.run_xen import _Gathered
from microbench.sweeps import find

pytestmark = pytest.mark.usefixtures("built")


def some_jobs(count: int, *engines: str) -> list[Job]:
    variants = tuple(map(listing, (NAIVE, *engines)))
    return [Job("s", Cell(65536, ppt, 1), variants, 65536, 100) for ppt in range(1, count + 1)]


def start(folder: Path, number: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "microbench.run_inside", str(folder), str(number)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def said(folder: Path, number: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / found_by(number)).read_text().splitlines()]


def nothing() -> results.Results:
    return _empty(find(["fig06"], table2.PAPER), "xen", True)


def test_guests_share_the_jobs(tmp_path: Path) -> None:
    planned = some_jobs(6, "pt", "ptxen")
    absent = jobs.here()["ptxen"]
    save(planned, tmp_path / JOBS)
    (tmp_path / SETTINGS).write_text(json.dumps({"named": [], "quick": True}))
    guests = [start(tmp_path, number) for number in range(2)]
    assert [guest.wait(timeout=60) for guest in guests] == [0, 0], guests[0].communicate()
    found, ticks = nothing(), list[str]()
    gathered = _Gathered(planned, found, ticks.append)
    for number in range(2):
        gathered.add(said(tmp_path, number))
    gathered.finish([])
    assert len(ticks) == 6
    assert [row["ppt"] for row in found["rows"] if row["engine"] == NAIVE] == [1, 2, 3, 4, 5, 6]
    assert {row["unit"] for row in found["rows"]} == {"instructions"}
    assert all(row["transactions"] >= 50 for row in found["rows"])
    assert found["versions"]["engines"]
    assert not found["failed"]
    if absent:
        assert found["skipped"] == [{"what": "s: ptxen", "reason": absent}]


def test_what_was_named_and_does_not_work_is_refused(tmp_path: Path) -> None:
    if not jobs.here()["ptxen"]:
        pytest.skip("it works here")
    save(some_jobs(1, "ptxen"), tmp_path / JOBS)
    (tmp_path / SETTINGS).write_text(json.dumps({"named": ["ptxen"], "quick": True}))
    guest = start(tmp_path, 0)
    guest.communicate(timeout=60)
    assert guest.returncode == 2
    with pytest.raises(jobs.Refused, match="engine ptxen is not available here: "):
        _Gathered([], nothing(), print).add(said(tmp_path, 0))


def test_what_no_guest_has_done_is_named() -> None:
    planned, found = some_jobs(2), nothing()
    gathered = _Gathered(planned, found, print)
    gathered.add([{"job": 1, "rows": [], "failed": []}])
    gathered.finish(["guest 0 ended with 123: it broke"])
    assert found["failed"] == [
        {"what": "a guest of Xen", "reason": "guest 0 ended with 123: it broke"}
    ]
    (left,) = found["skipped"]
    assert left["what"] == f"s: {planned[0].cell}"

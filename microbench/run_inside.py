# SPDX-License-Identifier: MIT
"""What `run --xen` runs in each guest: `python -m microbench.run_inside FOLDER NUMBER`.

The folder is the host's, and that of all guests: they take jobs from one list, by making
a file for each that they take, and append what they find to a file of their own. There an
instruction takes a nanosecond, so what the programs report as nanoseconds are instructions:
of the process, the guest's kernel and Xen.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from microbench import jobs, machine
from microbench.cells import Variant
from microbench.measuring import Effort, Job, Round, load, row, taker
from microbench.program import Program, ProgramFailed, Unavailable
from microbench.rounds import measure
from microbench.rows import Skip

JOBS, SETTINGS = "jobs.json", "settings.json"
SPREAD = 0.03


def found_by(number: int) -> str:
    """The file that a guest writes: a line for each job."""
    return f"found-{number}.jsonl"


def _taken(folder: Path, count: int) -> Iterator[int]:
    """The jobs that nobody else has taken, taking them. From the end, where the dearest
    workloads are, so that no guest is left alone with one."""
    for number in reversed(range(count)):
        try:
            os.close(os.open(folder / f"taken-{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            continue
        yield number


def _steady(job: Job, variant: Variant, effort: Effort) -> list[Round]:
    """Rounds until they lie together."""
    with Program(job.cell, variant) as program:
        take = taker(job, program, effort)
        found = [take(turn) for turn in range(effort.rounds)]
        while len(found) < jobs.XEN_ROUNDS_MOST:
            costs = measure([each.cost for each in found])
            if costs.spread < SPREAD * costs.ns:
                break
            found.append(take(len(found)))
    return found


def _measure(job: Job, effort: Effort) -> dict[str, Any]:
    rows, failed = [], list[Skip]()
    for variant in job.variants:
        try:
            rows.append(row(job, variant, "instructions", _steady(job, variant, effort)))
        except (ProgramFailed, Unavailable) as error:
            failed.append({"what": f"{job.sweep}: {variant} ({job.cell})", "reason": str(error)})
    return {"rows": rows, "failed": failed}


def _xen() -> str:
    def read(name: str) -> str:
        try:
            return Path(f"/sys/hypervisor/{name}").read_text().strip()
        except OSError:
            return "?"

    version = f"{read('version/major')}.{read('version/minor')}{read('version/extra')}"
    return f"{version}, {read('guest_type')} guest"


def _put(file: TextIO, found: dict[str, Any]) -> None:
    file.write(json.dumps(found) + "\n")
    file.flush()


def main(folder: Path, number: int) -> int:
    settings = json.loads((folder / SETTINGS).read_text())
    with (folder / found_by(number)).open("w") as file:
        reasons = jobs.here()
        try:
            jobs.check_available(settings["named"], reasons)
        except jobs.Refused as refused:
            _put(file, {"refused": str(refused)})
            return 2
        planned, skipped = jobs.sift(load(folder / JOBS), reasons)
        offers = ", ".join(name for name, reason in reasons.items() if not reason)
        versions = {"xen": _xen(), "engines": offers}
        _put(file, {"machine": machine.describe(), "versions": versions, "skipped": skipped})
        effort = jobs.effort("xen", settings["quick"])
        for taken in _taken(folder, len(planned)):
            found = _measure(planned[taken], effort)
            _put(file, {"job": taken, **found})
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))

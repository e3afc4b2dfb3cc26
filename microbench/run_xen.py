# SPDX-License-Identifier: MIT
"""The jobs of `run --xen`: shared out to guests of the patched Xen, each in an emulator.

Counts of instructions do not depend on what else the machine does, so there is a guest for
each processor. They take jobs from one list (run_inside.py).
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from microbench.jobs import Refused
from microbench.measuring import Job, save
from microbench.program import ROOT
from microbench.results import Results, Row
from microbench.run_inside import JOBS, SETTINGS, found_by
from microbench.xen import boot_command

GUESTS_MOST = 4
SECONDS = 1800  # a guest, at most

Tick = Callable[[str], None]


def check() -> None:
    """Is all there that a guest needs? Raises Refused."""
    command = [str(ROOT / "hypercall-patch" / "boot"), "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip()
        raise Refused(f"there is no Xen to run in: {said}")


class _Guests:
    """Emulators that work on the jobs of a folder."""

    def __init__(self, folder: Path, count: int) -> None:
        self._folder, self._seen = folder, [0] * count
        self._processes: list[subprocess.Popen[bytes]] = []
        words = [*boot_command(folder, SECONDS), sys.executable, "-m", "microbench.run_inside"]
        try:
            for number in range(count):
                with (folder / f"log-{number}").open("wb") as log:
                    command = [*words, str(folder), str(number)]
                    self._processes.append(
                        subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
                    )
        except BaseException:
            self.end()
            raise

    def running(self) -> bool:
        return any(process.poll() is None for process in self._processes)

    def news(self) -> list[dict[str, Any]]:
        """What they have found since the last call."""
        found = []
        for number, seen in enumerate(self._seen):
            with suppress(FileNotFoundError):
                whole = (self._folder / found_by(number)).read_text()
                lines = whole[: whole.rfind("\n") + 1].splitlines()
                found += [json.loads(line) for line in lines[seen:]]
                self._seen[number] = len(lines)
        return found

    def complaints(self) -> list[str]:
        """Of those that did not end well."""
        found = []
        for number, process in enumerate(self._processes):
            if code := process.wait():
                log = (self._folder / f"log-{number}").read_text(errors="replace")
                found.append(f"guest {number} ended with {code}: {log.strip()[-2000:]}")
        return found

    def end(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait()


class _Gathered:
    """What the guests say, put together."""

    def __init__(self, jobs: Sequence[Job], found: Results, tick: Tick) -> None:
        self._jobs, self._found, self._tick = jobs, found, tick
        self._rows: dict[int, list[Row]] = {}

    def add(self, news: Iterable[dict[str, Any]]) -> None:
        found = self._found
        for said in news:
            if reason := said.get("refused"):
                raise Refused(reason)
            if "machine" in said:
                found["machine"] = said["machine"]
                found["versions"] |= said["versions"]
                found["skipped"] += [s for s in said["skipped"] if s not in found["skipped"]]
                continue
            self._rows[said["job"]] = said["rows"]
            found["failed"] += said["failed"]
            job = self._jobs[said["job"]]
            self._tick(f"{job.sweep}: {job.cell}")

    def finish(self, complaints: Iterable[str]) -> None:
        """In the order of the jobs, whoever was first; what nobody has done is named."""
        for number in sorted(self._rows):
            self._found["rows"] += self._rows[number]
        for complaint in complaints:
            self._found["failed"].append({"what": "a guest of Xen", "reason": complaint})
        for number, job in enumerate(self._jobs):
            if number not in self._rows:
                what = f"{job.sweep}: {job.cell}"
                self._found["skipped"].append({"what": what, "reason": "no guest got that far"})


def measure(jobs: Sequence[Job], named: Sequence[str], found: Results, tick: Tick) -> None:
    """Run the jobs; what is done is in `found` also when this is interrupted."""
    if not jobs:
        return
    gathered, complaints = _Gathered(jobs, found, tick), list[str]()
    with tempfile.TemporaryDirectory(prefix="hac-run-") as share:
        folder = Path(share)
        save(jobs, folder / JOBS)
        settings = {"named": list(named), "quick": found["quick"]}
        (folder / SETTINGS).write_text(json.dumps(settings))
        guests = _Guests(folder, min(len(os.sched_getaffinity(0)), GUESTS_MOST, len(jobs)))
        try:
            while guests.running():
                time.sleep(0.3)
                gathered.add(guests.news())
            complaints = guests.complaints()
        finally:
            guests.end()
            gathered.add(guests.news())
            gathered.finish(complaints)

# SPDX-License-Identifier: MIT
"""How the factors of pyhac/costs.py are measured, and where they are kept.

``python -m pyhac.calibration uffd,compare`` measures, in a process of its own: what the
caller has mapped, its threads and its environment are not to be in the numbers. A
transaction is begin, writes to random words of random pages, and end, by the public
interface. libhac itself says what begin and end took; of the writes, what the same
writes to memory that nobody watches take is subtracted, and with it Python's part.

It takes a second or so for each engine, and is kept in ``$XDG_CACHE_HOME/hac/engines.json``
(``~/.cache``) for this machine, kernel and libhac.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter_ns
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _ffi, _native
from .costs import Costs, Line, Sample, fit
from .errors import Error

VERSION = 1
PAGE, PAGE_WORDS = 4096, 512
SIZES = tuple(PAGE << shift for shift in range(2, 16, 2))  # 16 KiB to 64 MiB
PPTS, WPPS = (1, 4, 16), (1, 8)
CHOICES = 32  # transactions that differ
ROUNDS, ROUND_NS = 5, 2_000_000
MANY = 5  # areas, to see what one costs
# They would change what is measured, or be told of it.
SILENCED = ("HAC_ENGINE", "HAC_ADVISE")


class Manner(NamedTuple):
    """How a context was opened, as far as it changes what tracking costs."""

    twin: bool = True
    join_strays: bool = False

    def __str__(self) -> str:
        joins = ", join_strays" if self.join_strays else ""
        return ("twin" if self.twin else "no twin") + joins


# -- measuring -----------------------------------------------------------------------


def _choices(pages: int, ppt: int, wpp: int) -> list[NDArray[np.int64]]:
    """Which words each of some transactions writes: always the same."""
    random = np.random.default_rng((pages, ppt, wpp))
    found = []
    for _ in range(CHOICES):
        chosen = random.choice(pages, ppt, replace=False) * PAGE_WORDS
        words = [random.choice(PAGE_WORDS, wpp, replace=False) + first for first in chosen]
        found.append(np.concatenate(words).astype(np.int64))
    return found


class _Tracked:
    """Areas under one engine, and memory of the same size that nobody watches."""

    def __init__(self, engine: str, cda_bytes: int, manner: Manner, areas: int = 1) -> None:
        from .context import Context

        self._ctx = Context().open(engine=engine, twin=manner.twin, join_strays=manner.join_strays)
        words = cda_bytes // 8
        self._pages = cda_bytes // PAGE
        self._area = self._ctx.array("area", words, "u8")
        for number in range(1, areas):
            self._ctx.array(f"area {number}", words, "u8")[:] = 1
        self._bare = np.ones(words, "u8")
        self._area[:] = 1
        with self._ctx.transaction():
            pass
        self._written = 1

    def close(self) -> None:
        self._ctx.close()

    def _bare_round(self, choices: Sequence[NDArray[np.int64]], count: int) -> float:
        bare, written, spent = self._bare, self._written, 0
        for number in range(count):
            words = choices[number % CHOICES]
            start = perf_counter_ns()
            bare[words] = written + number
            spent += perf_counter_ns() - start
        return spent / count

    def _round(self, choices: Sequence[NDArray[np.int64]], count: int) -> float:
        from .jit import hac_abort, hac_begin, hac_end

        area, handle, before, spent = self._area, self._ctx.handle, self._ctx.stats, 0
        for number in range(count):
            words = choices[number % CHOICES]
            value = self._written + number
            if hac_begin(handle) < 0:
                raise Error("calibration: a transaction did not begin")
            start = perf_counter_ns()
            area[words] = value
            spent += perf_counter_ns() - start
            if hac_end(handle, 0, 0) < 0:
                hac_abort(handle)
                raise Error("calibration: a transaction did not end")
        self._written += count
        did = self._ctx.stats - before
        return (did.begin_ns + did.end_ns + spent) / count

    def sample(self, ppt: int, wpp: int) -> Sample:
        choices = _choices(self._pages, ppt, wpp)
        once = self._round(choices, 2)
        count = int(min(max(ROUND_NS / max(once, 1.0), 1), 1000))
        self._bare_round(choices, CHOICES)
        # Whatever else the machine does makes a round longer, never shorter.
        tracked = min(self._round(choices, count) for _ in range(ROUNDS))
        bare = min(self._bare_round(choices, max(count, CHOICES)) for _ in range(ROUNDS))
        return Sample(ppt, wpp, max(tracked - bare, 0.0))


def _samples(tracked: _Tracked, pages: int) -> list[Sample]:
    return [tracked.sample(ppt, wpp) for ppt in PPTS if ppt <= pages for wpp in WPPS]


def _area_ns(engine: str, manner: Manner) -> float:
    """What one more area costs; ``base`` has its size."""
    found = []
    for areas, cda_bytes in ((1, MANY * SIZES[0]), (MANY, SIZES[0])):
        tracked = _Tracked(engine, cda_bytes, manner, areas)
        try:
            found.append(tracked.sample(1, 1).ns)
        finally:
            tracked.close()
    return max(0.0, round((found[1] - found[0]) / (MANY - 1), 2))


def measure(engine: str, manner: Manner) -> Costs:
    """The factors of an engine, measured in this process."""
    lines: list[Line] = []
    for cda_bytes in SIZES:
        tracked = _Tracked(engine, cda_bytes, manner)
        try:
            lines.append(fit(cda_bytes, _samples(tracked, cda_bytes // PAGE)))
        finally:
            tracked.close()
    return Costs(tuple(lines), _area_ns(engine, manner))


# -- keeping -------------------------------------------------------------------------


def _processor() -> str:
    with suppress(OSError), open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _machine() -> dict[str, Any]:
    """What the numbers are good for."""
    libraries = Path(_ffi.__file__).parent.rglob("*.so*")
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "libhac": _native.library_version(),
        "built": max(file.stat().st_mtime_ns for file in libraries),
    }


def cache_file() -> Path:
    """Where the factors are kept."""
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(folder) / "hac" / "engines.json"


def _read() -> dict[str, dict[str, Any]]:
    """By manner and engine; nothing if they are another machine's, or no such file."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(cache_file().read_text())
        if kept["version"] == VERSION and kept["machine"] == _machine():
            return dict(kept["costs"])
    return {}


def _write(costs: dict[str, dict[str, Any]]) -> None:
    """Whole or not at all. Where it cannot be kept it is measured again."""
    document = {"version": VERSION, "machine": _machine(), "costs": costs}
    with suppress(OSError):
        file = cache_file()
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as out:
            json.dump(document, out, indent=1)
        os.replace(out.name, file)


def _measure_apart(engines: Sequence[str], manner: Manner) -> dict[str, Any]:
    environment = {name: value for name, value in os.environ.items() if name not in SILENCED}
    command = [sys.executable, "-m", "pyhac.calibration", ",".join(engines)]
    command += [str(int(manner.twin)), str(int(manner.join_strays))]
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise Error(f"the engines could not be measured: {why}")
    return dict(json.loads(done.stdout))


def costs_of(engines: Iterable[str], manner: Manner, *, anew: bool = False) -> dict[str, Costs]:
    """The factors of engines that are available here: kept ones, or measured now.

    Args:
        engines: their names.
        manner: of the context that is asked about.
        anew: measure even what has been.

    Raises:
        Error: they could not be measured.
    """
    wanted, kept = list(engines), _read()
    known = kept.setdefault(str(manner), {})
    missing = [name for name in wanted if anew or name not in known]
    if missing:
        known.update(_measure_apart(missing, manner))
        _write(kept)
    return {name: Costs.from_json(known[name]) for name in wanted}


def main(arguments: Sequence[str]) -> int:
    names, twin, joins = arguments
    manner = Manner(bool(int(twin)), bool(int(joins)))
    found = {name: measure(name, manner).to_json() for name in names.split(",")}
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

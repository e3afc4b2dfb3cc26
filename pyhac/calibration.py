# SPDX-License-Identifier: MIT
"""How the factors of pyhac/costs.py are measured, and where they are kept.

``python -m pyhac.calibration uffd,compare 1 0`` measures, in a process of its own: what
the caller has mapped, its threads and its environment are not to be in the numbers. A
transaction is begin, writes to random words of random pages, and end, in a loop in C.

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
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _ffi, _native
from .costs import Costs, Sample, fit
from .errors import Error

VERSION = 1
PAGE, PAGE_WORDS = 4096, 512
SIZES = tuple(PAGE << shift for shift in range(2, 14))  # 16 KiB to 32 MiB
PPTS, WPPS = (1, 4, 16), (1, 8)
TABLE_WORDS = 16384  # bounds the choices, which share the caches
LONG_NS = 2_000_000
PASSES, ROUNDS, ROUND_NS = 3, 2, 1_000_000
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


def _choices(pages: int, ppt: int, wpp: int) -> NDArray[np.uint32]:
    """The words that transactions write: wpp distinct ones of each of ppt distinct pages.
    Odd steps round a power of two never meet."""
    random = np.random.default_rng((pages, ppt, wpp))
    count = min(max(TABLE_WORDS // (ppt * wpp), 64), 4096)

    def distinct(shape: tuple[int, ...], limit: int, wanted: int) -> NDArray[np.int64]:
        first = random.integers(limit, size=(*shape, 1))
        step = random.integers(limit, size=(*shape, 1)) | 1
        return (first + step * np.arange(wanted)) % limit

    page = distinct((count,), pages, ppt)
    word = distinct((count, ppt), PAGE_WORDS, wpp)
    return (page[:, :, None] * PAGE_WORDS + word).astype(np.uint32).reshape(-1)


class _Tracked:
    """Areas under one engine; the first is written to."""

    def __init__(self, engine: str, cda_bytes: int, manner: Manner, areas: int = 1) -> None:
        from .context import Context

        self._ctx = Context().open(engine=engine, twin=manner.twin, join_strays=manner.join_strays)
        self._pages = cda_bytes // PAGE
        self._areas = [
            self._ctx.array(f"area {number}", cda_bytes // 8, "u8") for number in range(areas)
        ]
        for area in self._areas:
            area[:] = 1
        self._value = 2
        with self._ctx.transaction():
            pass  # the filling is an epoch of its own

    def close(self) -> None:
        self._ctx.close()

    def sample(self, ppt: int, wpp: int) -> Sample:
        words = _choices(self._pages, ppt, wpp)

        def run(count: int) -> float:
            first = self._value
            self._value += count
            taken = _native.track(self._ctx.handle, self._areas[0], words, ppt * wpp, count, first)
            return taken / count

        count = int(min(max(ROUND_NS / max(run(2), run(2), 1.0), 1), 4096))
        # Whatever else the machine does makes a round longer, never shorter.
        return Sample(self._pages * PAGE, ppt, wpp, min(run(count) for _ in range(ROUNDS)))


def _samples(
    engine: str, manner: Manner, cda_bytes: int, areas: int, shapes: Iterable[tuple[int, int]]
) -> Iterator[Sample]:
    tracked = _Tracked(engine, cda_bytes, manner, areas)
    try:
        for ppt, wpp in shapes:
            found = tracked.sample(ppt, wpp)
            yield found
            if found.ns > LONG_NS:
                break  # all of it is base
    finally:
        tracked.close()


def _area_ns(engine: str, manner: Manner) -> float:
    """What one more area costs; ``base`` has its size."""
    found = []
    for areas, cda_bytes in ((1, 4 * SIZES[0]), (4, SIZES[0])):
        (sample,) = _samples(engine, manner, cda_bytes, areas, [(1, 1)])
        found.append(sample.ns)
    return (found[1] - found[0]) / 3


def measure(engine: str, manner: Manner) -> Costs:
    """The factors of an engine, measured in this process. In several passes: what slows
    the machine down for a moment, or where memory happens to lie, is one of them only."""
    best: dict[tuple[int, int, int], Sample] = {}
    area: list[float] = []
    for _ in range(PASSES):
        for cda_bytes in SIZES:
            shapes = [(ppt, wpp) for ppt in PPTS if ppt * PAGE <= cda_bytes for wpp in WPPS]
            for sample in _samples(engine, manner, cda_bytes, 1, shapes):
                key = (cda_bytes, sample.ppt, sample.wpp)
                if key not in best or sample.ns < best[key].ns:
                    best[key] = sample
        area.append(_area_ns(engine, manner))
    return fit(list(best.values()), round(max(median(area), 0.0), 2))


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

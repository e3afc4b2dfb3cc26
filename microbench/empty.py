# SPDX-License-Identifier: MIT
"""An empty transaction, from C and from Python, in one process on one context."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns

import pyhac
from microbench.program import ROOT, Unavailable, build_folder
from microbench.rounds import Effort, Run, interleave
from microbench.rows import Empty

AREA_BYTES = 64 << 10


def libhac() -> ctypes.CDLL:
    """The libhac that pyhac has loaded; the process must not have a second one."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            path = line.split(maxsplit=5)[-1].strip()
            if Path(path).name.startswith("libhac.so"):
                return ctypes.CDLL(path)
    raise Unavailable("pyhac has loaded no libhac.so")


def address(context: pyhac.Context) -> int:
    """The context's `hac *`, as a number."""
    return int(context.handle)


def _compiled() -> ctypes.CDLL:
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if not compiler:
        raise Unavailable("there is no C compiler for the loop in C")
    out = build_folder() / "microbench" / "empty.so"
    out.parent.mkdir(parents=True, exist_ok=True)
    source = ROOT / "microbench" / "loop" / "empty.c"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", out, source], check=True)
    return ctypes.CDLL(str(out))


def _c_loop(context: pyhac.Context) -> Run:
    library = libhac()
    loop = _compiled().empty_transactions
    loop.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64]
    begin = ctypes.cast(library.hac_begin, ctypes.c_void_p)
    end = ctypes.cast(library.hac_end, ctypes.c_void_p)
    handle = ctypes.c_void_p(address(context))

    def run(count: int) -> int:
        start = perf_counter_ns()
        error = loop(begin, end, handle, count)
        elapsed = perf_counter_ns() - start
        if error:
            raise OSError(-error, f"the loop in C: {os.strerror(-error)}")
        return elapsed

    return run


def _python_loop(context: pyhac.Context) -> Run:
    def run(count: int) -> int:
        start = perf_counter_ns()
        for _ in range(count):
            with context.transaction():
                pass
        return perf_counter_ns() - start

    return run


def measure_empty(effort: Effort, tick: Callable[[], None] = lambda: None) -> list[Empty]:
    with pyhac.open() as context:
        context.array("area", AREA_BYTES // 8, "u8")
        runs = {"C": _c_loop(context), "Python": _python_loop(context)}
        found = interleave(runs, effort, tick)
    return [
        {"face": face, "ns_per_txn": round(m.ns, 1), "spread": round(m.spread, 1)}
        for face, m in found.items()
    ]

# SPDX-License-Identifier: MIT
"""An empty transaction, from C and from Python, in one process on one context."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable
from time import perf_counter_ns

import pyhac
from microbench.program import ROOT, Unavailable, build_folder
from microbench.rounds import Effort, Run, interleave
from microbench.rows import Empty
from pyhac import jit

AREA_BYTES = 64 << 10


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
    loop = _compiled().empty_transactions
    loop.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64]
    begin, end = (ctypes.cast(f, ctypes.c_void_p) for f in (jit.hac_begin, jit.hac_end))
    handle = ctypes.c_void_p(context.handle)

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

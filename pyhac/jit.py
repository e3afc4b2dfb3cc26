# SPDX-License-Identifier: MIT
"""Calls of libhac for compiled kernels that bracket their own transactions.

The functions are ctypes functions, which numba compiles into direct calls
(about 2 ns); this module does not need numba. They are those of hac.h, with
every pointer as an integer, 0 for NULL, and answer 0 or -errno::

    from pyhac.jit import hac_abort, hac_begin, hac_end


    @numba.njit
    def count(handle, counters, rounds):
        for i in range(rounds):
            if hac_begin(handle) < 0:
                return i
            counters[i % counters.size] += 1
            if hac_end(handle, 0, 0) < 0:
                hac_abort(handle)
                return i
        return rounds


    count(ctx.handle, counters, 1_000_000)

While Python code has a transaction open in the context, hac_begin answers
-EBUSY, and the other way round.
"""

from __future__ import annotations

import ctypes

from . import _native

_POINTER = ctypes.c_size_t  # numba takes integers where C takes addresses


def _function(name: str, *arguments: type[ctypes.c_size_t]) -> ctypes._CFunctionType:
    prototype = ctypes.CFUNCTYPE(ctypes.c_int, *arguments)
    return prototype(_native.function_address(name))


hac_begin = _function("hac_begin", _POINTER)
"""``hac_begin(handle)``"""
hac_end = _function("hac_end", _POINTER, _POINTER, _POINTER)
"""``hac_end(handle, delta, epoch)``; waits for the context's level."""
hac_next = _function("hac_next", _POINTER, _POINTER, _POINTER)
"""``hac_next(handle, delta, epoch)``: hac_end and hac_begin in one."""
hac_abort = _function("hac_abort", _POINTER)
"""``hac_abort(handle)``"""
hac_will_write = _function("hac_will_write", _POINTER, _POINTER, _POINTER)
"""``hac_will_write(handle, address, size)``"""

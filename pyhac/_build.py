# SPDX-License-Identifier: MIT
"""Write the C source of the extension pyhac._ffi: ``python _build.py OUTPUT.c``.

Runs at build time only, beside _cdef.h and _fast.c; imports neither pyhac nor libhac.
"""

import sys
from pathlib import Path

from cffi import FFI

SOURCE = r"""
#include "hac_helper.h"
#include <time.h>

static int pyhac_wait(hac *h, uint64_t epoch, uint32_t kind, uint32_t count, int ms)
{
    struct hac_level level = {kind, count};

    return hac_wait(h, epoch, kind == HAC_LEVEL_DEFAULT ? NULL : &level, ms);
}

static int64_t pyhac_track(hac *h, uint64_t *area, const uint32_t *words, size_t choices,
                           size_t writes, uint64_t count, uint64_t value)
{
    volatile uint64_t *to = area; /* each store is one store */
    struct timespec start, end;

    clock_gettime(CLOCK_MONOTONIC, &start);
    for (uint64_t i = 0; i < count; i++) {
        const uint32_t *chosen = words + i % choices * writes;
        int result = hac_begin(h);

        for (size_t k = 0; k < writes && result >= 0; k++)
            to[chosen[k]] = value + i;
        if (result >= 0)
            result = hac_end(h, NULL, NULL);
        if (result < 0)
            return result;
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    return (end.tv_sec - start.tv_sec) * (int64_t)1000000000 + end.tv_nsec - start.tv_nsec;
}
"""


def builder() -> FFI:
    """The cffi description of libhac, ready to emit or to compile."""
    here = Path(__file__).parent
    ffi = FFI()
    ffi.cdef((here / "_cdef.h").read_text(encoding="utf-8"))
    fast = (here / "_fast.c").read_text(encoding="utf-8")
    ffi.set_source("pyhac._ffi", SOURCE + fast)
    return ffi


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: _build.py OUTPUT.c", file=sys.stderr)
        return 2
    output = Path(arguments[0])
    builder().emit_c_code(str(output))
    # cffi would choose the limited API, which has no context variables.
    emitted = output.read_text(encoding="utf-8")
    output.write_text("#define _CFFI_NO_LIMITED_API\n" + emitted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

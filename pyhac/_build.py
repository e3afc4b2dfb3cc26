# SPDX-License-Identifier: MIT
"""Write the C source of the extension pyhac._ffi: ``python _build.py OUTPUT.c``.

Runs at build time only, beside _cdef.h; imports neither pyhac nor libhac.
"""

import sys
from pathlib import Path

from cffi import FFI

# Crossing from Python to C costs about as much as an empty transaction does,
# so what every transaction calls in a row is one call here.
SOURCE = r"""
#include "hac.h"

/* Prepare and finish; the epoch, or -errno with the transaction still there. */
static int64_t pyhac_finish(hac *h, struct hac_delta *delta)
{
    uint64_t epoch = 0;
    int code;

    delta->runs = NULL; /* lent, see struct hac_delta */
    delta->bytes = NULL;
    code = hac_prepare(h, delta);
    if (code >= 0)
        code = hac_finish(h, &epoch);
    return code < 0 ? code : (int64_t)epoch;
}

static int pyhac_wait(hac *h, uint64_t epoch, uint32_t kind, uint32_t count, int ms)
{
    struct hac_level level = {kind, count};

    return hac_wait(h, epoch, kind == HAC_LEVEL_DEFAULT ? NULL : &level, ms);
}
"""


def builder() -> FFI:
    """The cffi description of libhac, ready to emit or to compile."""
    ffi = FFI()
    ffi.cdef(Path(__file__).with_name("_cdef.h").read_text(encoding="utf-8"))
    ffi.set_source("pyhac._ffi", SOURCE)
    return ffi


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: _build.py OUTPUT.c", file=sys.stderr)
        return 2
    builder().emit_c_code(arguments[0])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

# SPDX-License-Identifier: MIT
"""Write the C source of the extension pyhac._ffi: ``python _build.py OUTPUT.c``.

Runs at build time only, beside _cdef.h and _fast.c; imports neither pyhac nor libhac.
"""

import sys
from pathlib import Path

from cffi import FFI

SOURCE = r"""
#include "hac_helper.h"

static int pyhac_wait(hac *h, uint64_t epoch, uint32_t kind, uint32_t count, int ms)
{
    struct hac_level level = {kind, count};

    return hac_wait(h, epoch, kind == HAC_LEVEL_DEFAULT ? NULL : &level, ms);
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

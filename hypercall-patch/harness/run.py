# SPDX-License-Identifier: GPL-2.0-only
"""Build the hypervisor's sources in user space, with sanitizers, and run the tests of them."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).resolve().parent
XEN = HERE.parent / "xen"
SKIPPED = 77
FLAGS = [
    *("-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror"),
    "-Wno-unused-parameter",  # Xen's own flags do not have this warning either
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-DCONFIG_HAC"),
    *(f"-I{p}" for p in (HERE / "include", XEN / "arch/x86/include", XEN / "include")),
    f"-I{XEN / 'arch/x86/hac'}",
]
TESTS = {
    "calls": ("test_calls.c",),
    "store": ("test_store.c",),
    "guest": ("fuzz_guest.c", "guest.c", "guest_memory.c"),
}


def zydis(compiler: str) -> list[str]:
    """What it takes to compare with Zydis; nothing where it is not there."""
    program = "#include <Zydis/Zydis.h>\nint main(void) { return !ZydisGetVersion(); }"
    command = [compiler, "-x", "c", "-", "-o", os.devnull, "-lZydis"]
    done = subprocess.run(command, input=program, text=True, capture_output=True, check=False)
    return [] if done.returncode else ["-DHAVE_ZYDIS", "-lZydis"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--junit", type=Path, help="write the results to this file as JUnit XML")
    parser.add_argument("--xen", type=Path, default=XEN, help="other sources than those beside")
    parser.add_argument("test", nargs="?", choices=TESTS, help="this one only")
    parser.add_argument("arguments", nargs="*", help="of the test: rounds, first seed")
    options = parser.parse_args()
    if os.uname().machine != "x86_64":
        print("the sources are for x86-64")
        return SKIPPED

    compiler = os.environ.get("CC", "cc")
    libraries = zydis(compiler)
    flags = [flag.replace(str(XEN), str(options.xen.resolve())) for flag in FLAGS]
    sources = [str(p) for p in sorted(options.xen.glob("arch/x86/hac/*.c"))]
    suite = ElementTree.Element("testsuite", name="harness")
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for test in [options.test] if options.test else TESTS:
            program = f"{folder}/{test}"
            own = [str(HERE / name) for name in (*TESTS[test], "machine.c")]
            start = time.monotonic()
            code = subprocess.run(
                [compiler, *flags, *own, *sources, "-o", program, *libraries], check=False
            ).returncode
            if not code:
                run = [program, *options.arguments]
                code = subprocess.run(run, check=False).returncode
            seconds = time.monotonic() - start
            case = ElementTree.SubElement(suite, "testcase", name=test, time=f"{seconds:.1f}")
            if code:
                ElementTree.SubElement(case, "failure")
                failed += 1
            print(f"{test:8} {'FAILED' if code else 'passed'}  {seconds:.1f} s", flush=True)
    if options.junit:
        ElementTree.ElementTree(suite).write(options.junit)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())

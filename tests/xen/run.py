# SPDX-License-Identifier: MIT
"""Tests inside the patched, emulated Xen: few boots, many programs in each.

run.py [--junit FILE] [--only WORD] [BOOT ...]

Each boot is a guest of its own on the debug hypervisor. What a program printed
is shown when it fails; what Xen or a guest's kernel complained about fails the
boot.

exit codes: 0 all passed, 1 some failed, 2 wrong usage, 77 cannot run here
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent.parent
PATCH = ROOT / "hypercall-patch"
BUILD = (ROOT / os.environ.get("HAC_BUILD", "build")).resolve()
PROGRAMS, TESTS = BUILD / "c" / "xen", BUILD / "c" / "tests"
NUMBA_CACHE = BUILD / "xen" / "numba"
MODULES = BUILD / "xen" / "debian" / "lib" / "modules"
SKIPPED, BAD_LOG = 77, 122
CANNOT_BUILD = (3, 4)  # of hypercall-patch/build: something is missing, apt cannot serve
ENGINES = "ptxen emulxen scanxen"
OTHERS = "HAC_DISABLE=pt,emul,uffd,compare"
GENERIC = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}

# Runs the list, a line `name limit command` each, and writes down what came of it.
INSIDE = """
while read -r name limit command; do
	start=$(cut -d' ' -f1 /proc/uptime)
	timeout -k 5 "$limit" sh -c "$command" >"$share/$name.out" 2>&1
	code=$?
	echo "$name $code $start $(cut -d' ' -f1 /proc/uptime)" >>"$share/results"
	echo "$name $code"
done <"$share/list"
exit 0
"""


@dataclass(frozen=True)
class Test:
    name: str
    command: str
    limit: int = 240  # seconds
    wants: str = ""  # what its output must have in it


@dataclass(frozen=True)
class Boot:
    name: str
    tests: tuple[Test, ...]
    options: tuple[str, ...] = ()
    variant: str = "debug"


@dataclass
class Case:
    """One result, for the table and JUnit."""

    boot: str
    name: str
    outcome: str  # passed, failed, skipped
    seconds: float = 0.0
    text: str = ""


@dataclass
class Report:
    cases: list[Case] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, case: Case) -> None:
        with self.lock:
            self.cases.append(case)
            label = f"{case.boot}: {case.name}"
            print(f"{case.outcome:8}{label:48}{case.seconds:7.1f} s", flush=True)
            if case.outcome != "passed" and case.text:
                print("  " + case.text.rstrip().replace("\n", "\n  "), flush=True)


def c_test(name: str, limit: int = 240) -> Test:
    return Test(name, str(PROGRAMS / f"xen_{name}"), limit)


def python(words: str) -> str:
    return f"{shlex.quote(sys.executable)} {words}"


def pytest(paths: str, choice: str) -> str:
    options = "-q -x -p no:cacheprovider --timeout=280"
    return python(f"-m pytest {options} {paths} -k {shlex.quote(choice)}")


def equivalence(limit: int = 280) -> Test:
    return Test("c-equivalence", f"{OTHERS} {TESTS / 'test_equivalence'}", limit)


def python_equivalence() -> Test:
    settings = f"HAC_TEST_PROFILE=emulated HAC_TEST_ENGINES='{ENGINES}'"
    return Test("python-equivalence", f"{settings} {pytest('tests/equivalence', 'xen')}", 400)


def python_writes() -> Test:
    """Not those that compile: that takes 10 s each in there."""
    compiled = ("njit", "nogil", "prange", "cfunc", "kernels")
    choice = " and not ".join(("xen", *compiled))
    chosen = "tests/py/test_kernel_writes.py tests/py/test_writes.py tests/py/test_strays.py"
    return Test("python-writes", pytest(chosen, choice), 300)


def numba() -> Test:
    return Test("numba", python("tests/xen/numba_kernels.py run"), 200)


def with_swap(test: Test) -> Test:
    """What zram needs is not loaded in guests."""
    found = sorted(MODULES.glob("*/kernel"))
    if not found:
        return test
    loads = f"insmod {found[-1]}/mm/zsmalloc.ko; insmod {found[-1]}/drivers/block/zram/zram.ko; "
    return Test(test.name, loads + test.command, test.limit)


def examples() -> tuple[Test, ...]:
    folder = BUILD / "c" / "examples"
    return (
        Test("example-statics", f"HAC_DISABLE=uffd,compare {folder / 'statics'}"),
        Test("example-survive", f"HAC_DISABLE=uffd,compare {folder / 'survive'} /tmp/s.hac 5"),
    )


def boots() -> list[Boot]:
    both = (c_test("trace"), c_test("engines"), equivalence())
    hazards = (
        c_test("mappings"),
        c_test("processes"),
        c_test("stores"),
        c_test("threads"),
        with_swap(c_test("kernel")),
    )
    listing = python("-m pyhac.commands engines")
    return [
        Boot(
            "many",
            (
                Test("cycles", f"{PROGRAMS / 'xen_processes'} cycles 10000", 700),
                Test("fuzz-64", f"{PROGRAMS / 'fuzz64'} 100000 1", 200),
                Test("fuzz-32", f"{PROGRAMS / 'fuzz32'} 100000 2", 200),
                c_test("large"),
            ),
        ),
        Boot("1-cpu-python", (python_equivalence(), python_writes()), ("--memory", "900")),
        Boot("2-cpus", (*both, *hazards), ("--smp", "2")),
        Boot("1-cpu", (*both, *hazards, *examples())),
        Boot("2-cpus-python", (python_equivalence(), numba()), ("--smp", "2", "--memory", "1400")),
        Boot("xpti", (c_test("trace"), c_test("mappings")), ("--xen-args", "xpti=on")),
        Boot("domu", (Test("listing", listing, wants="ptxen    yes"), *both), ("--domu",)),
        Boot(
            "unpatched",
            (Test("refused", listing, wants="Xen without the patch (hypercall-patch/)"),),
            variant="unpatched",
        ),
    ]


def environment() -> dict[str, str]:
    # The guest's root is a copy on write of the host's, so that numba finds its
    # cache in a folder that it may write to.
    return os.environ | GENERIC | {"NUMBA_CACHE_DIR": str(NUMBA_CACHE)}


def judge(boot: Boot, test: Test, share: Path, line: str) -> Case:
    try:
        output = (share / f"{test.name}.out").read_text(errors="replace")
    except OSError:
        output = ""
    words = line.split()
    if not words:
        return Case(boot.name, test.name, "failed", text=f"it did not end\n{output}")
    code, seconds = int(words[1]), float(words[3]) - float(words[2])
    if code == SKIPPED:
        return Case(boot.name, test.name, "skipped", seconds, output)
    if code or test.wants not in output:
        text = f"exit code {code}\n{output[-6000:]}"
        return Case(boot.name, test.name, "failed", seconds, text)
    return Case(boot.name, test.name, "passed", seconds, output)


def run(boot: Boot, hypervisors: dict[str, Path], report: Report, only: str) -> None:
    tests = [test for test in boot.tests if only in test.name]
    if not tests:
        return
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        share = Path(name)
        lines = (f"{test.name} {test.limit} {test.command}\n" for test in tests)
        (share / "list").write_text("".join(lines))
        summary = share / "boot.json"
        limit = str(60 + sum(test.limit for test in tests))
        command = [str(PATCH / "boot"), "--hypervisor", str(hypervisors[boot.variant])]
        command += [*boot.options, "--timeout", limit, "--share", name, "--json", str(summary)]
        command += ["--", "sh", "-c", f"share={name}\n{INSIDE}"]
        done = subprocess.run(
            command, env=environment(), cwd=ROOT, capture_output=True, text=True, check=False
        )
        try:
            results = (share / "results").read_text().splitlines()
        except OSError:
            results = []
        by_name = {line.split()[0]: line for line in results}
        for test in tests:
            report.add(judge(boot, test, share, by_name.get(test.name, "")))
        faults = json.loads(summary.read_text())["faults"] if summary.exists() else []
    outcome = "failed" if done.returncode else "passed"
    text = "\n".join([*faults, done.stderr[-4000:]]) if done.returncode else ""
    report.add(Case(boot.name, "boot and logs", outcome, time.monotonic() - start, text))


def prepare() -> dict[str, Path] | None:
    """The hypervisors, programs and kernels; None where that cannot be had."""
    names = ("debug", "unpatched")
    words = [str(PATCH / "build"), "--path", *(f"--{name}" for name in names)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode in CANNOT_BUILD:
        print("skipped: the hypervisor cannot be built here (see above)")
        return None
    done.check_returncode()
    subprocess.run(
        ["scripts/cmake", str(BUILD / "c"), "xen-tests", "-DHAC_WERROR=ON"], cwd=ROOT, check=True
    )
    found = dict(zip(names, map(Path, done.stdout.split()), strict=True))
    NUMBA_CACHE.mkdir(parents=True, exist_ok=True)
    compiled = [sys.executable, "tests/xen/numba_kernels.py", "compile"]
    subprocess.run(compiled, cwd=ROOT, env=environment(), check=False)
    return found


def write_junit(path: Path, cases: list[Case]) -> None:
    suite = ElementTree.Element("testsuite", name="xen")
    for case in cases:
        element = ElementTree.SubElement(
            suite, "testcase", classname=case.boot, name=case.name, time=f"{case.seconds:.1f}"
        )
        if case.outcome != "passed":
            tag = "failure" if case.outcome == "failed" else "skipped"
            printable = "".join(c for c in case.text if c.isprintable() or c in "\n\t")
            ElementTree.SubElement(element, tag).text = printable
    path.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.ElementTree(suite).write(path)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--junit", type=Path, help="write the results to this file")
    parser.add_argument("--only", default="", metavar="WORD", help="tests with this in their name")
    parser.add_argument("boots", nargs="*", metavar="BOOT", help="these boots only")
    options = parser.parse_args()
    every = boots()
    unknown = set(options.boots) - {boot.name for boot in every}
    if unknown:
        parser.error(f"there is no boot {unknown.pop()}; there are: {[b.name for b in every]}")
    hypervisors = prepare()
    if hypervisors is None:
        return SKIPPED
    chosen = [boot for boot in every if not options.boots or boot.name in options.boots]
    report = Report()
    with ThreadPoolExecutor(max_workers=min(2, os.cpu_count() or 1)) as pool:
        for future in [pool.submit(run, b, hypervisors, report, options.only) for b in chosen]:
            future.result()
    if options.junit:
        write_junit(options.junit, report.cases)
    tally = [
        sum(c.outcome == word for c in report.cases) for word in ("passed", "failed", "skipped")
    ]
    print(f"{tally[0]} passed, {tally[1]} failed, {tally[2]} skipped")
    return 1 if tally[1] or not report.cases else 0


if __name__ == "__main__":
    sys.exit(main())

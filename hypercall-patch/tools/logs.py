# SPDX-License-Identifier: MIT
"""What Xen and the guests' kernels said, and which of it is a failure."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

XEN = re.compile(
    r"Assertion '.*' failed|Xen BUG at|Xen WARN at|Panic on CPU|FATAL TRAP|FATAL PAGE FAULT"
    r"|\(XEN\).*(?:domain_crash called|\(vcpu#\d+\) crashed on|Unhandled: vec|CPU\d+ .*TRAP)"
    r"|\(XEN\).*\bhac: "  # the patch says something only when something is wrong
    r"|\(XEN\).*(?:mm\.c:\d+|grant_table\.c:\d+).*(?:Bad|bad|[Oo]verflow|mismatch|corrupt)",
    re.IGNORECASE,
)
LINUX = re.compile(
    r"\bWARNING: CPU|\bWARNING: possible|\bkernel BUG at|\bBUG: |\bOops\b|Kernel panic"
    r"|general protection fault,.*\[#\d|\bINFO: task .* blocked|\bBUG at|double fault"
    r"|Bad page (?:state|map)|bad pmd|unable to handle"
)
MOST = 20


def lines(path: Path) -> Iterator[str]:
    try:
        with path.open(errors="replace") as file:
            for line in file:
                yield line.rstrip("\r\n")
    except OSError:
        return


def faults(paths: Iterable[Path]) -> list[str]:
    """Lines that say that Xen or a guest's kernel found something wrong."""
    found: list[str] = []
    for path in paths:
        for line in lines(path):
            if (XEN.search(line) or LINUX.search(line)) and len(found) < MOST:
                found.append(f"{path.name}: {line}")
    return found

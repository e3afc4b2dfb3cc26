# SPDX-License-Identifier: MIT
"""The machine that was measured."""

import os
import platform
from pathlib import Path

Machine = dict[str, str | int]


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _field(text: str, name: str) -> str:
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _chosen(text: str) -> str:
    """The bracketed word of a list of choices in sysfs."""
    return next((w.strip("[]") for w in text.split() if w.startswith("[")), "unknown")


def describe() -> Machine:
    cpu = _read("/proc/cpuinfo")
    return {
        "cpu": _field(cpu, "model name") or platform.machine(),
        "cores": os.cpu_count() or 0,
        "hypervisor": int("hypervisor" in _field(cpu, "flags").split()),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "thp": _chosen(_read("/sys/kernel/mm/transparent_hugepage/enabled")),
        "python": platform.python_version(),
    }

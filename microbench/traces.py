# SPDX-License-Identifier: MIT
"""The traces of workloads, recorded once and kept in the build folder."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path

from microbench.program import ROOT, build_folder

SOURCES = ("examples/datastructs/*.py", "microbench/workloads.py", "microbench/trace.py")


def _folder() -> Path:
    """A folder for what these sources record."""
    files = sorted(path for pattern in SOURCES for path in ROOT.glob(pattern))
    key = sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:16]
    folder = build_folder() / "traces" / key
    if not folder.exists():
        shutil.rmtree(folder.parent, ignore_errors=True)
        folder.mkdir(parents=True)
    return folder


def recorded(
    workloads: Iterable[tuple[str, str]], tick: Callable[[str], None]
) -> Iterator[tuple[tuple[str, str], Path]]:
    """The file of each workload; `tick` is called before it is recorded."""
    folder = _folder()
    for structure, operation in workloads:
        path = folder / f"{structure}-{operation}.trace"
        tick(f"trace of {structure} {operation}")
        if not path.exists():
            from microbench.workloads import record  # compiles; seldom needed

            new = folder / f".{path.name}.{os.getpid()}"
            record(structure, operation).save(new)
            new.replace(path)
        yield (structure, operation), path

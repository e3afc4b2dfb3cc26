# SPDX-License-Identifier: MIT
"""C programs of the tests, compiled against the library that pyhac uses."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import pyhac  # noqa: F401 - loads the library

HERE = Path(__file__).resolve().parent
INCLUDE = HERE.parent.parent / "libhac" / "include"


def library() -> Path:
    """The libhac that pyhac has loaded."""
    with open("/proc/self/maps") as maps:
        paths = (line.split(maxsplit=5)[-1].strip() for line in maps if "libhac.so" in line)
        return Path(next(paths))


def compiled(name: str, folder: Path, source: Path = HERE) -> str:
    """Compile ``name``.c of ``source``; the program. Skips where there is no compiler."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        pytest.skip("there is no C compiler")
    program, found = str(folder / name), library()
    command = [compiler, "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-Wall", f"-I{INCLUDE}"]
    command += ["-o", program, str(source / f"{name}.c"), str(found), f"-Wl,-rpath,{found.parent}"]
    subprocess.run(command, check=True)
    return program

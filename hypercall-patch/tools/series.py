# SPDX-License-Identifier: MIT
"""The patch as a layer over Xen's tree: the files that differ, and what is in them."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from . import places
from .steps import MISSING, NO_FIT, Failed, say

Layer = dict[str, bytes]  # path in Xen's tree: content


def patches() -> list[Path]:
    """The series, in its order."""
    series = places.HERE / "series"
    lines = series.read_text().splitlines() if series.exists() else []
    names = [line.split("#")[0].strip() for line in lines]
    found = [places.HERE / "patches" / name for name in names if name]
    for patch in found:
        if not patch.exists():
            raise Failed(f"{series} names {patch.name}, which is not in patches/", NO_FIT)
    return found


def sources() -> dict[str, Path]:
    """The new files: hypercall-patch/xen lies over the tree's folder xen."""
    top = places.HERE / "xen"
    return {
        f"xen/{path.relative_to(top)}": path
        for path in sorted(top.rglob("*"))
        if path.is_file() and not path.name.startswith(".") and path.suffix not in {".orig", ".rej"}
    }


def key() -> str:
    """A hash of all that the layer is made of."""
    total = sha256()
    for name, path in [*sources().items(), *((p.name, p) for p in patches())]:
        content = path.read_bytes()
        total.update(f"{name} {len(content)}\n".encode() + content)
    return total.hexdigest()


def _touched(patch: Path) -> Iterator[str]:
    for line in patch.read_text(errors="replace").splitlines():
        named = re.match(r"(?:---|\+\+\+) [^/\s]+/(\S+)", line)
        if named:
            yield named[1]


def _apply(patch: Path, folder: Path) -> None:
    command = ["patch", "-p1", "--fuzz=0", "--force", "--no-backup-if-mismatch", "--batch"]
    try:
        done = subprocess.run(
            [*command, "-d", str(folder), "-i", str(patch)],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as failure:
        raise Failed("there is no patch(1)", MISSING) from failure
    if not done.returncode:
        if "offset" in done.stdout:
            say(f"{patch.name} fits, but not in the lines it was made for")
        return
    where, misfits = "", []
    for line in done.stdout.splitlines():
        if line.startswith("patching file "):
            where = line.removeprefix("patching file ")
        elif hunk := re.match(r"Hunk #(\d+) FAILED at (\d+)", line):
            misfits.append(f"hunk {hunk[1]} of {where}, near line {hunk[2]}")
    detail = "; ".join(misfits) or (done.stdout + done.stderr).strip()
    raise Failed(f"{patch.name} does not fit xen {version()}: {detail}", NO_FIT)


def version() -> str:
    """Of the unpacked source package."""
    with (places.PRISTINE / "debian" / "changelog").open() as file:
        return file.readline().split("(")[1].split(")")[0]


def layer(work: Path) -> tuple[str, Layer]:
    """What the patched tree has that the pristine one has not, made in the folder work; its key.

    Somebody may be editing meanwhile: then it is made again.
    """
    while True:
        before, files = key(), _layer(work)
        if key() == before:
            return before, files


def _layer(work: Path) -> Layer:
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    series = patches()
    names: set[str] = set()
    for patch in series:
        names.update(name for name in _touched(patch) if (places.PRISTINE / name).is_file())
    for name in names:
        copy = work / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(places.PRISTINE / name, copy)
    for name, path in sources().items():
        if (places.PRISTINE / name).exists():
            raise Failed(f"{path} would replace a file of Xen; make it a patch", NO_FIT)
        copy = work / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    for patch in series:
        _apply(patch, work)
    return {str(p.relative_to(work)): p.read_bytes() for p in work.rglob("*") if p.is_file()}


def lay(files: Layer, tree: Path) -> list[str]:
    """Put a layer over a tree in place of the one before; the names of files that changed.

    Files that stay the same are not touched, so that make has little to do.
    """
    record = tree / ".hac-layer"
    before = set(record.read_text().splitlines()) if record.exists() else set()
    record.write_text("\n".join(sorted(before | set(files))))
    changed = []
    for name in sorted(before | set(files)):
        original, path = places.PRISTINE / name, tree / name
        wanted = files.get(name, original.read_bytes() if original.exists() else None)
        if wanted is None:
            path.unlink(missing_ok=True)
        elif not path.exists() or path.read_bytes() != wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(wanted)
        else:
            continue
        changed.append(name)
    record.write_text("\n".join(sorted(files)))
    return changed

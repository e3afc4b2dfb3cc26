# SPDX-License-Identifier: MIT
"""The patched hypervisor as a Debian package: the series under quilt, built in a clean chroot."""

import gzip
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import apt, places, series
from .host import KEYRING
from .steps import NO_APT, NO_BUILD, Failed, run, step

DEB = places.BUILD / "deb"
LOG = places.LOGS / "deb.log"
TEMPLATES = places.HERE / "debian"
NEEDED = ("build-essential", "debhelper", "flex", "bison", "python3")
SUFFIX = "+hac1"
DATE = "Thu, 01 Jan 2026 00:00:00 +0000"


def _new_files() -> str:
    """The plain sources as one patch that quilt can apply."""
    parts = [
        "Description: tracking of writes to critical data areas, new files\n"
        "Origin: hypercall-patch/xen\nForwarded: no\n---\n"
    ]
    for name, path in series.sources().items():
        lines = path.read_text().splitlines()
        parts.append(f"--- /dev/null\n+++ b/{name}\n@@ -0,0 +1,{len(lines)} @@\n")
        parts += [f"+{line}\n" for line in lines]
    return "".join(parts)


def _changelog(version: str) -> str:
    return (
        f"xen ({version}) bookworm; urgency=medium\n\n"
        "  * Track writes to critical data areas (CONFIG_HAC).\n"
        "  * Build the hypervisor only, under a name of its own.\n\n"
        f" -- The HAC authors <hac@localhost>  {DATE}\n\n"
    )


def _source(version: str) -> Path:
    """Debian's source package with the series in it; its .dsc."""
    tree = DEB / "tree"
    shutil.copytree(places.PRISTINE, tree, symlinks=True)
    ours = tree / "debian" / "patches" / "hac"
    ours.mkdir()
    names = ["0000-new-files.patch", *(patch.name for patch in series.patches())]
    (ours / names[0]).write_text(_new_files())
    for patch in series.patches():
        shutil.copyfile(patch, ours / patch.name)
    with (ours.parent / "series").open("a") as file:
        file.writelines(f"hac/{name}\n" for name in names)
    for name in ("rules", "control"):
        shutil.copyfile(TEMPLATES / name, tree / "debian" / name)
    fragment = (places.HERE / "config" / "hac.config").read_text()
    (tree / "debian" / "hac.config").write_text(fragment)
    changelog = tree / "debian" / "changelog"
    changelog.write_text(_changelog(version) + changelog.read_text())
    for original in places.DOWNLOADS.glob("*.orig.tar.*"):
        shutil.copyfile(original, DEB / original.name)
    run(["dpkg-source", "-b", tree.name], LOG, what="making the source package", cwd=DEB)
    shutil.rmtree(tree)
    return next(DEB.glob("*.dsc"))


@contextmanager
def _chroot() -> Iterator[Path]:
    root = DEB / "chroot"
    with step("a clean chroot of Debian 12"):
        words = ["mmdebstrap", "--mode=root", "--variant=apt", f"--keyring={KEYRING}"]
        words += [f"--include={','.join(NEEDED)}", "--architectures=amd64"]
        words += ["--aptopt=Acquire::Languages none", "--aptopt=APT::Sandbox::User root"]
        run([*words, apt.SUITE, root, apt.MIRROR], LOG, what="mmdebstrap", code=NO_APT)
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _build(dsc: Path, root: Path) -> Path:
    """Build the source package in the chroot; the package."""
    work = root / "build"
    work.mkdir()
    for path in DEB.glob("xen_*"):
        shutil.copyfile(path, work / path.name)
    jobs = len(os.sched_getaffinity(0))
    script = (
        f"cd /build && dpkg-source --no-check -x {dsc.name} xen && cd xen && "
        f"dpkg-buildpackage -b -uc -us -j{jobs}"
    )
    env = {"LC_ALL": "C", "HOME": "/build", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    env |= {"MAKEFLAGS": "", "MAKELEVEL": ""}
    run(["chroot", root, "/bin/sh", "-c", script], LOG, what="building", code=NO_BUILD, env=env)
    built = next(work.glob("xen-hypervisor-*.deb"))
    return Path(shutil.copyfile(built, DEB / built.name))


def unpacked(package: Path) -> Path:
    """The hypervisor in a package, as a file that can be booted."""
    folder = DEB / "unpacked"
    shutil.rmtree(folder, ignore_errors=True)
    run(["dpkg-deb", "-x", package, folder], LOG, what=f"unpacking {package.name}")
    image = DEB / "xen"
    image.write_bytes(gzip.decompress(next((folder / "boot").glob("xen-*.gz")).read_bytes()))
    return image


def question() -> Path:
    """A program that asks a Xen whether it has the patch."""
    program = DEB / "answers"
    source, headers = (
        places.HERE / "guest" / "answers.c",
        places.HERE / "xen" / "include" / "public",
    )
    run(["gcc", "-I", headers, "-o", program, source], LOG, what="compiling the question")
    return program


def make() -> Path:
    """Make the package anew."""
    if os.geteuid():
        raise Failed("a chroot needs root; run: sudo make xen-deb", 3)
    version = apt.fetch().source + SUFFIX
    shutil.rmtree(DEB, ignore_errors=True)
    DEB.mkdir(parents=True)
    LOG.unlink(missing_ok=True)
    with step("the source package"):
        dsc = _source(version)
    with _chroot() as root, step(f"building the package ({LOG})"):
        return _build(dsc, root)

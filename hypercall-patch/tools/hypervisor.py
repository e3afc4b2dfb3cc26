# SPDX-License-Identifier: MIT
"""The hypervisors: which there are, how they are compiled, and where the results lie."""

import gzip
import os
import re
import shutil
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from . import apt, host, places, series
from .steps import NO_BUILD, Failed, alone, run, say, step

KEPT = 8  # results of each variant


@dataclass(frozen=True)
class Variant:
    """A hypervisor that can be built."""

    name: str
    about: str
    fragments: tuple[str, ...]


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("release", "patched, as it would be shipped", ("common", "hac", "release")),
        Variant("debug", "patched, with every assertion", ("common", "hac", "debug")),
        Variant("no-hac", "patched, with CONFIG_HAC off", ("common", "no-hac", "release")),
        Variant("unpatched", "Debian's own", ()),
    )
}


def _fragment(name: str) -> str:
    return (places.HERE / "config" / f"{name}.config").read_text()


def result(variant: Variant, patch: str = "") -> Path:
    """Where this variant of what is in the working tree, or of a patch, lies or would lie."""
    parts = [apt.fetch().source, *(_fragment(name) for name in variant.fragments)]
    if variant.fragments:
        parts.append(patch or series.key())
    key = sha256("\0".join(parts).encode()).hexdigest()[:16]
    return places.HYPERVISORS / f"{variant.name}-{key}" / "xen"


def find(name: str) -> Path:
    """A hypervisor that was built and is not out of date."""
    found = result(VARIANTS[name])
    if not found.exists():
        raise Failed(f"the {name} hypervisor is not built: run hypercall-patch/build --{name}")
    return found


def build(names: list[str]) -> list[Path]:
    """See to it that these variants are there; their files."""
    with alone():
        return [_build(VARIANTS[name]) for name in names]


def _build(variant: Variant) -> Path:
    done = result(variant)
    if done.exists():
        os.utime(done.parent)
        return done
    if variant.fragments:
        host.ready(host.COMPILING)
        patch, layer = series.layer(places.BUILD / "layer")
        done = result(variant, patch)
    new = done.parent.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    if variant.fragments:
        _compile(variant, layer, done.parent.name.rsplit("-", 1)[-1], new)
    else:
        packed = sorted((places.DEBIAN / "boot").glob("xen-*-amd64.gz"))[0]
        (new / "xen").write_bytes(gzip.decompress(packed.read_bytes()))
    shutil.rmtree(done.parent, ignore_errors=True)
    new.rename(done.parent)
    _prune(variant)
    return done


def _prune(variant: Variant) -> None:
    pattern = f"{variant.name}-" + "[0-9a-f]" * 16
    found = sorted(places.HYPERVISORS.glob(pattern), key=lambda p: p.stat().st_mtime)
    for old in found[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def _tree(variant: Variant) -> Path:
    """A copy of the pristine source of its own, so that little is compiled again."""
    tree, stamp = places.TREES / variant.name, places.TREES / f"{variant.name}.version"
    wanted = apt.fetch().source
    if not (tree.exists() and stamp.exists() and stamp.read_text() == wanted):
        with step(f"copying the source for {variant.name}"):
            shutil.rmtree(tree, ignore_errors=True)
            shutil.copytree(places.PRISTINE, tree, symlinks=True)
            stamp.write_text(wanted)
    return tree


def _environment(identity: str) -> dict[str, str]:
    """Nothing of the day or the machine, but which patch it is: Xen's first line says it."""
    return {
        "LC_ALL": "C",
        "DEB_VERSION": f"{apt.fetch().source}+hac.{identity[:8]}",
        "DEB_MAINTAINER": "HAC",
        "XEN_BUILD_DATE": "reproducible",
        "XEN_BUILD_TIME": "0",
        "XEN_BUILD_HOST": "hac",
        "XEN_WHOAMI": "hac",
        "XEN_DOMAIN": "hac",
        "MAKEFLAGS": "",
        "MAKELEVEL": "",
    }


def _configure(variant: Variant, tree: Path, make: list[str], env: dict[str, str]) -> None:
    wanted = "".join(_fragment(name) for name in variant.fragments)
    used = tree / "xen" / ".hac-config"
    kconfigs = "".join(
        p.read_text() for p in sorted((tree / "xen").rglob("Kconfig*")) if p.is_file()
    )
    identity = sha256((wanted + kconfigs).encode()).hexdigest()
    if used.exists() and used.read_text() == identity:
        return
    used.unlink(missing_ok=True)
    log = places.LOGS / f"{variant.name}.log"
    (tree / "xen" / ".config").write_text(wanted)
    run([*make, "olddefconfig"], log, what="configuring Xen", code=NO_BUILD, env=env)
    taken = set((tree / "xen" / ".config").read_text().splitlines())
    for line in wanted.splitlines():
        off = re.fullmatch(r"(CONFIG_\w+)=n", line)
        if off and not any(other.startswith(f"{off[1]}=") for other in taken):
            continue
        if line.startswith("CONFIG_") and line not in taken:
            if line == "CONFIG_HAC=y" and not series.patches():
                say("the series is empty: this Xen has no CONFIG_HAC")
                continue
            raise Failed(f"{line} is not in the configuration that Xen made of it", NO_BUILD)
    used.write_text(identity)


def _compile(variant: Variant, layer: series.Layer, identity: str, new: Path) -> None:
    tree, log = _tree(variant), places.LOGS / f"{variant.name}.log"
    log.unlink(missing_ok=True)
    changed = series.lay(layer, tree)
    jobs = f"-j{max(2, len(os.sched_getaffinity(0)))}"
    # No image for EFI: linking one takes as long as compiling a file, and nothing here boots it.
    make = ["make", jobs, "-C", str(tree / "xen"), "XEN_TARGET_ARCH=x86_64", "XEN_BUILD_PE=n"]
    env = _environment(identity)
    what = f"{len(changed)} changed files" if len(changed) < 12 else "all of it"
    with step(f"compiling the {variant.name} hypervisor ({what}; {log})"):
        _configure(variant, tree, make, env)
        run(make, log, what="compiling Xen", code=NO_BUILD, env=env)
    for name in ("xen", "xen-syms", "xen-syms.map", ".config"):
        shutil.copyfile(tree / "xen" / name, new / name.replace(".config", "config"))

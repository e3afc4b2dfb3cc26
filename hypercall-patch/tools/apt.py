# SPDX-License-Identifier: MIT
"""Debian 12's packages through an apt of our own: lists, cache and state in the build folder.

Nothing here needs root or changes the host. apt checks signatures against the
keys of Debian's archive, and hashes against the signed lists.
"""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from . import host, places
from .host import KEYRING
from .steps import NO_APT, Failed, run, say, step

MIRROR = "http://deb.debian.org/debian"
SUITE = "bookworm"

KERNEL = "linux-image-amd64"  # depends on the real one; the cloud kernel has neither Xen nor 9p
HYPERVISOR = "xen-hypervisor-4.17-amd64"  # what we call unpatched
PACKAGES = (
    HYPERVISOR,
    "busybox-static",
    # xl, xenstored, xenconsoled, and every library that they load
    *("xen-utils-4.17", "xen-utils-common", "xenstore-utils"),
    *("libxencall1", "libxendevicemodel1", "libxenevtchn1", "libxenforeignmemory1"),
    *("libxengnttab1", "libxenhypfs1", "libxenmisc4.17", "libxenstore4"),
    *("libxentoolcore1", "libxentoollog1"),
    *("libc6", "libbz2-1.0", "libext2fs2", "liblzma5", "libncurses6", "libtinfo6"),
    *("libuuid1", "libyajl2", "libzstd1", "zlib1g"),
    # the 9p server through which a domU sees the host's files
    *("diod", "libcap2", "liblua5.1-0", "libmunge2", "libwrap0", "libnsl2", "libtirpc3"),
    *("libgssapi-krb5-2", "libkrb5-3", "libk5crypto3", "libkrb5support0", "libkeyutils1"),
    *("libcom-err2", "libssl3"),
)


@dataclass(frozen=True)
class Fetched:
    """What is in the build folder."""

    source: str  # version of the source package
    kernel: str  # version and flavour, as in /lib/modules


def _configure() -> Path:
    host.ready(host.FETCHING)
    for folder in ("lists/partial", "cache/archives/partial", "state", "empty"):
        (places.APT / folder).mkdir(parents=True, exist_ok=True)
    (places.APT / "status").touch()
    (places.APT / "sources.list").write_text(
        f"deb [arch=amd64 signed-by={KEYRING}] {MIRROR} {SUITE} main\n"
        f"deb-src [signed-by={KEYRING}] {MIRROR} {SUITE} main\n"
    )
    # The host's apt.conf is read first and stays in force, for its proxies.
    apt = places.APT
    configuration = apt / "apt.conf"
    configuration.write_text(
        f'''Dir::Etc::sourcelist "{apt}/sources.list";
Dir::Etc::sourceparts "{apt}/empty";
Dir::Etc::preferences "{apt}/empty/none";
Dir::Etc::preferencesparts "{apt}/empty";
Dir::Etc::trusted "{apt}/empty/none";
Dir::Etc::trustedparts "{apt}/empty";
Dir::State "{apt}/state";
Dir::State::lists "{apt}/lists";
Dir::State::status "{apt}/status";
Dir::Cache "{apt}/cache";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Default-Release "";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
'''
    )
    return configuration


def _apt(configuration: Path, *words: str, cwd: Path | None = None) -> None:
    run(
        ["apt-get", "-q", "-y", *words],
        places.LOGS / "apt.log",
        what=f"apt ({' '.join(words[:4])})",
        code=NO_APT,
        cwd=cwd,
        env={"APT_CONFIG": str(configuration), "LC_ALL": "C"},
    )


def _kernel(configuration: Path) -> str:
    """The package with the kernel that the metapackage stands for."""
    done = subprocess.run(
        ["apt-cache", "depends", "--important", KERNEL],
        env={**os.environ, "APT_CONFIG": str(configuration), "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )
    for line in done.stdout.splitlines():
        match line.split():
            case ["Depends:", name] if name.startswith("linux-image-"):
                return name
    raise Failed(f"apt knows no kernel behind {KERNEL}: {done.stdout}{done.stderr}", NO_APT)


def _check(folder: Path) -> str:
    """Compare the source package with what is pinned; its version."""
    found = sorted(folder.glob("xen_*.dsc"))
    if len(found) != 1:
        raise Failed(f"apt left {len(found)} source packages of xen in {folder}", NO_APT)
    lines = found[0].read_text(errors="replace").splitlines()
    version = next(line.split()[1] for line in lines if line.startswith("Version:"))
    pinned = places.upstream()
    if version != pinned.version:
        say(f"apt has xen {version}, UPSTREAM pins {pinned.version}; going on with apt's")
        return version
    for name, value in pinned.hashes.items():
        if sha256((folder / name).read_bytes()).hexdigest() != value:
            raise Failed(f"{folder / name} is not the file that UPSTREAM pins", NO_APT)
    return version


def _key() -> str:
    wanted = (places.upstream().version, KERNEL, PACKAGES, MIRROR, SUITE)
    return sha256(repr(wanted).encode()).hexdigest()


def _replace(new: Path, old: Path) -> None:
    shutil.rmtree(old, ignore_errors=True)
    new.rename(old)


def fetch(again: bool = False) -> Fetched:
    """Source and packages, unpacked in the build folder; downloaded if they are not there."""
    record = places.BUILD / "fetched.json"
    if record.exists() and not again:
        seen = json.loads(record.read_text())
        if seen.pop("key") == _key():
            return Fetched(**seen)
    record.unlink(missing_ok=True)
    (places.LOGS / "apt.log").unlink(missing_ok=True)
    configuration = _configure()
    with step("lists of Debian 12"):
        _apt(configuration, "update", "-o", "APT::Update::Error-Mode=any")
    downloads = places.DOWNLOADS
    shutil.rmtree(downloads, ignore_errors=True)
    downloads.mkdir()
    kernel = _kernel(configuration)
    with step("source of xen"):
        _apt(configuration, "source", "--download-only", "--only-source", "xen", cwd=downloads)
        version = _check(downloads)
    with step(f"{kernel}, xl and libraries"):
        _apt(configuration, "download", kernel, *PACKAGES, cwd=downloads)
    with step("unpacking"):
        _unpack(downloads)
    fetched = Fetched(version, kernel.removeprefix("linux-image-"))
    record.write_text(json.dumps({"key": _key(), **fetched.__dict__}))
    return fetched


def _unpack(downloads: Path) -> None:
    log = places.LOGS / "unpack.log"
    log.unlink(missing_ok=True)
    new = places.PRISTINE.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    dsc = next(downloads.glob("*.dsc"))
    run(["dpkg-source", "--no-check", "-x", dsc, new], log, what="unpacking the source")
    _replace(new, places.PRISTINE)
    new = places.DEBIAN.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    for package in sorted(downloads.glob("*.deb")):
        run(["dpkg-deb", "-x", package, new], log, what=f"unpacking {package.name}")
    _replace(new, places.DEBIAN)

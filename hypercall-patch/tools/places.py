# SPDX-License-Identifier: MIT
"""Where things lie, and what is pinned."""

import os
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
ROOT = HERE.parent
BUILD = (ROOT / os.environ.get("HAC_BUILD", "build")).resolve() / "xen"

APT = BUILD / "apt"
DOWNLOADS = BUILD / "downloads"
PRISTINE = BUILD / "source"  # Debian's source package, unpacked and not changed
DEBIAN = BUILD / "debian"  # Debian's binary packages, unpacked and never installed
GUEST = BUILD / "guest"  # kernel and initramfs
TREES = BUILD / "trees"  # where the hypervisors are compiled
HYPERVISORS = BUILD / "hypervisors"
BOOTS = BUILD / "boots"  # logs of the last boots
LOGS = BUILD / "logs"


@dataclass(frozen=True)
class Upstream:
    """What UPSTREAM says."""

    version: str
    hashes: dict[str, str]  # file name: sha256


def upstream() -> Upstream:
    version, hashes = "", {}
    for line in (HERE / "UPSTREAM").read_text().splitlines():
        match line.split():
            case ["version", version]:
                pass
            case ["sha256", value, name]:
                hashes[name] = value
    return Upstream(version, hashes)

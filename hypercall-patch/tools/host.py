# SPDX-License-Identifier: MIT
"""What this host must have, and getting it."""

import os
import shutil
from pathlib import Path

from . import places
from .steps import MISSING, Failed, run, say, step

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
QEMU = "qemu-system-x86_64"

FETCHING = {
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "dpkg-source": "dpkg-dev",
    "xz": "xz-utils",
    str(KEYRING): "debian-archive-keyring",
}
COMPILING = {"gcc": "gcc", "make": "make", "bison": "bison", "flex": "flex", "patch": "patch"}
BOOTING = {QEMU: "qemu-system-x86"}
PACKAGING = {"mmdebstrap": "mmdebstrap"}


def missing(tools: dict[str, str]) -> list[str]:
    """Names of Debian's packages."""
    return [package for tool, package in tools.items() if not _there(tool)]


def _there(tool: str) -> bool:
    return Path(tool).exists() if tool.startswith("/") else bool(shutil.which(tool))


def ready(needed: dict[str, str], optional: dict[str, str] | None = None) -> None:
    """See to it that these programs are there: with apt as root; else Failed has the command."""
    wanted = missing({**needed, **(optional or {})})
    if wanted and os.geteuid() == 0 and _there("apt-get"):
        log = places.LOGS / "host.log"
        words = ["apt-get", "-qy", "--no-install-recommends", "install", *wanted]
        env = {"DEBIAN_FRONTEND": "noninteractive"}
        with step(f"installing {' '.join(wanted)}"):
            try:
                run(["apt-get", "-q", "update"], log, what="apt-get update", env=env)
                run(words, log, what="apt-get install", env=env)
            except Failed as failure:
                say(str(failure))
    if still := missing(needed):
        raise Failed(
            f"missing: {' '.join(still)}; on Debian or Ubuntu run: "
            f"sudo apt-get install -y --no-install-recommends {' '.join(missing(needed))}",
            MISSING,
        )
    if still := missing(optional or {}):
        say(f"going on without {' '.join(still)}, which booting needs")

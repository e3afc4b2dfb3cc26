# SPDX-License-Identifier: MIT
"""The guest: Debian's kernel as plain ELF, and an initramfs that turns the host's files into its root."""

import lzma
import os
import re
import struct
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from . import apt, places
from .steps import Failed, step

INIT = places.HERE / "guest" / "init"
MODULES = (
    *("virtio_pci", "9pnet_virtio", "9pnet_fd", "9p", "overlay"),
    *("xenfs", "xen-privcmd", "xen-evtchn", "xen-gntdev", "xen-gntalloc"),
    *("xen-netback", "xen-netfront"),
)


@dataclass(frozen=True)
class Guest:
    """What QEMU hands to Xen."""

    kernel: Path
    initramfs: Path


def _payload(image: bytes) -> bytes:
    """The ELF file in a bzImage (Linux: Documentation/x86/boot.rst).

    Xen could unpack it, too, but takes four seconds for it under emulation.
    """
    sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (sectors + 1) * 512 + offset
    elf = lzma.decompress(image[start : start + length - 4])  # the last four bytes: its size
    if not elf.startswith(b"\x7fELF"):
        raise Failed("the guest's kernel holds no ELF file compressed by xz")
    return elf


def _modules(kernel: str) -> list[Path]:
    """The modules that the guest loads, each after those that it depends on."""
    top = places.DEBIAN / "lib" / "modules" / kernel
    every = {path.stem.replace("-", "_"): path for path in top.rglob("*.ko")}
    ordered: list[Path] = []

    def add(name: str) -> None:
        path = every.get(name.replace("-", "_"))
        if path is None:
            raise Failed(f"kernel {kernel} has no module {name}")
        if path in ordered:
            return
        depends = re.search(rb"\0depends=([^\0]*)\0", path.read_bytes())
        for other in depends[1].decode().split(",") if depends else []:
            if other:
                add(other)
        ordered.append(path)

    for name in MODULES:
        add(name)
    return ordered


class Archive:
    """A cpio archive in the form that Linux takes as initramfs."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._count = 0

    def add(self, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        self._count += 1
        encoded = name.encode() + b"\0"
        numbers = (self._count, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0)
        head = b"070701" + b"".join(b"%08x" % number for number in numbers) + encoded
        self._parts += [head, b"\0" * (-len(head) % 4), data, b"\0" * (-len(data) % 4)]

    def finish(self) -> bytes:
        self.add("TRAILER!!!", 0)
        return b"".join(self._parts)


def _initramfs(kernel: str) -> bytes:
    archive = Archive()
    for folder in ("bin", "dev", "modules", "proc", "sys", "lower", "over", "root", "boot", "hac"):
        archive.add(folder, 0o040755)
    archive.add("dev/console", 0o020600, device=(5, 1))
    archive.add("init", 0o100755, INIT.read_bytes())
    archive.add("bin/busybox", 0o100755, (places.DEBIAN / "bin" / "busybox").read_bytes())
    modules = _modules(kernel)
    for path in modules:
        archive.add(f"modules/{path.name}", 0o100644, path.read_bytes())
    archive.add("modules/order", 0o100644, "".join(f"{p.name}\n" for p in modules).encode())
    return archive.finish()


def make() -> Guest:
    """See to it that the guest's files are there."""
    kernel = apt.fetch().kernel
    places.GUEST.mkdir(parents=True, exist_ok=True)
    vmlinux = places.GUEST / f"vmlinux-{kernel}"
    if not vmlinux.exists():
        with step(f"unpacking the kernel {kernel}"):
            packed = places.DEBIAN / "boot" / f"vmlinuz-{kernel}"
            _write(vmlinux, _payload(packed.read_bytes()))
    made_of = INIT.read_bytes() + Path(__file__).read_bytes()
    key = sha256(f"{kernel} {places.upstream().version}".encode() + made_of).hexdigest()[:16]
    initramfs = places.GUEST / f"initramfs-{key}"
    if not initramfs.exists():
        for old in places.GUEST.glob("initramfs-*"):
            old.unlink(missing_ok=True)
        _write(initramfs, _initramfs(kernel))
    return Guest(vmlinux, initramfs)


def _write(path: Path, data: bytes) -> None:
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_bytes(data)
    new.rename(path)

# SPDX-License-Identifier: MIT
"""The guest: Debian's kernel as plain ELF, an initramfs that makes the host's files its root."""

import lzma
import os
import re
import struct
import subprocess
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from . import apt, places
from .steps import Failed, step

INIT = places.HERE / "guest" / "init"
MODULES = {
    "all": ("9p", "overlay"),
    "dom0": ("virtio_pci", "9pnet_virtio"),
    "domu": ("9pnet_fd", "xen-netfront"),
    # a dom0 that has a domU
    "host": ("xenfs", "xen-privcmd", "xen-evtchn", "xen-gntdev", "xen-gntalloc", "xen-netback"),
}


PAGE = 4096
PT_LOAD, PT_NOTE = 1, 4
PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")


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
    return _compact(elf)


def _compact(elf: bytes) -> bytes:
    """The same without sections, gaps and zeros at the ends: half of it, and all gets copied."""
    table, count = struct.unpack_from("<Q", elf, 32)[0], struct.unpack_from("<H", elf, 56)[0]
    head = bytearray(elf[: table + PROGRAM_HEADER.size * count])
    struct.pack_into("<Q", head, 40, 0)  # where sections begin
    struct.pack_into("<HH", head, 60, 0, 0)  # how many there are, and which has their names
    body, start = bytearray(), -(-len(head) // PAGE) * PAGE
    moved: list[tuple[int, int, int]] = []  # old offset, length, new offset
    for at in range(table, len(head), PROGRAM_HEADER.size):
        kind, flags, offset, virtual, physical, length, *rest = PROGRAM_HEADER.unpack_from(head, at)
        if kind == PT_LOAD:
            data = elf[offset : offset + length].rstrip(b"\0")
            moved.append((offset, length, start + len(body)))
            offset, length = start + len(body), len(data)
            body += data + b"\0" * (-len(data) % PAGE)
        elif kind == PT_NOTE:
            old, _, new = next(m for m in moved if m[0] <= offset < m[0] + m[1])
            offset += new - old
        PROGRAM_HEADER.pack_into(head, at, kind, flags, offset, virtual, physical, length, *rest)
    return bytes(head).ljust(start, b"\0") + bytes(body)


def _modules(kernel: str) -> dict[Path, str]:
    """The modules that guests load, each after those that it depends on, and who loads them."""
    top = places.DEBIAN / "lib" / "modules" / kernel
    every = {path.stem.replace("-", "_"): path for path in top.rglob("*.ko")}
    ordered: dict[Path, str] = {}

    def add(name: str, who: str) -> None:
        path = every.get(name.replace("-", "_"))
        if path is None:
            raise Failed(f"kernel {kernel} has no module {name}")
        if path in ordered:
            return
        depends = re.search(rb"\0depends=([^\0]*)\0", path.read_bytes())
        for other in depends[1].decode().split(",") if depends else []:
            if other:
                add(other, who)
        ordered[path] = who

    for who, names in MODULES.items():
        for name in names:
            add(name, who)
    return ordered


class Archive:
    """A cpio archive in the form that Linux takes as initramfs."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._count = 0

    def add(
        self, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)
    ) -> None:
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
    busybox = places.DEBIAN / "bin" / "busybox"
    archive.add("bin/busybox", 0o100755, busybox.read_bytes())
    for applet in subprocess.check_output([busybox, "--list"], text=True).split():
        if applet != "busybox":
            archive.add(f"bin/{applet}", 0o120777, b"busybox")
    modules = _modules(kernel)
    for path in modules:
        archive.add(f"modules/{path.name}", 0o100644, path.read_bytes())
    order = "".join(f"{path.name} {who}\n" for path, who in modules.items())
    archive.add("modules/order", 0o100644, order.encode())
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

# SPDX-License-Identifier: MIT
"""One boot: a command in a guest of an emulated Xen, its output, its exit code."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from . import guest, host, logs, places
from .steps import Failed

BAD_LOG, CRASHED, TIMEOUT, CANNOT = 122, 123, 124, 125

KEPT = 20  # folders of boots
FOR_XEN = 256  # MiB that Xen needs for itself
DOM0_OF_DOMU = 448  # MiB of a dom0 that only serves a domU
PAUSE = 0.02  # seconds between two looks at the files
KERNEL = "console=hvc0 loglevel=5 panic=-1 rcupdate.rcu_cpu_stall_suppress=1 nowatchdog"
NOT_PASSED = {"_", "SHLVL", "OLDPWD", "PWD"}


@dataclass(frozen=True)
class Request:
    """What to boot."""

    command: list[str]
    hypervisor: Path
    cpus: int = 1
    memory: int = 512
    icount: bool = False
    domu: bool = False
    xen_options: str = ""
    kernel_options: str = ""
    qemu_options: list[str] = field(default_factory=list)
    timeout: float = 300
    share: Path | None = None


@dataclass
class Outcome:
    """What came of it."""

    code: int
    outcome: str  # exited, bad log, crashed, timeout, killed
    seconds: float
    logs: Path
    faults: list[str] = field(default_factory=list)


def _script(request: Request) -> str:
    """What the guest's shell runs: the caller's folder, environment and command."""
    words = []
    for name, value in os.environ.items():
        if re.fullmatch(r"[A-Za-z_]\w*", name) and name not in NOT_PASSED:
            words.append(f"export {name}={shlex.quote(value)}")
    folder = shlex.quote(os.getcwd())
    words.append(f"cd {folder} || exit 126")
    words.append(f"exec {shlex.join(request.command)}")
    return "\n".join(words) + "\n"


def _settings(request: Request) -> str:
    values = {
        "share": str(request.share) if request.share else "",
        "debian": str(places.DEBIAN),
        "domu_memory": str(request.memory),
        "domu_vcpus": str(request.cpus),
        "domu_options": f"{KERNEL} {request.kernel_options}",
    }
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())


def _qemu(request: Request, folder: Path) -> list[str]:
    """QEMU's command line; it runs in folder, so that no path of ours has a comma in it."""
    dom0 = DOM0_OF_DOMU if request.domu else request.memory
    total = dom0 + FOR_XEN + (request.memory + 64 if request.domu else 0)
    # Without eager-fpu, a domain under this QEMU now and then finds another's SSE registers.
    xen = (
        "com1=115200,8n1 console=com1 loglvl=all guest_loglvl=all spec-ctrl=eager-fpu "
        f"dom0_mem={dom0}M,max:{dom0}M dom0_max_vcpus={request.cpus} "
        # Else a domU waits a millisecond whenever it asks dom0 for a file.
        f"{'sched_ratelimit_us=0' if request.domu else ''} {request.xen_options}"
    )
    role = "hac.domu" if request.domu else ""
    kernel = f"vmlinux {KERNEL} {request.kernel_options} {role}".replace(",", ",,")
    thread = "multi" if request.cpus > 1 and not request.icount else "single"
    shares = [("hostroot", "host", True), ("hac", ".", False)]
    if request.share:
        shares.append(("share", "share", False))
    # Whatever happens to us, QEMU goes, too.
    words = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    words += [host.QEMU, "-accel", f"tcg,thread={thread}", "-cpu", "max,-smap"]
    words += ["-smp", str(request.cpus), "-m", str(total)]
    words += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    words += ["-kernel", "xen", "-append", xen, "-initrd", f"{kernel},initramfs"]
    words += ["-serial", "file:xen.log", "-device", "isa-debug-exit,iobase=0xf4,iosize=1"]
    for tag, path, readonly in shares:
        mode = ",readonly=on" if readonly else ""
        words += ["-fsdev", f"local,id={tag},path={path},security_model=none,multidevs=remap{mode}"]
        words += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    if request.icount:
        words += ["-icount", "shift=0,sleep=off", "-rtc", "base=2026-01-01,clock=vm"]
    return words + request.qemu_options


def _forget_old() -> None:
    """Another boot may do the same at this moment."""
    ages: list[tuple[float, Path]] = []
    for path in places.BOOTS.iterdir():
        with suppress(FileNotFoundError):
            ages.append((path.stat().st_mtime, path))
    for modified, path in sorted(ages)[:-KEPT]:
        if time.time() - modified > 3600:
            shutil.rmtree(path, ignore_errors=True)


def _prepare(request: Request) -> Path:
    """A folder for this boot alone; those of the last boots stay for whoever wants to read logs."""
    places.BOOTS.mkdir(parents=True, exist_ok=True)
    _forget_old()
    stamp = time.strftime("%H%M%S-")
    folder = Path(tempfile.mkdtemp(prefix=stamp, dir=places.BOOTS))
    files = guest.make()
    links = {"xen": request.hypervisor, "vmlinux": files.kernel, "initramfs": files.initramfs}
    for name, path in links.items():
        # Hard links or copies: a build that goes on meanwhile must not matter.
        try:
            os.link(path, folder / name)
        except OSError:
            shutil.copyfile(path, folder / name)
    (folder / "host").symlink_to("/")
    if request.share:
        (folder / "share").symlink_to(request.share)
    (folder / "settings").write_text(_settings(request))
    (folder / "run").write_text(_script(request))
    for name in ("out", "err", "xen.log"):
        (folder / name).touch()
    return folder


class _Tail:
    """Passes on what a growing file gets."""

    def __init__(self, source: Path, target: BinaryIO | None) -> None:
        self._file = source.open("rb")
        self._target = target
        self.seen = b""  # the last of it

    def pump(self) -> bool:
        data = self._file.read()
        if data and self._target:
            try:
                self._target.write(data)
                self._target.flush()
            except BrokenPipeError:
                self._target = None
        self.seen = (self.seen + data)[-4096:] if data else self.seen
        return bool(data)


def _watch(qemu: "subprocess.Popen[bytes]", folder: Path, timeout: float) -> str:
    """Pass output on until the guest ends; how it did."""
    end = time.monotonic() + timeout
    tails = [
        _Tail(folder / "out", sys.stdout.buffer),
        _Tail(folder / "err", sys.stderr.buffer),
        _Tail(folder / "xen.log", None),
    ]
    console, how, dying = tails[2], "crashed", 0.0
    while qemu.poll() is None:
        for tail in tails:
            tail.pump()
        now = time.monotonic()
        if b"hac-guest: end" in console.seen:
            break
        if not dying and b"Reboot in five seconds" in console.seen:
            dying = now + 0.5
        if (dying and now > dying) or now > end:
            how = "crashed" if dying else "timeout"
            break
        time.sleep(PAUSE)
    else:
        if qemu.returncode < 0:
            how = "killed"
    qemu.kill()
    qemu.wait()
    for tail in tails:
        while tail.pump():
            pass
    return how


def boot(request: Request) -> Outcome:
    """Boot once and run the command."""
    if absent := host.missing(host.BOOTING):
        raise Failed(
            f"missing: {' '.join(absent)}; run: sudo apt-get install -y {' '.join(absent)}"
        )
    folder = _prepare(request)
    start = time.monotonic()
    with (folder / "qemu.log").open("wb") as log:
        qemu = subprocess.Popen(
            _qemu(request, folder),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            how = _watch(qemu, folder, request.timeout)
        finally:
            qemu.kill()
            qemu.wait()
    seconds = time.monotonic() - start
    faults = logs.faults(folder / name for name in _log_names(folder))
    for name in ("xen", "vmlinux", "initramfs"):
        (folder / name).unlink()
    try:
        code = int((folder / "exit").read_text())
    except (OSError, ValueError):
        code = None
    if faults:
        return Outcome(BAD_LOG, "bad log", seconds, folder, faults)
    if code is not None:
        return Outcome(code, "exited", seconds, folder)
    return Outcome(TIMEOUT if how == "timeout" else CRASHED, how, seconds, folder)


def write_log(done: Outcome, target: Path) -> None:
    """All that Xen and the guests' kernels said, in one file."""
    parts = [
        f"== {name} ==\n{(done.logs / name).read_text(errors='replace')}"
        for name in _log_names(done.logs)
    ]
    target.write_text("\n".join(parts))


def _log_names(folder: Path) -> list[str]:
    found = {path.name for path in folder.glob("guest-*.log")}
    found |= {path.name for path in folder.glob("dmesg.*")}
    return ["xen.log", *sorted(found)]

# SPDX-License-Identifier: MIT
"""What replication costs: ending a transaction into the ring beside a memcpy, and what
gets through one helper to a backup on this machine, beside other stores.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from microbench.program import ProgramFailed, Served, Unavailable, executable
from microbench.rounds import Effort, sample
from microbench.rows import Ending, Skip, Store, Stream
from microbench.stores import STORES, free_port

HELPER = [sys.executable, "-m", "pyhac.replication"]
SIZES = (64, 4096, 16384)
FACTOR, CONSTANT_NS = 1.5, 500.0


@dataclass(frozen=True)
class Load:
    """A kind of transactions that stream to the backup."""

    what: str
    bytes: int
    transactions: int
    mode: str = "stream"
    rate: int = 0  # a second, at most; 0: as fast as it goes
    place: str = "disk"  # where both images are, or "memory"

    @property
    def title(self) -> str:
        return f"{self.what}, images {'on disk' if self.place == 'disk' else 'in memory'}"


LOADS = (
    Load("small transactions, 8 bytes", 8, 1_500_000),
    Load("small transactions at 200 000 a second", 8, 1_000_000, rate=200_000),
    *(
        load
        for place in ("memory", "disk")
        for load in (
            Load("page-sized transactions", 4096, 200_000, place=place),
            Load("page-sized transactions at 150 MB/s", 4096, 180_000, rate=36_621, place=place),
        )
    ),
    Load("one acknowledged transaction after the other", 8, 1_500, "single"),
)
"""Both images are synced, and here they share one disk, which two machines would not:
what the programs can do shows with both in memory."""
MEMORY = Path("/dev/shm")


@contextmanager
def backup(parent: Path | None = None) -> Iterator[tuple[Path, list[str]]]:
    """A backup over TLS; a folder for images, and the helper's arguments to reach it."""
    with ExitStack() as stack:
        where = tempfile.TemporaryDirectory(prefix="replication-", dir=parent)
        folder = Path(stack.enter_context(where))
        hac = [sys.executable, "-m", "pyhac.commands"]
        for name in ("a", "b"):
            keys = [*hac, "keys", str(folder / "keys"), "--name", name, "--host", "127.0.0.1"]
            done = subprocess.run(keys, capture_output=True, text=True, check=False)
            if done.returncode:
                raise Unavailable(done.stderr.strip())
        port = free_port()
        serve = [*hac, "backup", "serve", "--image", str(folder / "backup.hac")]
        serve += ["--listen", f"127.0.0.1:{port}", "--tls", str(folder / "keys" / "b")]
        log = stack.enter_context((folder / "backup.log").open("wb"))
        process = subprocess.Popen(serve, stdout=log, stderr=log)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        yield folder, ["--peer", f"127.0.0.1:{port}", "--tls", str(folder / "keys" / "a")]


def program(mode: str, size: int, image: Path | None, arguments: list[str]) -> list[str]:
    words = [str(executable("replication_bench")), "--mode", mode, "--bytes", str(size)]
    if image is not None:
        words += ["--image", str(image), "--", *HELPER, "--", *arguments]
    return words


# -- ending ---------------------------------------------------------------------


def _ending(size: int, effort: Effort, tick: Callable[[], None]) -> Ending:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ring-")))
        served = {
            mode: stack.enter_context(
                Served(program(mode, size, folder / "image" if mode == "ring" else None, []), mode)
            )
            for mode in ("memcpy", "shared", "none", "ring")
        }
        found = sample({mode: one.run for mode, one in served.items()}, effort, tick)
    # Of each round, so that what slows all three is taken out.
    added = median(ring - none for ring, none in zip(found["ring"], found["none"], strict=True))
    memcpy, shared = median(found["memcpy"]), median(found["shared"])
    return {
        "bytes": size,
        "memcpy_ns": round(memcpy, 1),
        "shared_ns": round(shared, 1),
        "none_ns": round(median(found["none"]), 1),
        "ring_ns": round(median(found["ring"]), 1),
        "added_ns": round(added, 1),
        "allowed_ns": round(FACTOR * memcpy + CONSTANT_NS, 1),
        "allowed_shared_ns": round(FACTOR * shared + CONSTANT_NS, 1),
    }


# -- streams --------------------------------------------------------------------


def _stream(load: Load, share: float) -> Stream:
    """Each load has a backup of its own: an image has one writer's history."""
    transactions = max(100, round(load.transactions * share))
    if load.place == "memory" and not os.access(MEMORY, os.W_OK):
        raise Unavailable(f"{MEMORY} cannot be written to")
    with backup(MEMORY if load.place == "memory" else None) as (folder, arguments):
        words = program(load.mode, load.bytes, folder / "image.hac", arguments)
        at = words.index("--")
        words[at:at] = ["--transactions", str(transactions), "--rate", str(load.rate)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ProgramFailed(f"{load.title}: {done.stderr.strip()[-500:]}")
    ns, size, p50, p99 = (int(word) for word in done.stdout.split())
    return {
        "what": load.title,
        "place": load.place,
        "rate": load.rate,
        "bytes": load.bytes,
        "mode": load.mode,
        "transactions_per_s": round(transactions / ns * 1e9),
        "mb_per_s": round(size / ns * 1e3, 1),
        "lag_p50_ms": round(p50 / 1e6, 3),
        "lag_p99_ms": round(p99 / 1e6, 3),
    }


def measure_disk(blocks: int = 100) -> float:
    """MB/s of 1 MiB written and synced, one after the other: all that images on it share."""
    block = os.urandom(1 << 20)
    with tempfile.NamedTemporaryFile(prefix="replication-") as file:
        start = time.perf_counter()
        for _ in range(blocks):
            os.write(file.fileno(), block)
            os.fdatasync(file.fileno())
        return round(blocks * len(block) / (time.perf_counter() - start) / 1e6, 1)


def _store(name: str, seconds: float) -> Store:
    with STORES[name]() as write:
        write(20)
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            write(50)
            count += 50
        return {"store": name, "writes_per_s": round(count / (time.perf_counter() - start))}


# -- all ------------------------------------------------------------------------


def measure_replication(
    effort: Effort, quick: bool, tick: Callable[[str], None]
) -> tuple[list[Ending], list[Stream], list[Store], list[Skip]]:
    """Everything about replication. What cannot be had is skipped, with the reason."""
    endings, streams, stores, skipped = list[Ending](), list[Stream](), list[Store](), list[Skip]()
    share, seconds = (0.2, 0.5) if quick else (1.0, 2.0)
    for size in SIZES:
        tick(f"ending {size} bytes into the ring")
        endings.append(_ending(size, effort, lambda: None))
    for load in LOADS:
        tick(load.title)
        try:
            streams.append(_stream(load, share))
        except Unavailable as reason:
            skipped.append({"what": load.title, "reason": str(reason)})
    for name in STORES:
        tick(name)
        try:
            stores.append(_store(name, seconds))
        except Unavailable as reason:
            skipped.append({"what": name, "reason": str(reason)})
    return endings, streams, stores, skipped


STEPS = len(SIZES) + len(LOADS) + len(STORES)

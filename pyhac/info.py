# SPDX-License-Identifier: MIT
"""What contexts, areas and engines say about themselves: plain values."""

from dataclasses import dataclass, fields

from .levels import Role


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """An engine, and whether its probe found it to work here.

    Source: struct hac_engine_info in hac.h.
    """

    name: str
    available: bool
    reason: str
    """Why, or why not."""
    words: bool
    """It sees single writes, so that ``Stats.writes`` counts them."""
    kernel_writes: bool
    """``readinto`` and its like work without ``Transaction.will_write``."""


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """The engine that a context uses ("compare,uffd" where areas differ), and why."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


@dataclass(frozen=True, slots=True)
class AreaInfo:
    """A critical data area of a context or of its image. Sizes are in bytes.

    Source: struct hac_area_info in hac.h.
    """

    name: str
    id: int
    size: int
    capacity: int
    """Address space that is reserved: how far ``Context.resize`` can go."""
    type: str
    engine: str | None
    """None: nobody has claimed the area."""
    address: int | None
    claimed: bool
    """False: in the image, and not mapped here."""
    restored: bool
    """Its bytes came from the image."""
    adopted: bool
    pointers: bool
    kernel_writes: bool
    fingerprint: str | None


@dataclass(frozen=True, slots=True)
class ContextInfo:
    """A context at one moment.

    Source: struct hac_info in hac.h.
    """

    epoch: int
    generation: int
    parent: int
    branch_epoch: int
    durable: int
    dropped_bytes: int
    dropped_epoch: int
    areas: int
    unclaimed: int
    role: Role | None
    """None: without replication."""
    helper: int
    """The helper's pid; 0 while there is none."""
    flags: int
    """Those of struct hac_options."""
    engine: EngineChoice


@dataclass(frozen=True, slots=True)
class Stats:
    """What a context did since it was opened. ``later - earlier`` is what it did
    in between.

    Source: struct hac_stats in hac.h; PPT and WPP are the parameters of Lee et
    al., "Hypervisor-assisted application checkpointing", DSN 2011.
    """

    transactions: int
    """Epochs ended, those of stray writes included."""
    aborts: int
    strays: int
    """Epochs made of writes outside a transaction."""
    faults: int
    """Write faults that libhac's handler took."""
    dirty_pages: int
    """This and the next four are sums over transactions; strays are not in them."""
    changed_words: int
    """Words of 8 bytes in deltas."""
    delta_bytes: int
    writes: int | None
    """Single writes, where the engine sees them; otherwise None."""
    fallbacks: int
    """Pages that an engine which sees single writes opened instead, at a store that
    it does not carry out or for ``will_write``, and edges of adopted memory: not all
    writes to them are in ``writes``."""
    begin_ns: int
    """Nanoseconds spent in begin."""
    end_ns: int
    """Nanoseconds spent in prepare and finish."""

    @property
    def ppt(self) -> float | None:
        """Unique pages written per transaction; None before the first."""
        ended = self.transactions - self.strays
        return self.dirty_pages / ended if ended else None

    @property
    def wpp(self) -> float | None:
        """Writes per dirty page; None where the engine sees no single writes."""
        if self.writes is None or not self.dirty_pages:
            return None
        return self.writes / self.dirty_pages

    def __sub__(self, earlier: "Stats") -> "Stats":
        if not isinstance(earlier, Stats):
            return NotImplemented
        differences: dict[str, int | None] = {}
        for field in fields(self):
            now, then = getattr(self, field.name), getattr(earlier, field.name)
            differences[field.name] = None if now is None or then is None else now - then
        return Stats(**differences)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class ImageCheck:
    """What reading an image from end to end found.

    Source: struct hac_check in hac.h.
    """

    sound: bool
    detail: str
    """The damage in words; empty if there is none."""
    uuid: str
    file: str
    """The damaged file, relative to the image; empty if there is none."""
    offset: int
    damage_epoch: int
    dropped_bytes: int
    """A damaged or unfinished end, which the next opening cuts."""
    epoch: int
    base_epoch: int
    generation: int
    frames: int
    transactions: int
    journal_bytes: int
    base_bytes: int
    areas: int
    segments: int
    locked_by: int
    """The pid that has the image open for writing, or 0."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record of an image's journal.

    Source: struct hac_log_record in hac.h.
    """

    kind: str
    """"generation", "layout", "drop" or "transaction"."""
    file: str
    offset: int
    generation: int
    epoch: int
    parent: int
    branch_epoch: int
    time_ns: int
    """When its frame was written: nanoseconds since 1970."""
    runs: int
    bytes: int
    area: int
    partial: bool
    """More of the transaction follows."""
    name: str | None
    type: str | None

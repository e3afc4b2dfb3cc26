# SPDX-License-Identifier: MIT
"""The document that `xen` writes. Like rows.py's, in instructions."""

from typing import TypedDict

from microbench.rows import Skip, Target


class XenRow(TypedDict):
    """One variant of one cell."""

    engine: str
    pattern: str
    cda_bytes: int
    ppt: int
    wpp: int
    threads: int
    delta: str
    twin: bool
    loop: str
    instr_per_txn: float  # median of the batches
    spread: float  # median absolute deviation
    ratio_to_pt: float  # naive PT's instructions / this one's
    pages_per_txn: float
    words_per_txn: float


class ScanLine(TypedDict):
    """instructions = base + a PPT + b MB, least squares."""

    base: float
    a: float
    b: float
    paper_a: float
    paper_b: float


class XenDocument(TypedDict):
    version: int
    machine: dict[str, str | int]
    rows: list[XenRow]
    targets: list[Target]
    scan: ScanLine | None
    skipped: list[Skip]
    failed: list[Skip]

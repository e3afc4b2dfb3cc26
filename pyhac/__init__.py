# SPDX-License-Identifier: MIT
"""Application checkpointing: transactions over memory.

::

    import pyhac

    ctx = pyhac.open("orders.hac")
    book = ctx.array("book", 100_000, ORDER)


    @ctx.transactional
    def fill(i, quantity):
        book[i]["open"] -= quantity

See :func:`open`, :class:`Context` and :class:`Transaction`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .advice import Advice, Estimate, Workload
    from .context import Context
    from .decorate import Decorator, transactional
    from .delta import Delta, Run
    from .errors import (
        Abort,
        Closed,
        EngineUnavailable,
        Error,
        Fenced,
        Forked,
        ImageCut,
        ImageDamaged,
        ImageLocked,
        InDoubt,
        LayoutError,
        NothingChanged,
        RingFull,
        StrayWrite,
        TransactionError,
    )
    from .info import AreaInfo, EngineChoice, EngineInfo, Stats
    from .levels import Level, Role, Status
    from .options import Path
    from .transaction import Transaction

    __version__: str
else:
    # Everything comes when it is asked for: a helper and the command hac are there
    # sooner without numpy.
    _MODULES = {
        "advice": ("Advice", "Estimate", "Workload"),
        "context": ("Context",),
        "decorate": ("Decorator", "transactional"),
        "delta": ("Delta", "Run"),
        "errors": (
            "Abort", "Closed", "EngineUnavailable", "Error", "Fenced", "Forked", "ImageCut",
            "ImageDamaged", "ImageLocked", "InDoubt", "LayoutError", "NothingChanged",
            "RingFull", "StrayWrite", "TransactionError",
        ),
        "info": ("AreaInfo", "EngineChoice", "EngineInfo", "Stats"),
        "levels": ("Level", "Role", "Status"),
        "transaction": ("Transaction",),
    }  # fmt: skip
    _HOME = {name: module for module, names in _MODULES.items() for name in names}

    def __getattr__(name):
        if name == "__version__":
            value = import_module("._native", __name__).library_version()
        elif name in _HOME:
            value = getattr(import_module(f".{_HOME[name]}", __name__), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__():
        return sorted({*globals(), *_HOME, "__version__"})


def open(
    path: "Path | None" = None,
    *,
    engine: str = "auto",
    level: "Level | None" = None,
    flush_ms: int | None = None,
    twin: bool = True,
    strict: bool = False,
    join_strays: bool = False,
    check: bool = False,
    readonly: bool = False,
    at: int | None = None,
    partial: bool = False,
    role: "Role | str | None" = None,
    listen: str | None = None,
    peers: "Iterable[str]" = (),
    tls: "Path | None" = None,
    codec: str | None = None,
    key_file: "Path | None" = None,
    helper_arguments: "Iterable[str]" = (),
) -> "Context":
    """Open an image, or a context without one.

    Args:
        path: of the image, a directory on a local disk; created when absent.
            None: tracking, deltas and rollback only.
        engine: "auto", or a name from :func:`pyhac.engines`.
        level: how safe a transaction has to be when its block returns; None:
            ``Level.JOURNAL`` with a path, ``Level.RING`` without.
        flush_ms: gather the transactions of so many milliseconds in one frame;
            None: sync as soon as there is something.
        twin: keep a committed copy. Without, deltas are pages, nothing can be
            rolled back, and a failed transaction makes the context unusable.
        strict: writes outside a transaction are errors (StrayWrite).
        join_strays: writes outside a transaction belong to the next one, and an
            abort undoes them, too, instead of taking an epoch of their own.
            For programs that make none: beginning then costs next to nothing,
            and ``auto`` compares areas up to 256 KiB.
        check: warn when a transaction changed nothing (NothingChanged).
        readonly: look at the image; it is neither locked nor written.
        at: the state as that epoch left it; None: the newest. Opened for
            writing, this branches off there in a new generation.
        partial: begin transactions although the image holds areas that nobody
            claimed.
        role: with replication: "auto" (ask the peers: standby if one is primary,
            or is ahead), "primary" or "standby". None: no replication, unless
            one of listen, peers, tls and helper_arguments is given: then "auto".
            With replication a helper process owns the image and sends its journal
            to the peers, or receives it from them; opening returns when it knows
            its role, and is not interrupted by signals before. See
            :meth:`Context.wait_primary`, :meth:`Context.advance`, and the level
            ``Level.BACKUP(k)``.
        listen: "host:port" where peers may connect.
        peers: "host:port" of each of the others.
        tls: the directory of this node's certificates; see ``hac keys``. Only on
            loopback can it be left out.
        codec: how frames are compressed from now on: None, "zstd" or "lz4".
        key_file: encrypt frames, and decrypt them, with the key in this file, or
            "env:NAME" for one in the environment.
        helper_arguments: further ones of ``hac helper``.

    Raises:
        ValueError, TypeError: an argument is wrong.
        EngineUnavailable: and why it is.
        ImageLocked: another process has it open for writing.
        ImageDamaged: with file, offset and epoch. A damaged end is cut instead,
            with the warning ImageCut.
        OSError: FileNotFoundError (read-only and absent), EROFS, ...
    """
    from .context import Context

    return Context().open(
        path,
        engine=engine,
        level=level,
        flush_ms=flush_ms,
        twin=twin,
        strict=strict,
        join_strays=join_strays,
        check=check,
        readonly=readonly,
        at=at,
        partial=partial,
        role=role,
        listen=listen,
        peers=peers,
        tls=tls,
        codec=codec,
        key_file=key_file,
        helper_arguments=helper_arguments,
    )


def engines() -> "tuple[EngineInfo, ...]":
    """Every engine, whether it works here, and why (not).

    The probes run once a process; each writes a page and looks whether that
    was noticed. The environment variable HAC_DISABLE=uffd,emul makes engines
    unavailable.
    """
    from . import _native

    return _native.engines()


__all__ = [
    "Abort",
    "Advice",
    "AreaInfo",
    "Closed",
    "Context",
    "Decorator",
    "Delta",
    "EngineChoice",
    "EngineInfo",
    "EngineUnavailable",
    "Error",
    "Estimate",
    "Fenced",
    "Forked",
    "ImageCut",
    "ImageDamaged",
    "ImageLocked",
    "InDoubt",
    "LayoutError",
    "Level",
    "NothingChanged",
    "RingFull",
    "Role",
    "Run",
    "Stats",
    "Status",
    "StrayWrite",
    "Transaction",
    "TransactionError",
    "Workload",
    "engines",
    "open",
    "transactional",
]

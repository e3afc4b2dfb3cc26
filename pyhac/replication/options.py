# SPDX-License-Identifier: MIT
"""What a node is told when it starts, checked."""

import argparse
import math
import os
import socket
from collections.abc import Sequence

from . import lease
from ._keeper import BACKUPS_MAX
from .address import Address
from .log import Log
from .roles import Role
from .tls import Security, load_security


class Options:
    """``ring``: descriptor of a context's ring, or -1; the rest: see ``hac helper --help``."""

    def __init__(
        self,
        image: str,
        name: str,
        security: Security,
        *,
        listen: Address | None = None,
        peers: Sequence[Address] = (),
        role: Role = Role.AUTO,
        codec: str = "none",
        key_file: str | None = None,
        ring: int = -1,
        flush_ms: int = 0,
        lease: float = 0.0,
        silence: float = 5.0,
        metrics: Address | None = None,
    ) -> None:
        self.image, self.name, self.security = image, name, security
        self.listen, self.peers, self.role = listen, list(peers), role
        self.codec, self.key_file = codec, key_file
        self.ring, self.flush_ms = ring, flush_ms
        self.lease, self.silence = lease, silence
        self.metrics = metrics

    @property
    def heartbeat(self) -> float:
        return min(0.5, self.lease / 10) if self.lease else 0.5

    def check(self) -> None:
        """Raises ValueError: what does not go together."""
        if len(self.peers) > BACKUPS_MAX:
            raise ValueError(f"{len(self.peers)} peers; there can be {BACKUPS_MAX}")
        if len(set(self.peers)) < len(self.peers):
            raise ValueError("a peer is named twice")
        if self.listen is None and (
            self.role is Role.STANDBY or (self.role is Role.AUTO and self.peers)
        ):
            raise ValueError(f"role {self.role} needs --listen: that is where a primary connects")
        if self.lease and (not math.isfinite(self.lease) or self.lease < lease.SHORTEST):
            raise ValueError(f"--lease is at least {lease.SHORTEST:g} seconds")
        if self.lease and len(self.peers) != 1:
            raise ValueError("--lease is for a pair: name exactly one --peer")


def node_options(parsed: argparse.Namespace) -> tuple[Options, Log]:
    """Raises ValueError."""
    listen, peers = parsed.listen, parsed.peer
    name = parsed.name or f"{socket.gethostname()}/{listen or os.path.basename(parsed.image)}"
    if len(name) > 200 or not name.isprintable():
        raise ValueError("--name is at most 200 printable characters")
    if not parsed.silence > 0:
        raise ValueError("--silence is a number of seconds")
    log = Log(node=name)
    security = Security(None, None)
    if listen or peers:
        security = load_security(parsed.tls, [*([listen] if listen else []), *peers], log)
    options = Options(
        image=parsed.image,
        name=name,
        security=security,
        listen=listen,
        peers=peers,
        role=Role(getattr(parsed, "role", None) or "auto"),
        codec=getattr(parsed, "codec", "none"),
        key_file=parsed.key_file,
        ring=getattr(parsed, "ring", -1),
        flush_ms=getattr(parsed, "flush_ms", 0),
        lease=getattr(parsed, "lease", 0.0),
        silence=parsed.silence,
        metrics=parsed.metrics,
    )
    return options, log

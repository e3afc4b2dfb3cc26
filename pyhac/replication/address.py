# SPDX-License-Identifier: MIT
"""HOST:PORT, and nats://HOST:PORT,.../NAME."""

import contextlib
import ipaddress
import re
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")


class Address(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Certainly on this machine. A name is not looked up: what it means may change."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_address(text: str) -> Address:
    """Raises ValueError, naming what is wrong."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: put an IPv6 address in brackets: [::1]:7000")
    if not colon or not host:
        raise ValueError(f"{text!r} is no address: give HOST:PORT")
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r}: a port is a number from 1 to 65535")
    return Address(host, int(port))


@dataclass(frozen=True)
class StreamAddress:
    """``nats://HOST:PORT,HOST:PORT/NAME``; ``tls://`` where the servers ask for TLS.

    Attributes:
        servers: addresses as the client takes them.
        name: of the stream.
    """

    servers: tuple[str, ...]
    name: str

    @classmethod
    def parse(cls, text: str) -> "StreamAddress":
        """ValueError says what is wrong with the address."""
        scheme, found, rest = text.partition("://")
        hosts, slash, name = rest.partition("/")
        if not found or scheme not in ("nats", "tls") or not hosts or not slash:
            raise ValueError(f"{text!r} is no address of a stream: nats://HOST:PORT[,...]/NAME")
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{text!r}: a stream's name has 1 to 128 letters, digits, '-' and '_', not {name!r}"
            )
        servers = []
        for host in hosts.split(","):
            try:
                parts = urlsplit(f"{scheme}://{host}")
                port = parts.port or 4222
            except ValueError as failure:
                raise ValueError(f"{text!r}: {host!r}: {failure}") from None
            if not parts.hostname or parts.username or parts.password:
                raise ValueError(
                    f"{text!r}: {host!r} is no HOST:PORT (user and password come from "
                    "NATS_USER and NATS_PASSWORD)"
                )
            named = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
            servers.append(f"{scheme}://{named}:{port}")
        return cls(tuple(servers), name)

    @property
    def loopback(self) -> bool:
        """Every server is on this machine, so far as the address tells."""

        def local(server: str) -> bool:
            host = urlsplit(server).hostname or ""
            with contextlib.suppress(ValueError):
                return ipaddress.ip_address(host).is_loopback
            return host == "localhost"

        return all(map(local, self.servers))

    def __str__(self) -> str:
        scheme = self.servers[0].partition("://")[0]
        hosts = ",".join(server.partition("://")[2] for server in self.servers)
        return f"{scheme}://{hosts}/{self.name}"

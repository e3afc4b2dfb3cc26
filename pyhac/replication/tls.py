# SPDX-License-Identifier: MIT
"""Who may talk to us: TLS 1.3 with certificates on both sides, of a CA of one's own.

Without TLS only where every address is a loopback address.
"""

import os
import ssl
from collections.abc import Iterable

from .address import Address
from .log import Log

FILES = ("ca.pem", "cert.pem", "key.pem")


class Security:
    """How to accept and how to connect; both None: plain TCP."""

    def __init__(self, server: ssl.SSLContext | None, client: ssl.SSLContext | None) -> None:
        self.server = server
        self.client = client


def _context(directory: str, protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cafile=os.path.join(directory, "ca.pem"))
    context.load_cert_chain(os.path.join(directory, "cert.pem"), os.path.join(directory, "key.pem"))
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def load_security(directory: str | None, addresses: Iterable[Address], log: Log) -> Security:
    """Raises ValueError: no certificates, or plain TCP where others could listen."""
    if directory is None:
        for address in addresses:
            if not address.loopback:
                raise ValueError(
                    f"{address} is no loopback address: give --tls DIR with certificates "
                    "(hac keys makes them)"
                )
        log("plain", warning="without TLS: every program of this machine may be a peer")
        return Security(None, None)
    missing = [name for name in FILES if not os.path.isfile(os.path.join(directory, name))]
    if missing:
        raise ValueError(f"--tls {directory}: {', '.join(missing)} is missing (see hac keys)")
    try:
        server = _context(directory, ssl.PROTOCOL_TLS_SERVER)
        client = _context(directory, ssl.PROTOCOL_TLS_CLIENT)
    except (OSError, ssl.SSLError) as failure:
        raise ValueError(f"--tls {directory}: cannot use its files: {failure}") from failure
    client.check_hostname = True
    return Security(server, client)

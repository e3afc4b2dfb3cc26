# SPDX-License-Identifier: MIT
"""Who has no valid certificate gets nothing."""

import asyncio
import datetime
import socket
import ssl
from pathlib import Path

import pytest

from pyhac.commands._certificates import make_node
from pyhac.replication.address import Address, parse_address
from pyhac.replication.log import Log
from pyhac.replication.protocol import ProtocolError
from pyhac.replication.status import ask, promote
from pyhac.replication.tls import Security, load_security
from tests.replication.nodes import (
    FAILED,
    PRIMARY,
    PROMOTE,
    PROMOTED,
    READY,
    STANDBY,
    Machine,
    Make,
    eventually,
    keys,
)
from tests.replication.proxy import Proxy


def security(directory: Path) -> Security:
    return load_security(str(directory), [], Log())


def secured(machines: Make, folder: Path) -> tuple[Machine, Machine, dict[str, Path]]:
    made = {name: keys(folder / "keys", name) for name in ("a", "b")}
    a, b = machines("a", "b")
    for machine in (a, b):
        machine.extra = ["--tls", str(made[machine.name])]
    return a, b, made


def test_a_pair(machines: Make, tmp_path: Path) -> None:
    a, b, made = secured(machines, tmp_path)
    b.start(STANDBY)
    a.start(PRIMARY)
    assert a.hear().kind == READY
    assert b.hear().kind == READY
    for _ in range(20):
        a.push(1, 300_000)
    own = security(made["a"])
    eventually(lambda: a.status(own)["sinks"][0]["epoch"] == 20)
    assert a.journal() == b.journal()
    b.say(PROMOTE)
    assert b.hear().kind == PROMOTED
    eventually(lambda: a.status(own)["state"] == "fenced")


def test_bytes_that_are_changed_on_their_way(machines: Make, tmp_path: Path) -> None:
    a, b, made = secured(machines, tmp_path)
    proxy = Proxy(b.port)
    a.peers, b.peers = [proxy.port], []
    b.start(STANDBY)
    a.start(PRIMARY)
    a.hear()
    for turn in range(8):
        proxy.damage = lambda data: bytes([data[0] ^ 1]) + data[1:] if len(data) > 500 else data
        a.push(1, 10_000)
        proxy.cut()
        own = security(made["a"])
        eventually(lambda: a.status(own)["epoch"] == turn + 1)  # noqa: B023
        assert a.status(own)["sinks"][0]["epoch"] <= turn + 1
    proxy.damage = lambda data: data
    eventually(lambda: a.status(own)["sinks"][0]["epoch"] == 8)
    assert a.journal() == b.journal()


@pytest.fixture
def standby(machines: Make, tmp_path: Path) -> tuple[Machine, dict[str, Path]]:
    _a, b, made = secured(machines, tmp_path)
    b.peers = []
    b.start(STANDBY)
    eventually(lambda: b.status(security(made["a"]))["state"] == "standby")
    return b, made


def refused(machine: Machine, wrong: Security) -> None:
    address = Address("127.0.0.1", machine.port)
    for question in (ask, promote):
        with pytest.raises((OSError, ProtocolError, TimeoutError)):
            asyncio.run(question(address, wrong))


def test_strangers(standby: tuple[Machine, dict[str, Path]], tmp_path: Path) -> None:
    b, made = standby
    mine = security(made["a"])
    # Another authority, on either side.
    other = security(keys(tmp_path / "other", "a"))
    refused(b, other)
    refused(b, Security(None, mixed(made["a"], tmp_path / "other" / "a")))
    # No certificate at all.
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.load_verify_locations(made["a"] / "ca.pem")
    refused(b, Security(None, bare))
    # One that has expired.
    before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=3)
    refused(b, security(make_node(tmp_path / "keys", "old", ["127.0.0.1"], 2, before)))
    # TLS 1.2, and no TLS.
    old = mixed(made["a"], made["a"])
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    refused(b, Security(None, old))
    refused(b, Security(None, None))
    with socket.create_connection(("127.0.0.1", b.port)) as plain:
        plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
        plain.settimeout(10)
        assert len(plain.recv(100)) < 10  # an alert at most
    assert b.status(mine)["state"] == "standby"


def mixed(trusted: Path, own: Path) -> ssl.SSLContext:
    """Trusts one authority, and shows a certificate of another."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(trusted / "ca.pem")
    context.load_cert_chain(own / "cert.pem", own / "key.pem")
    return context


def test_a_server_of_another_name(machines: Make, tmp_path: Path) -> None:
    """A certificate of the same authority, but for another host."""
    _a, b, made = secured(machines, tmp_path)
    b.extra = ["--tls", str(keys(tmp_path / "keys", "elsewhere", host="b.example.org"))]
    b.peers = []
    b.start(STANDBY)
    eventually(lambda: bool(b.events("listens")))
    with pytest.raises(OSError, match="certificate"):
        asyncio.run(ask(Address("127.0.0.1", b.port), security(made["a"])))


def test_plain_only_on_loopback(machines: Make) -> None:
    (a,) = machines("a")
    a.extra = ["--peer", "192.0.2.1:7000"]
    a.start(PRIMARY)
    said = a.hear()
    assert (said.kind, said.error) == (FAILED, -22)
    assert "192.0.2.1:7000" in said.text
    assert "--tls" in said.text


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("127.0.0.1:1", True),
        ("[::1]:7000", True),
        ("localhost:7000", True),
        ("10.0.0.1:7000", False),
        ("example.org:7000", False),
        ("0.0.0.0:7000", False),
        ("127.0.0.1.example.org:7000", False),
    ],
)
def test_loopback(text: str, good: bool) -> None:
    assert parse_address(text).loopback is good


@pytest.mark.parametrize("text", ["", "a", "a:", ":1", "a:0", "a:65536", "a:x", "::1:70", "a:-1"])
def test_bad_addresses(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_address(text)

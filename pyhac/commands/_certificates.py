# SPDX-License-Identifier: MIT
"""Certificates for ``hac keys``. The only module that knows ``cryptography``."""

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ImportError:
    raise ValueError(
        "certificates need the package cryptography: pip install hac-checkpoint[ha]"
    ) from None

from .keys import write_secret

_AUTHORITY_DAYS = 3650


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    days: int,
    start: datetime.datetime | None = None,
) -> x509.CertificateBuilder:
    if start is None:
        # Clocks of two machines differ a little.
        start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    )


def _authority(directory: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """The one of this directory; made if there is none."""
    certificate_path, key_path = directory / "ca.pem", directory / "ca-key.pem"
    if certificate_path.exists() or key_path.exists():
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{key_path} was not made by hac keys")
        return certificate, key
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("HAC authority")
    certificate = (
        _builder(name, name, key, _AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .add_extension(_usage(authority=True), True)
        .sign(key, hashes.SHA256())
    )
    write_secret(key_path, _pem(key))
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return certificate, key


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def make_node(
    directory: Path,
    name: str,
    hosts: Sequence[str],
    days: int,
    start: datetime.datetime | None = None,
) -> Path:
    """Make DIR/NAME for --tls, valid from ``start`` on (now). FileExistsError, ValueError."""
    if not 0 < days < 36500:
        raise ValueError("--days is at least 1")
    authority, authority_key = _authority(directory)
    node = directory / name
    node.mkdir(mode=0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(_name(name), authority.subject, key, days, start)
        .add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(_usage(authority=False), True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), False
        )
        # Each node both connects and is connected to.
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
            ),
            False,
        )
        .sign(authority_key, hashes.SHA256())
    )
    write_secret(node / "key.pem", _pem(key))
    pem = serialization.Encoding.PEM
    (node / "cert.pem").write_bytes(certificate.public_bytes(pem))
    (node / "ca.pem").write_bytes(authority.public_bytes(pem))
    return node

# SPDX-License-Identifier: MIT
"""The command line of ``hac helper`` and ``hac backup serve``.

Imports little: every run of ``hac`` builds all of it.
"""

import argparse

from ._keeper import CODECS
from .address import Address, parse_address
from .roles import Role


def address(value: str) -> Address:
    try:
        return parse_address(value)
    except ValueError as failure:
        raise argparse.ArgumentTypeError(str(failure)) from None


def add_node_arguments(parser: argparse.ArgumentParser) -> None:
    """What a helper and a backup have in common."""
    parser.add_argument("--image", required=True, metavar="PATH", help="the image, a directory")
    parser.add_argument("--name", help="of this node, for others (host name and address)")
    parser.add_argument(
        "--listen", type=address, metavar="HOST:PORT", help="where a primary may connect"
    )
    parser.add_argument(
        "--peer",
        type=address,
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="another node of this image; may be repeated",
    )
    parser.add_argument(
        "--tls", metavar="DIR", help="with ca.pem, cert.pem and key.pem; see hac keys"
    )
    parser.add_argument(
        "--key-file", metavar="FILE", help='of the data key, or "env:NAME"; see hac keys'
    )
    parser.add_argument(
        "--silence",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="after which a peer that says nothing is dropped (5)",
    )
    parser.add_argument(
        "--metrics", type=address, metavar="HOST:PORT", help="answer Prometheus there"
    )


def add_helper_arguments(parser: argparse.ArgumentParser) -> None:
    add_node_arguments(parser)
    parser.add_argument("--ring", type=int, required=True, metavar="FD")
    parser.add_argument("--control", type=int, required=True, metavar="FD")
    parser.add_argument("--role", choices=[str(role) for role in Role])
    parser.add_argument("--flush-ms", type=int, default=0, metavar="N")
    parser.add_argument("--codec", choices=list(CODECS), default="none")
    parser.add_argument(
        "--lease",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="of a pair: a standby that hears nothing for so long becomes primary, "
        "and a primary whose standby does not answer stops",
    )
    parser.add_argument(
        "--linger",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="at the end, send to backups for so long (5)",
    )

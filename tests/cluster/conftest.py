# SPDX-License-Identifier: MIT
"""The cluster that the tests here share."""

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cluster.cluster import Cluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Cluster]":
    pytest.importorskip("nats", reason="there is no nats-py")
    from tests.cluster.cluster import NODES, Cluster

    made = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        for index in range(NODES):
            made.start(index)
        made.wait_ready()
        yield made
    finally:
        made.stop()


@pytest.fixture
def name() -> str:
    """A stream of its own for each test."""
    return f"test-{uuid.uuid4().hex[:12]}"

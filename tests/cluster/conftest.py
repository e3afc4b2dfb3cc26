# SPDX-License-Identifier: MIT
"""What the tests of streams share; the cluster is in tests/conftest.py."""

import uuid

import pytest


@pytest.fixture
def name() -> str:
    """A stream of its own for each test."""
    return f"test-{uuid.uuid4().hex[:12]}"

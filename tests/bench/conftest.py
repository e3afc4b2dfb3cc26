# SPDX-License-Identifier: MIT
"""What tests of the benchmarks share."""

import pytest

from microbench.program import Missing, executable


@pytest.fixture
def built() -> None:
    """Skips where the programs in C have not been built."""
    try:
        executable("naive_pt")
        executable("engine_bench")
    except Missing as reason:
        pytest.skip(str(reason))

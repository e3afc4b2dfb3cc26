# SPDX-License-Identifier: MIT
"""What tests of pyhac share: every engine in turn, and contexts that get closed."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import pyhac

if TYPE_CHECKING:
    from tests.cluster.cluster import Cluster

ENGINES = {engine.name: engine for engine in pyhac.engines() if engine.name != "auto"}

Opener = Callable[..., pyhac.Context]
Runner = Callable[..., "subprocess.CompletedProcess[str]"]


def pytest_report_header() -> list[str]:
    return [
        f"pyhac {pyhac.__version__} from {Path(pyhac.__file__).parent}",
        *(
            f"engine {engine.name}: {'works' if engine.available else 'skipped'}: {engine.reason}"
            for engine in ENGINES.values()
        ),
    ]


@pytest.fixture(params=list(ENGINES))
def engine(request: pytest.FixtureRequest) -> str:
    """The name of every engine; those that do not work here are skipped."""
    found = ENGINES[request.param]
    if not found.available:
        pytest.skip(f"engine {found.name} is not available: {found.reason}")
    return found.name


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Opens contexts that are closed after the test."""
    contexts: list[pyhac.Context] = []

    def make(*args: Any, **kwargs: Any) -> pyhac.Context:
        contexts.append(pyhac.open(*args, **kwargs))
        return contexts[-1]

    yield make
    for context in contexts:
        context.close()


@pytest.fixture
def ctx(opened: Opener) -> pyhac.Context:
    """A context without image, with the engine that auto chooses."""
    return opened()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Where an image may be made."""
    return tmp_path / "test.hac"


@pytest.fixture
def run() -> Runner:
    """Runs a Python program in a process of its own."""

    def runner(program: str, *args: str, **env: str) -> "subprocess.CompletedProcess[str]":
        path = os.pathsep.join([str(Path(pyhac.__file__).parent.parent), *sys.path[1:]])
        return subprocess.run(
            [sys.executable, "-P", "-c", program, *args],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={**os.environ, "PYTHONPATH": path, **env},
        )

    return runner


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Cluster]":
    """Three NATS servers, for all tests that want them."""
    pytest.importorskip("nats", reason="there is no nats-py")
    from tests.cluster.cluster import running

    with running(tmp_path_factory.mktemp("cluster")) as made:
        yield made

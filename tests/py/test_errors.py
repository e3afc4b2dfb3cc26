# SPDX-License-Identifier: MIT
"""Bad input gives a clear error and leaves everything as it was."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import pyhac
from pyhac import errors

if TYPE_CHECKING:
    from tests.conftest import Opener, Runner

CODES: list[tuple[int, type[BaseException]]] = [
    (errno.EINVAL, ValueError),
    (errno.ENOMEM, MemoryError),
    (errno.EBADF, pyhac.Closed),
    (errno.ECHILD, pyhac.Forked),
    (errno.ENODEV, pyhac.EngineUnavailable),
    (errno.EBUSY, pyhac.TransactionError),
    (errno.EPROTO, pyhac.TransactionError),
    (errno.EOPNOTSUPP, pyhac.TransactionError),
    (errno.EREMCHG, pyhac.StrayWrite),
    (errno.EPROTOTYPE, pyhac.LayoutError),
    (errno.EUSERS, pyhac.ImageLocked),
    (errno.EBADMSG, pyhac.ImageDamaged),
    (errno.EXFULL, pyhac.RingFull),
    (errno.EUCLEAN, pyhac.InDoubt),
    (errno.ESTALE, pyhac.Fenced),
    (errno.ENOSPC, OSError),
    (errno.EFBIG, OSError),
    (errno.EROFS, OSError),
    (errno.ENOENT, FileNotFoundError),
]


@pytest.mark.parametrize(("number", "kind"), CODES)
def test_codes_become_exceptions(number: int, kind: type[BaseException]) -> None:
    error = errors.error_for(-number, "what and where")
    assert type(error) is kind
    assert "what and where" in str(error)
    if isinstance(error, OSError):
        assert error.errno == number
    assert str(errors.error_for(-number, ""))


def test_one_tree() -> None:
    tree = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, pyhac.Error)
    }
    assert all(getattr(pyhac, kind.__name__) is kind for kind in tree)
    assert len(tree) == 12
    assert pyhac.InDoubt("x", [3, 4]).epochs == (3, 4)


BAD_OPENINGS: list[tuple[dict[str, Any], type[BaseException], str]] = [
    ({"engine": "nonsense"}, ValueError, "nonsense"),
    ({"engine": ""}, ValueError, "engine"),
    ({"engine": "uffd\0"}, ValueError, "engine"),
    ({"engine": 5}, TypeError, "engine"),
    ({"level": "journal"}, TypeError, "level"),
    ({"level": 2}, TypeError, "level"),
    ({"flush_ms": -1}, ValueError, "flush_ms"),
    ({"flush_ms": 1.5}, TypeError, "flush_ms"),
    ({"flush_ms": 2**40}, ValueError, "flush_ms"),
    ({"at": -1}, ValueError, "at"),
    ({"at": "1"}, TypeError, "at"),
    ({"nonsense": 1}, TypeError, "nonsense"),
]


@pytest.mark.parametrize(("arguments", "kind", "message"), BAD_OPENINGS)
def test_bad_openings(
    image: Path, arguments: dict[str, Any], kind: type[BaseException], message: str
) -> None:
    with pytest.raises(kind, match=message):
        pyhac.open(image, **arguments)
    assert not image.exists()


@pytest.mark.parametrize(
    "arguments",
    [{"level": pyhac.Level.JOURNAL}, {"flush_ms": 5}, {"readonly": True}, {"at": 1}],
)
def test_what_needs_an_image(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))}.* needs an image"):
        pyhac.open(**arguments)


def test_bad_paths(tmp_path: Path) -> None:
    cases: list[tuple[Any, type[BaseException]]] = [
        ("", ValueError),
        ("a\0b", ValueError),
        (5, TypeError),
        (tmp_path / "missing" / "image", FileNotFoundError),
    ]
    for path, kind in cases:
        with pytest.raises(kind):
            pyhac.open(path)
    file = tmp_path / "file"
    file.write_text("no image")
    with pytest.raises((OSError, pyhac.Error)):
        pyhac.open(file)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear reader")
    with pytest.raises((OSError, pyhac.Error, ValueError)):
        pyhac.open(folder)
    assert [each.name for each in folder.iterdir()] == ["letter.txt"]


def test_an_unavailable_engine_says_why(run: Runner) -> None:
    result = run(
        """
import pyhac
try:
    pyhac.open(engine="uffd")
except pyhac.EngineUnavailable as failure:
    print(failure)
print([engine.name for engine in pyhac.engines() if not engine.available])
print(pyhac.open().engine.name != "uffd")
""",
        HAC_DISABLE="uffd",
    )
    lines = result.stdout.splitlines()
    assert "HAC_DISABLE" in lines[0]
    assert "uffd" in lines[1]
    assert lines[2] == "True"


def test_engines_have_reasons() -> None:
    engines = pyhac.engines()
    assert {"pt", "emul", "uffd", "ptxen", "emulxen", "scanxen", "compare"} <= {
        engine.name for engine in engines
    }
    assert all(engine.reason for engine in engines)


def test_the_choice_has_a_reason(opened: Opener, engine: str) -> None:
    ctx = opened(engine=engine)
    ctx.array("a", 4)
    choice = ctx.engine
    assert choice.name == engine
    assert choice.reason
    assert str(choice) == f"{choice.name}: {choice.reason}"


def test_transactions_are_made_by_contexts() -> None:
    with pytest.raises(TypeError):
        pyhac.Transaction()


def test_exported_names_are_documented() -> None:
    for name in pyhac.__all__:
        assert getattr(pyhac, name).__doc__, name
    for kind in (pyhac.Context, pyhac.Transaction, pyhac.Delta):
        for name, value in vars(kind).items():
            if not name.startswith("_"):
                assert value.__doc__, f"{kind.__name__}.{name}"


def test_the_c_description_has_all_of_the_header() -> None:
    package = Path(pyhac.__file__).resolve().parent
    sources = package.parent / "libhac" / "include"
    headers = [path for path in (sources / "hac.h", sources / "hac_helper.h") if path.exists()]
    description = package / "_cdef.h"
    if len(headers) < 2 or not description.exists():
        pytest.skip("the sources are not here")

    def calls(*paths: Path) -> set[str]:
        text = "".join(path.read_text() for path in paths)
        return set(re.findall(r"\b(hac_\w+)\(", re.sub(r"/\*.*?\*/", "", text, flags=re.S)))

    assert calls(*headers) == calls(description)

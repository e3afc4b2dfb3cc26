# SPDX-License-Identifier: MIT
"""The type strings that images keep: how an array's rows look, in exact text.

``<f8[:]`` is a vector, ``<i4[:,3]`` has rows of three, ``<i8[]`` is a single
number. Structured rows are written out with the offset of every field::

    {"names": ["id", "open"], "formats": ["<u4", "<i8"], "offsets": [0, 8], "itemsize": 16}[:]

The number of rows is not in it: it is the area's size, so that growing keeps
the type.
"""

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from operator import index
from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike

BYTES = "bytes"
"""The type string of areas that are not arrays."""

Shape = int | Iterable[int]


@dataclass(frozen=True, slots=True)
class Rows:
    """How the rows of an array look: a dtype, and the dimensions after the first.
    ``trailing`` None: no dimensions at all, a single item."""

    dtype: np.dtype[Any]
    trailing: tuple[int, ...] | None

    @property
    def nbytes(self) -> int:
        """Bytes of one row."""
        size = self.dtype.itemsize
        for dimension in self.trailing or ():
            size *= dimension
        return size

    def shape(self, nbytes: int) -> tuple[int, ...]:
        """The shape of an area of so many bytes."""
        if self.trailing is None:
            return ()
        return (nbytes // self.nbytes, *self.trailing)

    def __str__(self) -> str:
        if self.trailing is None:
            return f"{_dtype_text(self.dtype)}[]"
        return f"{_dtype_text(self.dtype)}[{','.join([':', *map(str, self.trailing)])}]"


def parse(text: str) -> Rows | None:
    """The rows that a type string stands for; None if it is not an array's."""
    base, bracket, dimensions = text.rpartition("[")
    if not bracket or not dimensions.endswith("]"):
        return None
    first, *rest = dimensions[:-1].split(",")
    try:
        dtype = np.dtype(_parsed_dtype(base))
        if first not in ("", ":"):
            return None
        return Rows(dtype, tuple(map(int, rest)) if first else None)
    except (ValueError, TypeError, SyntaxError):
        return None


def rows_of(dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[Rows, int]:
    """The rows of an array of this dtype and shape, and their number; sub-array
    dtypes become dimensions, as numpy makes them."""
    dimensions = (*shape, *dtype.shape)
    if not dimensions:
        return Rows(dtype, None), 1
    return Rows(dtype.base, dimensions[1:]), dimensions[0]


def checked_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """The dtype, if its values can live in an area.

    Raises:
        TypeError: it holds references to Python objects, or has no exact text.
    """
    found: np.dtype[Any] = np.dtype(dtype)
    culprit = _objects_in(found)
    if culprit is not None:
        where = f"field {culprit!r} of dtype {found}" if culprit else f"dtype {found}"
        raise TypeError(
            f"{where} refers to Python objects, which cannot outlive the process; "
            "use numbers, fixed-size bytes (S) or text (U)"
        )
    if found.itemsize == 0:
        raise ValueError(f"dtype {found} has no size; give one, as in 'S16' or 'U16'")
    if np.dtype(_parsed_dtype(_dtype_text(found.base))) != found.base:
        raise TypeError(f"dtype {found} cannot be written down exactly")
    return found


def checked_shape(shape: Shape, parameter: str = "shape") -> tuple[int, ...]:
    """The shape as a tuple of positive numbers; ValueError or TypeError."""
    dimensions: tuple[int, ...]
    try:
        dimensions = (index(cast(int, shape)),)
    except TypeError:
        if isinstance(shape, str) or not isinstance(shape, Iterable):
            raise TypeError(
                f"{parameter} must be a number of rows or a tuple, not {shape!r}"
            ) from None
        dimensions = tuple(index(dimension) for dimension in shape)
    if any(dimension <= 0 for dimension in dimensions):
        raise ValueError(f"{parameter} {shape!r}: every dimension must be at least 1")
    return dimensions


def checked_count(count: object, parameter: str) -> int:
    """A number of at least 1; ValueError or TypeError."""
    try:
        number = index(cast(int, count))
    except TypeError:
        raise TypeError(f"{parameter} must be a whole number, not {count!r}") from None
    if number < 1:
        raise ValueError(f"{parameter} must be at least 1, not {number}")
    return number


def _objects_in(dtype: np.dtype[Any], path: str = "") -> str | None:
    """The path of a field that holds objects ("" for the dtype itself), or None."""
    if not dtype.hasobject:
        return None
    base = dtype.base
    for name in base.names or ():
        culprit = _objects_in(_field(base, name)[0], f"{path}.{name}" if path else name)
        if culprit is not None:
            return culprit
    return path


def _field(dtype: np.dtype[Any], name: str) -> tuple[np.dtype[Any], int]:
    fields = dtype.fields
    assert fields is not None
    return fields[name][0], fields[name][1]


def _dtype_text(dtype: np.dtype[Any]) -> str:
    description = _description(dtype)
    return description if isinstance(description, str) else repr(description)


def _description(dtype: np.dtype[Any]) -> str | tuple[object, ...] | dict[str, object]:
    """What np.dtype() makes the same dtype of, offsets and padding included."""
    if dtype.shape:
        return (_description(dtype.base), dtype.shape)
    if dtype.names is None:
        return dtype.str
    fields = [_field(dtype, name) for name in dtype.names]
    return {
        "names": list(dtype.names),
        "formats": [_description(kind) for kind, _ in fields],
        "offsets": [offset for _, offset in fields],
        "itemsize": dtype.itemsize,
    }


def _parsed_dtype(text: str) -> Any:
    """What np.dtype() takes, of a text that _dtype_text() wrote."""
    return ast.literal_eval(text) if text.startswith(("{", "(")) else text

# SPDX-License-Identifier: MIT
"""Adopting the variables of loaded shared libraries.

Source: the ELF specification (System V gABI), and proc_pid_maps(5).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import NoteSection, SymbolTableSection

from . import _native
from .area import Areas, checked_name

Library = str | os.PathLike[str] | ctypes.CDLL | ModuleType | object
"""What :meth:`pyhac.Context.adopt_object` takes: a path, a ctypes.CDLL, an
extension module, or the library object of cffi."""

_PF_W = 2  # of a segment: writable


@dataclass(frozen=True, slots=True)
class _Range:
    """A variable or section: where it is in the object, before relocation."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class _Object:
    """What an object file says about itself and about what was asked for."""

    soname: str
    build_id: str
    first: int
    """The address of its first segment, rounded down to a page."""
    ranges: tuple[_Range, ...]


def adopt_object(
    areas: Areas, library: Library, section: str, symbols: Sequence[str] | None
) -> dict[str, memoryview]:
    """See :meth:`pyhac.Context.adopt_object`."""
    if isinstance(symbols, str):
        raise TypeError(f"symbols must be a list of names: [{symbols!r}]")
    if symbols is not None and not symbols:
        raise ValueError("symbols is empty: name at least one, or leave it out")
    path, base = _find_loaded(_path_of(library))
    found = _read_object(path, section, symbols)
    kept = ctypes.CDLL(path, mode=os.RTLD_NOLOAD | os.RTLD_NOW)  # it stays loaded
    fingerprint = _fingerprint(found)
    adopted: dict[str, memoryview] = {}
    try:
        for part in found.ranges:
            name = f"{found.soname}:{part.name}"
            address = base - found.first + part.offset
            areas.adopt_range(
                name, checked_name(name), address, part.size, kept, fingerprint=fingerprint
            )
            adopted[name] = _native.view_address(address, part.size)
    except BaseException:
        for name in adopted:
            areas.drop(name)
        raise
    return adopted


def _fingerprint(found: _Object) -> str:
    parts = [f"{part.name}@{part.offset:#x}+{part.size}" for part in found.ranges]
    return f"{found.soname} build-id {found.build_id or 'none'}: {', '.join(parts)}"


def _path_of(library: Library) -> str:
    """The path, or at least the file name, of a library."""
    if isinstance(library, (str, os.PathLike)):
        return os.fspath(library)
    if isinstance(library, ctypes.CDLL) and library._name:
        return library._name
    file = getattr(library, "__file__", None) or _native.library_file(library)
    if isinstance(file, str):
        return file
    raise TypeError(
        f"adopt_object needs a path, a ctypes.CDLL, a module or a cffi library, not {library!r}"
    )


def _mapped_files() -> Iterator[tuple[str, int]]:
    """Every file that is mapped from its first byte on, and the address."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps:
            fields = line.rstrip("\n").split(maxsplit=5)
            if len(fields) == 6 and fields[5].startswith("/") and int(fields[2], 16) == 0:
                yield fields[5], int(fields[0].partition("-")[0], 16)


def _find_loaded(library: str) -> tuple[str, int]:
    """The file that was loaded, and where its first byte is."""
    try:
        wanted = os.stat(library) if "/" in library else None
    except OSError:
        wanted = None
    for path, base in _mapped_files():
        if path == library or ("/" not in library and Path(path).name == library):
            return path, base
        if wanted is not None:
            try:
                there = os.stat(path)
            except OSError:
                continue
            if (there.st_dev, there.st_ino) == (wanted.st_dev, wanted.st_ino):
                return path, base
    raise ValueError(
        f"{library!r} is not loaded in this process: load it with ctypes.CDLL(path) first"
    )


def _read_object(path: str, section: str, symbols: Sequence[str] | None) -> _Object:
    with open(path, "rb") as file:
        try:
            elf = ELFFile(file)
            segments = [s for s in elf.iter_segments() if s["p_type"] == "PT_LOAD"]
            if not segments:
                raise ValueError(f"{path}: has no segments to load")
            page = os.sysconf("SC_PAGE_SIZE")
            if symbols is None:
                ranges = [_section_range(elf, path, section)]
            else:
                ranges = [_symbol_range(elf, path, name) for name in symbols]
            for part in ranges:
                _check_range(path, part, segments)
            return _Object(
                soname=_soname(elf) or Path(path).name,
                build_id=_build_id(elf),
                first=min(segment["p_vaddr"] for segment in segments) // page * page,
                ranges=tuple(ranges),
            )
        except ELFError as failure:
            raise ValueError(f"{path}: cannot be read as ELF: {failure}") from failure


def _section_range(elf: Any, path: str, section: str) -> _Range:
    header = elf.get_section_by_name(section)
    if header is not None:
        return _Range(section, header["sh_addr"], header["sh_size"])
    # Stripped of its section headers; the linker's symbols may still be there.
    start, stop = _symbol(elf, f"__start_{section}"), _symbol(elf, f"__stop_{section}")
    if start is None or stop is None:
        raise ValueError(
            f"{path}: has no section {section!r}; put variables there with "
            f'__attribute__((section("{section}"))), or name some with symbols='
        )
    return _Range(section, start["st_value"], stop["st_value"] - start["st_value"])


def _symbol_range(elf: Any, path: str, name: str) -> _Range:
    symbol = _symbol(elf, name)
    if symbol is None:
        raise ValueError(f"{path}: has no symbol {name!r}")
    if symbol["st_info"]["type"] != "STT_OBJECT":
        raise ValueError(f"{path}: {name!r} is not a variable but {symbol['st_info']['type']}")
    return _Range(name, symbol["st_value"], symbol["st_size"])


def _symbol(elf: Any, name: str) -> Any:
    for table in elf.iter_sections():
        if isinstance(table, SymbolTableSection):
            for symbol in table.get_symbol_by_name(name) or ():
                if symbol["st_shndx"] != "SHN_UNDEF":
                    return symbol
    return None


def _check_range(path: str, part: _Range, segments: Sequence[Any]) -> None:
    if part.size <= 0:
        raise ValueError(f"{path}: {part.name!r} is empty")
    for segment in segments:
        start, size = segment["p_vaddr"], segment["p_memsz"]
        if start <= part.offset and part.offset + part.size <= start + size:
            if segment["p_flags"] & _PF_W:
                return
            raise ValueError(f"{path}: {part.name!r} is read-only (is it const?)")
    raise ValueError(f"{path}: {part.name!r} is not loaded")


def _soname(elf: Any) -> str:
    for section in elf.iter_sections():
        if isinstance(section, DynamicSection):
            for tag in section.iter_tags("DT_SONAME"):
                return str(getattr(tag, "soname", ""))
    return ""


def _build_id(elf: Any) -> str:
    for section in elf.iter_sections():
        if isinstance(section, NoteSection):
            for note in section.iter_notes():
                if note["n_type"] == "NT_GNU_BUILD_ID":
                    return str(note["n_desc"])
    return ""

# SPDX-License-Identifier: MIT
"""A program with a replicated context, told what to do line by line on stdin.

``real_context.py IMAGE ROLE ARGUMENT...``. Its area holds N in every word after the
transaction that says N; so whatever is restored is one number all over.

write COUNT   transactions, one number each; answer: the epoch of the last
safe BACKUPS  wait until so many backups have it (0: the journal); answer: epoch, or error
advance, promote, wait, close, compact; answer: ok EPOCH VALUE, or error NUMBER TEXT
"""

import os
import sys
from typing import Any

from pyhac import _native

ffi: Any = _native._ffi
lib: Any = _native._lib
WORDS = 1 << 16
ROLES = {"auto": 0, "primary": 1, "standby": 2}


def options(role: str, arguments: list[str]) -> tuple[Any, list[Any]]:
    """struct hac_options, and what has to live as long as it is used."""
    command = [sys.executable, "-m", "pyhac.replication"]
    kept: list[Any] = []

    def strings(words: list[str]) -> Any:
        texts = [ffi.new("char[]", word.encode()) for word in words]
        kept.extend(texts)
        kept.append(ffi.new("char *[]", [*texts, ffi.NULL]))
        return kept[-1]

    replication = _native._new("hac_replication")
    replication.role = ROLES[role]
    replication.command = ffi.cast("const char *const *", strings(command))
    replication.arguments = ffi.cast("const char *const *", strings(arguments))
    made = _native._new("hac_options")
    made.replication = replication
    engine = ffi.new("char[]", b"compare")
    made.engine = engine
    return made, [*kept, replication, engine]


class Failure(Exception):
    pass


def check(code: int) -> int:
    if code < 0:
        detail = ffi.string(lib.hac_error_detail()).decode()
        raise Failure(f"error {-code} {' '.join(detail.split())}")
    return code


class Program:
    def __init__(self, image: str, role: str, arguments: list[str]) -> None:
        made, _kept = options(role, arguments)
        out = ffi.new("hac **")
        check(lib.hac_open(os.fsencode(image), made, out))
        self.h = out[0]
        address = ffi.new("void **")
        area = _native._new("hac_area_options")
        check(lib.hac_map(self.h, b"words", WORDS * 8, area, address))
        self.words = ffi.cast("uint64_t *", address[0])
        self.epoch = ffi.new("uint64_t *")

    def value(self) -> int:
        first = int(self.words[0])
        for at in range(0, WORDS, 511):
            if self.words[at] != first:
                raise Failure(f"error 0 torn: {first} and {self.words[at]} at {at}")
        return first

    def write(self, count: int) -> None:
        for _ in range(count):
            check(lib.hac_begin(self.h))
            value = self.words[0] + 1
            for at in range(0, WORDS, 511):
                self.words[at] = value
            code = lib.hac_end(self.h, ffi.NULL, self.epoch)
            if code < 0:
                try:
                    check(code)
                finally:
                    lib.hac_abort(self.h)

    def info(self) -> Any:
        info = _native._new("hac_info")
        check(lib.hac_get_info(self.h, info))
        return info

    def say(self, line: str) -> str:
        verb, *rest = line.split()
        match verb:
            case "write":
                self.write(int(rest[0]))
            case "safe":
                count = int(rest[0])
                kind = 3 if count else 2
                check(lib.pyhac_wait(self.h, self.info().epoch, kind, count, 15000))
            case "advance":
                check(lib.hac_advance(self.h, self.epoch))
            case "promote":
                check(lib.hac_promote(self.h))
                check(lib.hac_wait_primary(self.h, 15000))
            case "wait":
                check(lib.hac_wait_primary(self.h, int(rest[0])))
            case "compact":
                check(lib.hac_compact(self.h))
            case "close":
                check(lib.hac_close(self.h))
                return "ok"
        info = self.info()
        return f"ok {info.epoch} {self.value()} {info.helper} {info.role} {info.generation}"


def main() -> None:
    try:
        program = Program(sys.argv[1], sys.argv[2], sys.argv[3:])
        print("ok", flush=True)
        for line in sys.stdin:
            try:
                print(program.say(line), flush=True)
            except Failure as failure:
                print(failure, flush=True)
    except Failure as failure:
        print(failure, flush=True)


if __name__ == "__main__":
    main()

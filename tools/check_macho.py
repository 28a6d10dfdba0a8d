"""Gate of `make build-macos`: what was built is for macOS on ARM, has the NEON path, and lies on
16 KiB pages.

Layouts and numbers: Apple's <mach-o/loader.h>, <mach-o/nlist.h> and <ar.h>.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAGIC_64, CPU_ARM64 = 0xFEEDFACF, 0x0100000C
LC_SYMTAB, LC_SEGMENT_64, LC_BUILD_VERSION, PLATFORM_MACOS = 0x2, 0x19, 0x32, 1
PAGE = 16 * 1024
UNDEFINED = 0  # N_TYPE of a symbol that is defined elsewhere
SYMBOLS = ("__ZN3h2q8ops_neonEv", "__ZN3h2q13ops_neon_i8mmEv", "__ZN3h2q12ops_portableEv")
LIBRARY = "libh2q_core.a"


@dataclass(frozen=True)
class MachO:
    """What the gate asks of one Mach-O file."""

    symbols: frozenset[str]  # defined here
    segments: tuple[int, ...]  # addresses of what is mapped
    platform: int


def parse(data: bytes) -> MachO:
    """Raises ValueError when it is not a 64-bit ARM Mach-O."""
    magic, cpu, _, _, commands = struct.unpack_from("<5I", data)
    if (magic, cpu) != (MAGIC_64, CPU_ARM64):
        raise ValueError("is not a Mach-O file for 64-bit ARM")
    symbols: set[str] = set()
    segments, platform, at = [], 0, 32
    for _ in range(commands):
        kind, size = struct.unpack_from("<2I", data, at)
        if kind == LC_SEGMENT_64:
            address, length = struct.unpack_from("<2Q", data, at + 24)
            segments += [address] if length else []
        elif kind == LC_BUILD_VERSION:
            platform = struct.unpack_from("<I", data, at + 8)[0]
        elif kind == LC_SYMTAB:
            table, count, strings = struct.unpack_from("<3I", data, at + 8)
            for i in range(count):
                name, form = struct.unpack_from("<IB", data, table + 16 * i)
                if form & 0x0E != UNDEFINED:
                    begin = strings + name
                    symbols.add(data[begin : data.index(b"\0", begin)].decode())
        at += size
    return MachO(frozenset(symbols), tuple(segments), platform)


def members(archive: bytes) -> Iterator[bytes]:
    """The object files of a static library. Raises ValueError when it is not one."""
    if not archive.startswith(b"!<arch>\n"):
        raise ValueError("is not a static library")
    at = 8
    while at + 60 <= len(archive):
        name, size = archive[at : at + 16], int(archive[at + 48 : at + 58])
        body = archive[at + 60 : at + 60 + size]
        if name.startswith(b"#1/"):  # the name stands before the body
            length = int(name[3:])
            name, body = body[:length], body[length:]
        if body.startswith(struct.pack("<I", MAGIC_64)):
            yield body
        elif not name.startswith((b"/", b"__.SYMDEF")):
            raise ValueError(f"holds {name.decode(errors='replace').strip()}, which is not Mach-O")
        at += 60 + size + size % 2


def programs(folder: Path) -> list[str]:
    """The test programs. Raises ValueError when there is none."""
    names = sorted(path.name for path in folder.glob("test_*") if path.is_file())
    if not names:
        raise ValueError("holds no test programs")
    return names


def examine(folder: Path) -> list[str]:
    """One sentence per fault."""
    objects = [parse(member) for member in members((folder / LIBRARY).read_bytes())]
    defined = frozenset[str]().union(*(found.symbols for found in objects))
    faults = [f"{LIBRARY} lacks {symbol}." for symbol in SYMBOLS if symbol not in defined]
    for name in programs(folder):
        found = parse((folder / name).read_bytes())
        faults += [f"{name} lacks {symbol}." for symbol in SYMBOLS if symbol not in found.symbols]
        if found.platform != PLATFORM_MACOS:
            faults.append(f"{name} is for platform {found.platform}, not for macOS.")
        if any(address % PAGE for address in found.segments):
            faults.append(f"{name} has segments that do not begin on a page of {PAGE} bytes.")
    return faults


def main() -> int:
    folder = Path(sys.argv[1])
    try:
        faults = examine(folder)
    except (OSError, ValueError, struct.error) as error:
        faults = [f"{folder}: {error}"]
    if faults:
        print("\n".join(faults))
        return 1
    built = ", ".join([LIBRARY, *programs(folder)])
    print(f"{built}: macOS on ARM, path neon inside, 16 KiB pages.")
    return 0


if __name__ == "__main__":
    sys.exit(main())

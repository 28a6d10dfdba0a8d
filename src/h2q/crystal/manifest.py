"""crystal.json: the one file that says what the others are. Small, because it counts as part of the
crystal's size.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from h2q.core.architecture import coded
from h2q.core.errors import CrystalError, SpecError
from h2q.core.files import read_bounded
from h2q.core.safetensors_header import parse_json
from h2q.core.specs import ModelSpec

FORMAT = "h2q-crystal"
VERSION = 1
NAME = "crystal.json"
MAX_BYTES = 16 << 20
MAX_PLANES = 8
_SHARD = re.compile(r"base\.safetensors|refine-\d{2,4}\.safetensors")
_HASH = re.compile(r"[0-9a-f]{64}")
_KEYS = {"format", "version", "model", "rotation_seed", "bits", "groups", "files"}


@dataclass(frozen=True)
class FileEntry:
    """A shard: plain file name, bytes, sha256 in hex."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """`bits`: per coded part (core.architecture.coded), in its order, the bits of its planes, base
    first. `groups`: per refinement shard the (part name, plane index) it holds. `files`:
    base.safetensors, then one shard per group.
    """

    spec: ModelSpec
    rotation_seed: int
    bits: dict[str, tuple[int, ...]]
    groups: tuple[tuple[tuple[str, int], ...], ...]
    files: tuple[FileEntry, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.rotation_seed < 1 << 31:
            raise CrystalError("The rotation seed is out of range.", where=NAME)
        if set(self.bits) != {part.name for part in coded(self.spec)}:
            raise CrystalError("The planes do not match the model's tensors.", where=NAME)
        for planes in self.bits.values():
            if not 1 <= len(planes) <= MAX_PLANES or not set(planes) <= {1, 2}:
                raise CrystalError("A tensor has an impossible stack of planes.", where=NAME)
        height = dict.fromkeys(self.bits, 1)
        for group in self.groups:
            for name, plane in group:
                if height.get(name) != plane:
                    raise CrystalError("A plane comes before what it refines.", where=NAME)
                height[name] += 1
        if any(height[name] != len(planes) for name, planes in self.bits.items()):
            raise CrystalError("A plane belongs to no group.", where=NAME)
        expected = [shard_name(index) for index in range(1 + len(self.groups))]
        if [file.name for file in self.files] != expected:
            raise CrystalError("The list of shards does not match the groups.", where=NAME)

    def to_bytes(self) -> bytes:
        """The file's content."""
        order = {part.name: index for index, part in enumerate(coded(self.spec))}
        document = {
            "format": FORMAT,
            "version": VERSION,
            "model": self.spec.to_json(),
            "rotation_seed": self.rotation_seed,
            "bits": [list(self.bits[name]) for name in order],
            "groups": [[[order[name], plane] for name, plane in group] for group in self.groups],
            "files": [[file.name, file.bytes, file.sha256] for file in self.files],
        }
        return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def shard_name(index: int) -> str:
    """Name of shard `index`: 0 is the base, 1 the first refinement group."""
    return "base.safetensors" if index == 0 else f"refine-{index:02d}.safetensors"


def read_manifest(folder: Path) -> Manifest:
    """Parse crystal.json of a folder. Raises CrystalError."""
    if not (folder / NAME).exists():
        raise CrystalError(
            "There is no crystal here.",
            where=folder.name,
            fix="A crystal is a folder with crystal.json.",
        )
    return parse_manifest(read_bounded(folder / NAME, MAX_BYTES, CrystalError), folder.name)


def parse_manifest(text: bytes, where: str) -> Manifest:
    """What the text of a crystal.json says; messages call its folder `where`. Raises
    CrystalError.
    """
    document = parse_json(text, NAME, CrystalError)
    if document.get("format") != FORMAT:
        raise CrystalError("The file does not describe a crystal.", where=NAME)
    version = document.get("version")
    if isinstance(version, bool) or not isinstance(version, int) or version != VERSION:
        raise CrystalError(
            f"The crystal has format version {brief(version)}, this program reads {VERSION}.",
            where=where,
            fix="Update h2q, or grow the crystal again.",
        )
    if set(document) != _KEYS or not isinstance(document["model"], dict):
        raise CrystalError("The file has missing or unknown fields.", where=NAME)
    try:
        spec = ModelSpec.from_json(document["model"])
        names = [part.name for part in coded(spec)]
        bits = _list(document["bits"])
        if len(bits) != len(names):
            raise CrystalError("The planes do not match the model's tensors.", where=NAME)
        return Manifest(
            spec=spec,
            rotation_seed=_count(document["rotation_seed"]),
            bits={n: tuple(map(_count, _list(b))) for n, b in zip(names, bits, strict=True)},
            groups=tuple(
                tuple(
                    (names[_count(t, len(names))], _count(p)) for t, p in map(_list, _list(group))
                )
                for group in _list(document["groups"])
            ),
            files=tuple(_file(row) for row in _list(document["files"])),
        )
    except (SpecError, ValueError, TypeError) as error:
        raise CrystalError(
            f"The description is damaged: {error}",
            where=NAME,
            fix="Copy or grow the crystal again.",
        ) from error


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("a list was expected")
    return value


def _count(value: Any, limit: int = 1 << 48) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < limit:
        raise ValueError("a whole number is out of range")
    return value


def _file(row: Any) -> FileEntry:
    name, size, digest = _list(row)
    if not isinstance(name, str) or not _SHARD.fullmatch(name):
        raise ValueError("a shard has an impossible name")
    if not isinstance(digest, str) or not _HASH.fullmatch(digest):
        raise ValueError("a checksum is malformed")
    return FileEntry(name, _count(size), digest)

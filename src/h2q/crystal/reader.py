"""Opening a crystal: the description, then shards mapped into memory. Nothing is copied and, once
proven, nothing hashed.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from h2q.codec.layout import PanelLayout
from h2q.codec.planes import Plane
from h2q.core.architecture import coded, tensors
from h2q.core.disk import file_hash
from h2q.core.errors import CrystalError
from h2q.core.safetensors_header import TensorEntry, read_header
from h2q.core.specs import ModelSpec, PlaneSpec
from h2q.crystal.manifest import NAME, FileEntry, Manifest, read_manifest, shard_name
from h2q.crystal.mapped import Stretch, stretches
from h2q.crystal.shards import FLOATS
from h2q.crystal.stamp import stamped, states, write_stamp
from h2q.crystal.template import read_template

NOT_FINITE = "The tensor holds a value that is not finite."
BF16_EXPONENT = np.uint16(0x7F80)  # all ones: infinity or NaN
DAMAGED = "Copy the crystal again, or grow it again from its source."


class Crystal:
    """An opened crystal. Arrays are views of mapped files; they stay valid as long as the Crystal
    or an array lives.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path, self.manifest = path, manifest
        self.tokenizer_path = path / "tokenizer.json"
        self._shapes = {part.name: part.shape for part in coded(manifest.spec)}
        self._raw = {t.name: t.shape for t in tensors(manifest.spec) if not t.coded}
        self._maps: dict[str, tuple[npt.NDArray[np.uint8], dict[str, TensorEntry]]] = {}
        self.unproven: set[int] = set()
        self._states: dict[str, list[int]] = {}
        self._group_of = {
            plane: index for index, group in enumerate(manifest.groups, 1) for plane in group
        }

    @property
    def spec(self) -> ModelSpec:
        return self.manifest.spec

    @property
    def rotation_seed(self) -> int:
        return self.manifest.rotation_seed

    @property
    def rank(self) -> tuple[tuple[tuple[str, int], ...], ...]:
        """Refinement groups, best first: each a list of (tensor name, plane index)."""
        return self.manifest.groups

    def planes(self, name: str, groups: int | None = None) -> list[Plane]:
        """The planes of a coded part in the base and the first `groups` refinement groups (None:
        all). Raises CrystalError when one is missing or a row scale is not finite.
        """
        limit = len(self.rank) if groups is None else groups
        rows, cols = self._shapes[name]
        out = []
        for index, bits in enumerate(self.manifest.bits[name]):
            shard = self._group_of.get((name, index), 0)
            if shard > limit:
                break
            spec = PlaneSpec(bits, rows, cols)
            layout = PanelLayout.of(spec)
            codes = self._array(shard, f"{name}.codes.{index}", "U8", layout.code_shape)
            scales = self._scales(shard, f"{name}.scales.{index}", layout.scale_count)
            out.append(Plane(spec, codes, scales))
        return out

    def held(self, name: str, groups: int | None = None) -> list[tuple[str, int]]:
        """(name, index) of the planes that `planes` would give; nothing is read."""
        limit = len(self.rank) if groups is None else groups
        stack = [(name, index) for index in range(len(self.manifest.bits[name]))]
        return [plane for plane in stack if self._group_of.get(plane, 0) <= limit]

    def pages(self, planes: Iterable[tuple[str, int]]) -> list[Stretch]:
        """The pages where planes (name, index) lie; nothing is read but headers. Raises
        CrystalError when one is missing.
        """
        spans: dict[int, list[tuple[int, int]]] = {}
        for name, index in planes:
            shard = self._group_of.get((name, index), 0)
            _, entries = self._mapped(shard)
            for part in ("codes", "scales"):
                entry = entries.get(f"{name}.{part}.{index}")
                if entry is None:
                    raise CrystalError(
                        f"A plane of {name} is missing.", where=shard_name(shard), fix=DAMAGED
                    )
                spans.setdefault(shard, []).append((entry.begin, entry.end))
        found = []
        for shard in sorted(spans):
            data, _ = self._mapped(shard)
            found += stretches(self.path / shard_name(shard), data, spans[shard])
        return found

    def raw(self, name: str) -> npt.NDArray[np.float32]:
        """A norm or what else is stored as it is, float32. Raises CrystalError when it is not
        finite.
        """
        count = math.prod(self._raw[name])
        padded = -(-count // FLOATS) * FLOATS
        values: npt.NDArray[np.float32] = self._array(0, name, "F32", (padded,)).view(np.float32)
        if not np.isfinite(values).all():
            raise CrystalError(NOT_FINITE, where=name, fix=DAMAGED)
        return values[:count].reshape(self._raw[name])

    def entries(self, shard: int) -> dict[str, TensorEntry]:
        """The header of a shard. Raises CrystalError when it is damaged."""
        return self._mapped(shard)[1]

    def chat_template(self) -> str | None:
        """The Jinja template of a conversation, where the crystal has one. Raises CrystalError."""
        return read_template(self.path)

    def mapped(self, shard: int) -> npt.NDArray[np.uint8]:
        """The whole file of a shard, mapped and not read: uint8 (bytes,). Raises CrystalError."""
        return self._mapped(shard)[0]

    def require(self, shard: int) -> None:
        """Raises CrystalError where a tensor of a shard is missing or has another form than
        crystal.json says; reads nothing but the header.
        """
        group = [(name, 0) for name in self.manifest.bits] if shard == 0 else self.rank[shard - 1]
        for name, index in group:
            layout = PanelLayout.of(PlaneSpec(self.manifest.bits[name][index], *self._shapes[name]))
            self._place(shard, f"{name}.codes.{index}", "U8", layout.code_shape)
            self._place(shard, f"{name}.scales.{index}", "BF16", (layout.scale_count,))
        for name, shape in self._raw.items() if shard == 0 else ():
            self._place(0, name, "F32", (-(-math.prod(shape) // FLOATS) * FLOATS,))

    def begin_proving(self, states: dict[str, list[int]]) -> None:
        """No shard is proven; `states` are those that the proof will hold for (crystal.stamp)."""
        self.unproven, self._states = set(range(1 + len(self.rank))), states

    def prove(self, shard: int, digest: str) -> None:
        """Compare the sha256 of a shard, hex, with what crystal.json says; a stamp is left when all
        are proven. Raises CrystalError.
        """
        entry = self.manifest.files[shard]
        if digest != entry.sha256:
            raise CrystalError("The checksum is wrong.", where=entry.name, fix=DAMAGED)
        self.unproven.discard(shard)
        if not self.unproven:
            write_stamp(self.path, self._states)

    def prove_first(self, count: int) -> None:
        """Read the first `count` shards and prove those that are not proven. Raises
        CrystalError.
        """
        for shard in sorted(self.unproven & set(range(count))):
            self.prove(shard, file_hash(self.path / shard_name(shard)))

    def forget(self, shard: int) -> None:
        """Keep a shard no longer; its map ends with the last array of it."""
        self._maps.pop(shard_name(shard), None)

    def _array(
        self, shard: int, name: str, dtype: str, shape: tuple[int, ...]
    ) -> npt.NDArray[np.uint8]:
        entry = self._place(shard, name, dtype, shape)
        part = self.mapped(shard)[entry.begin : entry.end]
        return part.reshape(shape) if dtype == "U8" else part

    def _place(self, shard: int, name: str, dtype: str, shape: tuple[int, ...]) -> TensorEntry:
        entry = self.entries(shard).get(name)
        if entry is None or entry.dtype != dtype or entry.shape != shape or entry.begin % 64:
            raise CrystalError(
                f"{name} is missing or has not the form crystal.json asks for.",
                where=shard_name(shard),
                fix=DAMAGED,
            )
        return entry

    def _scales(self, shard: int, name: str, count: int) -> npt.NDArray[np.uint16]:
        scales: npt.NDArray[np.uint16] = self._array(shard, name, "BF16", (count,)).view(np.uint16)
        require_finite(scales, name)
        return scales

    def _mapped(self, shard: int) -> tuple[npt.NDArray[np.uint8], dict[str, TensorEntry]]:
        name = shard_name(shard)
        if name not in self._maps:
            path = self.path / name
            entries = read_header(path, CrystalError)
            with path.open("rb") as file:
                memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._maps[name] = np.frombuffer(memory, np.uint8), entries
        return self._maps[name]


def require_finite(scales: npt.NDArray[np.uint16], name: str) -> None:
    """Raises CrystalError where one of the scales of a tensor, bfloat16 bits, is not finite."""
    if (scales & BF16_EXPONENT == BF16_EXPONENT).any():
        raise CrystalError(NOT_FINITE, where=name, fix=DAMAGED)


def open_crystal(path: Path, later: bool = False) -> Crystal:
    """Open a crystal folder. Sizes are always checked; checksums when the files changed since they
    were last proven, with `later` only that of the base: who brings in another shard calls `prove`.

    Raises CrystalError.
    """
    manifest = read_manifest(path)
    files = [path / file.name for file in manifest.files]
    for entry, file in zip(manifest.files, files, strict=True):
        _require_size(entry, file)
    crystal = Crystal(path, manifest)
    if not stamped(path, files):
        crystal.begin_proving(states(files))
        crystal.prove_first(1 if later else len(files))
    return crystal


def _require_size(entry: FileEntry, file: Path) -> None:
    if not file.is_file():
        raise CrystalError("A shard is missing.", where=entry.name, fix=DAMAGED)
    if (size := file.stat().st_size) != entry.bytes:
        raise CrystalError(
            f"The shard is {size:,} bytes long, not {entry.bytes:,}.", where=entry.name, fix=DAMAGED
        )


def crystal_bytes(crystal: Crystal, groups: int | None = None) -> int:
    """Bytes of crystal.json, the base and the first `groups` refinement shards (None: all)."""
    count = len(crystal.rank) if groups is None else groups
    shards = sum(file.bytes for file in crystal.manifest.files[: 1 + count])
    return (crystal.path / NAME).stat().st_size + shards

"""Writing a crystal: into a temporary sibling, hashed, fsynced, renamed. A reader never sees half
of one.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from h2q.codec.planes import Plane
from h2q.core.architecture import parts, tensors
from h2q.core.disk import make_folder, sync, writing
from h2q.core.errors import UsageError
from h2q.core.specs import ModelSpec
from h2q.crystal.exchange import exchange
from h2q.crystal.manifest import NAME, FileEntry, Manifest, shard_name
from h2q.crystal.shards import NamedArray, padded_floats, plane_arrays, write_shard
from h2q.crystal.stamp import states, write_stamp
from h2q.crystal.template import NAME as TEMPLATE
from h2q.crystal.template import template_bytes

SUFFIX = ".growing"


def require_place(target: Path, overwrite: bool) -> None:
    """Raises UsageError when a crystal may not be put at `target`, ResourceError when the system
    refuses to look.
    """
    target = Path(os.path.realpath(target))
    if not target.name:
        raise UsageError("A crystal cannot take the place of the root of a file system.")
    with writing("crystal", target.name):
        there, crystal = target.exists(), (target / NAME).is_file()
    if there and not overwrite:
        raise UsageError(
            "There is already something at the target.",
            where=target.name,
            fix="Choose another name, or replace it with --overwrite.",
        )
    if there and not crystal:
        raise UsageError("The target is not a crystal; it is not replaced.", where=target.name)


class CrystalWriter:
    """Use as a context manager; without `commit` nothing is left behind.

    Raises UsageError when the target exists and may not be replaced, ResourceError when the disk is
    full or refuses.
    """

    def __init__(
        self, target: Path, spec: ModelSpec, rotation_seed: int, overwrite: bool = False
    ) -> None:
        self.target, self.overwrite = Path(os.path.realpath(target)), overwrite
        self._spec, self._seed = spec, rotation_seed
        self._raw: dict[str, npt.NDArray[np.float32]] = {}
        self._planes: dict[str, list[Plane]] = {}
        self._groups: list[list[tuple[str, int]]] = []
        self._tokenizer: str | None = None
        self._template: bytes | None = None
        self._certificate: dict[str, Any] | None = None
        self._folder = self.target.parent / f".{self.target.name}.{os.getpid()}{SUFFIX}"

    def __enter__(self) -> CrystalWriter:
        require_place(self.target, self.overwrite)
        with self._writing():
            make_folder(self.target.parent)
            self._sweep()
            self._folder.mkdir()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def add_raw(self, name: str, values: npt.NDArray[np.float32]) -> None:
        """What is stored as it is (norms, biases, routers), float32."""
        self._raw[name] = np.ascontiguousarray(values, np.float32)

    def add_planes(self, name: str, planes: list[Plane]) -> None:
        """The stack of a coded part, base first. Arrays may be views of mapped files; they are not
        copied, and read when the shards are written.
        """
        self._planes[name] = planes

    def rank(self, groups: list[list[tuple[str, int]]]) -> None:
        """Refinement planes (tensor name, plane index) by shard, best quality per byte first."""
        self._groups = groups

    def tokenizer(self, text: str) -> None:
        """The content of tokenizer.json."""
        self._tokenizer = text

    def chat_template(self, text: str | None) -> None:
        """The content of chat_template.jinja; None: there is none. Raises CrystalError when it is
        too large or cannot be UTF-8.
        """
        self._template = None if text is None else template_bytes(text)

    def certificate(self, document: dict[str, Any]) -> None:
        """What was measured, for certificate.json."""
        self._certificate = document

    def stage(self) -> Path:
        """Write shards, tokenizer and crystal.json; the folder can then be opened and measured."""
        with self._writing():
            hashes = [write_shard(self._folder / shard_name(0), self._base())]
            for index, group in enumerate(self._groups, 1):
                arrays = [
                    array
                    for name, plane in group
                    for array in plane_arrays(name, plane, self._planes[name][plane])
                ]
                hashes.append(write_shard(self._folder / shard_name(index), arrays))
            if self._tokenizer is not None:
                (self._folder / "tokenizer.json").write_bytes(self._tokenizer.encode("utf-8"))
            if self._template is not None:
                (self._folder / TEMPLATE).write_bytes(self._template)
            files = [self._folder / shard_name(index) for index in range(len(hashes))]
            manifest = Manifest(
                spec=self._spec,
                rotation_seed=self._seed,
                bits={n: tuple(p.spec.bits for p in stack) for n, stack in self._planes.items()},
                groups=tuple(tuple(group) for group in self._groups),
                files=tuple(
                    FileEntry(file.name, file.stat().st_size, digest)
                    for file, digest in zip(files, hashes, strict=True)
                ),
            )
            (self._folder / NAME).write_bytes(manifest.to_bytes())
            write_stamp(self._folder, states(files))
        return self._folder

    def commit(self) -> None:
        """Make everything durable and put it at the target in one step."""
        with self._writing():
            if not (self._folder / NAME).exists():
                self.stage()
            if self._certificate is not None:
                text = json.dumps(self._certificate, indent=1) + "\n"
                (self._folder / "certificate.json").write_text(text, encoding="utf-8")
            for file in sorted(self._folder.iterdir()):
                sync(file)
            sync(self._folder)
            self._install()
            sync(self.target.parent)

    def _install(self) -> None:
        """The new folder takes the target's place. Where two folders cannot change places at once,
        the old one steps aside first, and `_sweep` of the next writer mends a cut between.
        """
        if self.target.exists() and exchange(self._folder, self.target):
            return  # what is now in our folder is the old crystal; __exit__ removes it
        old = self.target.with_name(f".{self.target.name}.{os.getpid()}.old{SUFFIX}")
        if self.target.exists():
            self.target.rename(old)
        try:
            self._folder.rename(self.target)
        except OSError:
            if old.exists():
                old.rename(self.target)
            raise
        shutil.rmtree(old, ignore_errors=True)

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        return writing("crystal", self.target.name, "nothing was left behind")

    def _base(self) -> Iterator[NamedArray]:
        for tensor in tensors(self._spec):
            if not tensor.coded:
                yield tensor.name, padded_floats(self._raw[tensor.name])
                continue
            for part in parts(tensor):
                yield from plane_arrays(part.name, 0, self._planes[part.name][0])

    def _sweep(self) -> None:
        """Remove what processes that are gone left behind; put back a crystal whose exchange was
        cut short.
        """
        import psutil  # thirty milliseconds that no start should pay

        for left in self.target.parent.glob(f".{self.target.name}.*{SUFFIX}"):
            owner = left.name[len(self.target.name) + 2 :].split(".")[0]
            if not owner.isdecimal() or psutil.pid_exists(int(owner)):
                continue
            if left.name.endswith(f".old{SUFFIX}") and not self.target.exists():
                left.rename(self.target)
            else:
                shutil.rmtree(left, ignore_errors=True)

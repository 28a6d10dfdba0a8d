"""The store of installed models: names, the crystals behind them, and the blobs those share
(docs/store.md).

What is written refers only to what is already whole on the disk: blobs first, then the crystal's
folder, last the name. So after a cut there may be too much in a store, never too little.
"""

from __future__ import annotations

import contextlib
import shutil
import time
import uuid
from pathlib import Path

from h2q.core.disk import listing, replacement, sync, writing
from h2q.core.errors import CrystalError, MissingModelError, SourceError
from h2q.core.model_name import OllamaName
from h2q.core.settings import home
from h2q.crystal import manifest as crystals
from h2q.crystal.manifest import read_manifest
from h2q.crystal.stamp import NAME as STAMP
from h2q.crystal.stamp import states, write_stamp
from h2q.crystal.store_blobs import Blobs, link
from h2q.crystal.store_lock import StoreLock
from h2q.crystal.store_names import (
    Details,
    Named,
    OtherVersionError,
    StoredFile,
    StoredModel,
    facts,
    read_name,
    store_name,
)
from h2q.crystal.template import NAME as TEMPLATE

BESIDES = ("tokenizer.json", "certificate.json", TEMPLATE)
SUFFIX = ".naming"


class Store:
    """Installed models under a folder, H2Q_HOME unless another is given. Safe for any number of
    processes and threads. Raises ResourceError when the disk is full or refuses.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = (home() if root is None else root).absolute()
        self.blobs = Blobs(self.root)
        self.lock = StoreLock(self.root / "lock")
        self._names, self._crystals = self.root / "names", self.root / "crystals"

    def models(self) -> list[StoredModel]:
        """All that are whole, the newest first; names that are not are set aside."""
        found = []
        for path in self._paths():
            with contextlib.suppress(CrystalError, MissingModelError):
                found.append(self._read(path))
        return sorted(found, key=lambda model: (-model.modified, str(model.name)))

    def find(self, text: Named) -> StoredModel:
        """The model of this name, whatever the case. Raises MissingModelError, UsageError for what
        is no name, CrystalError when it is damaged.
        """
        name = store_name(text)
        path = self.place(name)
        if path is None:
            raise MissingModelError(
                f"There is no model {name}.",
                where=str(self.root),
                fix=f"See `h2q ls`, or fetch it with `h2q pull {name}`.",
            )
        return self._read(path)

    def folder(self, model: StoredModel) -> Path:
        """The crystal of a model as a folder, mended if something in it is not what it should
        be. Raises CrystalError when it cannot be.
        """
        folder = self._crystals / model.fingerprint
        if not self._linked(folder, model):
            with self.lock.shared():
                self._require_whole(model)
                self._link(folder, model)
        return folder

    def install(
        self, crystal: Path, name: Named, details: Details, move: bool = False, collect: bool = True
    ) -> StoredModel:
        """Makes a crystal's folder a model, every checksum proven. move: its files are the store's
        to keep. collect: what the name meant goes. Raises CrystalError, UsageError.
        """
        with self.lock.shared():
            model = self.prepare(crystal, name, details, move)
            replaced = self.give_name(model)
        if replaced and collect:
            self.collect()
        return model

    def prepare(
        self, crystal: Path, name: Named, details: Details, move: bool = False
    ) -> StoredModel:
        """All of `install` but the name: `give_name` comes last. What has no name yet stays while
        `lock` is shared.
        """
        wanted = store_name(name)
        stated = read_manifest(crystal)
        shards = {entry.name: entry.sha256 for entry in stated.files}
        there = [file for file in BESIDES if (crystal / file).is_file()]
        with self.lock.shared():
            files = []
            for file in (crystals.NAME, *shards, *there):
                path = crystal / file
                if not path.is_file():
                    raise CrystalError("A file of the crystal is missing.", where=file)
                files.append(StoredFile(file, *self.blobs.add(path, shards.get(file), move)))
            model = StoredModel(wanted, tuple(files), facts(stated), details, time.time())
            self._link(self._crystals / model.fingerprint, model)
        return model

    def rename(
        self, model: StoredModel, name: Named, details: Details, collect: bool = True
    ) -> StoredModel:
        """The crystal of an installed model under a further name, with other details."""
        with self.lock.shared():
            self._require_whole(model)
            made = StoredModel(store_name(name), model.files, model.facts, details, time.time())
            self._link(self._crystals / made.fingerprint, made)
            replaced = self.give_name(made)
        if replaced and collect:
            self.collect()
        return made

    def copy(self, source: str, destination: str) -> None:
        """A second name for a model; nothing but the name is written. Raises MissingModelError."""
        target, model = store_name(destination), self.find(source)
        self.rename(model, target, model.details)

    def delete(self, text: Named) -> int:
        """Removes a name, then what no other name needs; bytes freed. Where an installation is
        under way, that waits for the next time. Raises MissingModelError.
        """
        path = self.place(store_name(text))
        if path is None:
            raise MissingModelError(f"There is no model {text}.", fix="See `h2q ls`.")
        with writing("store", str(text), "nothing was removed"):
            path.unlink(missing_ok=True)
            sync(path.parent)
        return self.collect()

    def collect(self) -> int:
        """Removes what no name refers to; bytes freed, 0 when others are writing."""
        with self.lock.exclusive() as held:
            if not held:
                return 0
            try:
                known = [read_name(p, OllamaName(*p.parts[-4:])) for p in self._paths()]
            except (CrystalError, SourceError):
                return 0  # what a name that cannot be read refers to is not known to be unused
            crystal_names = {model.fingerprint for model in known}
            for folder in listing(self._crystals):
                if folder.name not in crystal_names:
                    shutil.rmtree(folder, ignore_errors=True)
            freed = self.blobs.collect({file.sha256 for m in known for file in m.files})
            for level in (3, 2, 1):  # folders of names that are gone
                for folder in self._names.glob("/".join("*" * level)):
                    with contextlib.suppress(OSError):
                        folder.rmdir()
            return freed

    def check(self) -> list[str]:
        """Reads and hashes everything; sentences about what was damaged and set aside."""
        told = []
        with self.lock.shared():
            for digest in self.blobs.digests():
                if self.blobs.damaged(digest):
                    self.blobs.set_aside(self.blobs.path(digest), "A stored file is damaged.")
                    told.append(f"The file sha256:{digest[:12]} was damaged and was set aside.")
        for path in self._paths():
            try:
                self.folder(self._read(path))
            except (CrystalError, MissingModelError) as error:
                told.append(str(error))
        return told

    def _paths(self) -> list[Path]:
        level = [self._names]
        for _ in range(4):
            level = [item for folder in level for item in listing(folder)]
        return [path for path in level if path.is_file() and not path.name.startswith(".")]

    def place(self, name: OllamaName) -> Path | None:
        """The manifest of a name as it is written, else in another case."""
        exact = self._names.joinpath(*name.parts)
        if exact.is_file():
            return exact
        level = [self._names]
        for part in name.parts:
            level = [
                item
                for folder in level
                for item in listing(folder)
                if item.name.lower() == part.lower()
            ]
        return next((path for path in level if path.is_file()), None)

    def _read(self, path: Path) -> StoredModel:
        """The model of a manifest, all of whose files are there; what is not whole is set aside
        once that is certain.
        """
        name = self._named(path)
        try:
            model = read_name(path, name)
            self._require_whole(model)
            return model
        except OtherVersionError:
            raise
        except CrystalError:
            pass
        with self.lock.shared():  # now nobody is removing what we are looking at
            if not path.is_file():
                raise MissingModelError(f"There is no model {name}.", fix="See `h2q ls`.")
            try:
                model = read_name(path, name)
                self._require_whole(model)
                return model
            except CrystalError as error:
                self.blobs.set_aside(path, str(error))
                raise CrystalError(
                    error.what,
                    where=str(name),
                    fix=f"The name was set aside; fetch it again with `h2q pull {name}`.",
                ) from error

    def _named(self, path: Path) -> OllamaName:
        try:
            return OllamaName(*path.parts[-4:])
        except SourceError as error:
            self.blobs.set_aside(path, "A file in the folder of names has no name's form.")
            raise CrystalError("A file in the folder of names has no name's form.") from error

    def _require_whole(self, model: StoredModel) -> None:
        for file in model.files:
            if not self.blobs.sound_size(file.sha256, file.bytes):
                raise CrystalError(
                    f"The stored file {file.name} is missing or cut short.",
                    where=str(model.name),
                    fix=f"Fetch the model again with `h2q pull {model.name}`.",
                )

    def _linked(self, folder: Path, model: StoredModel) -> bool:
        """Whether a crystal's folder shows the very blobs; copies where links are impossible."""
        try:
            for file in model.files:
                own, blob = (folder / file.name).stat(), self.blobs.path(file.sha256).stat()
                if own.st_size != file.bytes or not (
                    own.st_ino == blob.st_ino or own.st_nlink == blob.st_nlink == 1
                ):
                    return False
        except OSError:
            return False
        return True

    def _link(self, folder: Path, model: StoredModel) -> None:
        """A crystal's folder, complete or not there. The blobs were proven when they came in, so
        its start needs no hashing.
        """
        if self._linked(folder, model):
            return
        with writing("store", str(model.name), "what was there before is whole"):
            folder.parent.mkdir(parents=True, exist_ok=True)
            fresh = folder.with_name(f".{folder.name[:16]}.{uuid.uuid4().hex}")
            try:
                fresh.mkdir()
                for file in model.files:
                    link(self.blobs.path(file.sha256), fresh / file.name)
                shards = [f.name for f in model.files if f.name.endswith(".safetensors")]
                write_stamp(fresh, states([fresh / shard for shard in shards]))
                sync(fresh)
                if folder.exists():
                    (folder / STAMP).unlink(missing_ok=True)
                    folder.rename(fresh.with_name(fresh.name + ".old"))
                fresh.rename(folder)
                sync(folder.parent)
            except OSError:
                if not self._linked(folder, model):  # another process may have been as quick
                    raise
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
                shutil.rmtree(fresh.with_name(fresh.name + ".old"), ignore_errors=True)

    def give_name(self, model: StoredModel) -> bool:
        """In one step; whether it took the place of another, which `collect` removes."""
        place = self.place(model.name) or self._names.joinpath(*model.name.parts)
        data, there = model.to_bytes(), place.exists()
        with (
            writing("store", str(model.name), "what was there before is whole"),
            replacement(place, SUFFIX) as fresh,
        ):
            fresh.write_bytes(data)
        return there

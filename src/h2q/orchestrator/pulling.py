"""From a job to an installed model: fetch, grow, install. Runs in the child process."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from h2q.core.errors import CrystalError, MissingModelError, UsageError
from h2q.core.model_name import OllamaName
from h2q.crystal.store import Store
from h2q.crystal.store_blobs import plain_digest
from h2q.crystal.store_names import Details, StoredModel, store_name
from h2q.crystallize.options import Options
from h2q.orchestrator.details import capabilities, from_ollama, with_recipe
from h2q.orchestrator.house import Recipe
from h2q.orchestrator.jobs import SOURCES, Job
from h2q.orchestrator.making import Teller
from h2q.sources.fingerprint import fingerprint
from h2q.sources.gguf_file import GGUFSource
from h2q.sources.hf_dir import HFDirectory
from h2q.sources.open import open_source
from h2q.sources.precision import precision
from h2q.sources.source import Source
from h2q.sources.source_files import WEEK, alone, blob_path, drop, held, sweep

GROWING = "growing"
HUB, OLLAMA = "hf:", "ollama:"
READ = (".json", ".safetensors", ".jinja")  # of uploaded files; no source reads others
# Bits per weight, all in, of what Ollama's words for sizes mean.
SIZES = {"q8_0": 8.5, "q4_k_m": 4.9, "q4_k_s": 4.6}


@dataclass(frozen=True)
class Found:
    """A source that is ready to be read. digest: what it is known by; `blobs`: files that are not
    needed any more once the crystal is there.
    """

    source: Source
    digest: str
    details: Details
    blobs: tuple[str, ...] = ()


def make(job: Job, teller: Teller) -> None:
    """Tells every step; the last is `success`. Raises every kind of error."""
    store = Store(Path(job.root))
    maker = _Maker(job, teller, store, store_name(job.name))
    sweep(store.root / SOURCES)
    _sweep_growths(store.root / GROWING)
    maker.run()
    teller.say("success")


class _Maker:
    def __init__(self, job: Job, teller: Teller, store: Store, name: OllamaName) -> None:
        self.job, self.teller, self.store, self.name = job, teller, store, name
        self.sources = store.root / SOURCES
        self.options = _options(job)
        self._spent: tuple[str, ...] = ()

    def run(self) -> None:
        job = self.job
        if job.recipe.files:
            with self._uploaded() as found:
                self._finish(found)
        elif job.local:
            self._finish(self._local())
        elif job.source.startswith(HUB):
            self._hub()
        elif job.source.startswith(OLLAMA):
            self._ollama()
        else:
            self._registry()
        if self._spent:
            self.teller.say("removing unused layers")
        for blob in self._spent:  # nobody holds them now
            drop(self.sources, blob)

    def _hub(self) -> None:
        from h2q.sources.hub import fetch
        from h2q.sources.hub_listing import parse_remote, read_listing
        from h2q.sources.hub_wire import default_hub

        self.teller.say("pulling manifest")
        text = self.job.source.removeprefix(HUB)
        name = parse_remote(text)
        if self._installed() and self._is_there(read_listing(default_hub(), name).commit):
            return
        folder = fetch(text, self.teller.heard)
        self._finish(Found(HFDirectory(folder), folder.name, Details()))

    def _registry(self) -> None:
        from h2q.sources.ollama_registry import ask_manifest, fetch_blobs, parse_registry

        self.teller.say("pulling manifest")
        registry = parse_registry(self.job.source)
        manifest = ask_manifest(registry, self.job.private)
        if self._is_there(manifest.digest):
            return
        model = fetch_blobs(registry, manifest, self.sources, self.teller.heard)
        self.teller.say("verifying sha256 digest")
        with held(model.path):
            source = GGUFSource(model.path)
            details, why = from_ollama(model, source.chat_template())
            if why:
                self.teller.say(why)
            self._finish(Found(source, manifest.digest, details, (model.digest,)))

    def _ollama(self) -> None:
        from h2q.sources.ollama_store import find_model

        model = find_model(self.job.source.removeprefix(OLLAMA))
        if self._is_there(model.digest):
            return
        self.teller.say("verifying sha256 digest")
        model.verify(self.teller.heard)
        source = GGUFSource(model.path)
        details, why = from_ollama(model, source.chat_template())
        if why:
            self.teller.say(why)
        self._finish(Found(source, model.digest, details))

    def _local(self) -> Found:
        source = open_source(Path(self.job.source))
        self.teller.say("parsing GGUF" if isinstance(source, GGUFSource) else "converting model")
        return Found(source, "", Details())

    @contextmanager
    def _uploaded(self) -> Iterator[Found]:
        """Files that were uploaded: one GGUF, or the folder of a checkpoint."""
        files = self.job.recipe.files
        blobs = [(name, plain_digest(digest.lower())) for name, digest in files]
        for name, digest in blobs:
            if not blob_path(self.sources, digest).is_file():
                raise UsageError(f"The blob of {name[:80]} was not uploaded.", where="files")
        with contextlib.ExitStack() as stack:
            for _, digest in blobs:
                stack.enter_context(held(blob_path(self.sources, digest)))
            if len(blobs) == 1:
                self.teller.say("parsing GGUF")
                digest = blobs[0][1]
                source = GGUFSource(blob_path(self.sources, digest))
                yield Found(source, digest, Details(), (digest,))
                return
            self.teller.say("converting model")
            told = hashlib.sha256(repr(sorted(blobs)).encode()).hexdigest()
            folder = self.store.root / GROWING / f"files-{told[:32]}"
            folder.mkdir(parents=True, exist_ok=True)
            for name, digest in blobs:
                if Path(name).name != name or not name.endswith(
                    (".json", ".safetensors", ".jinja")
                ):
                    continue  # what no source reads
                place = folder / name
                place.unlink(missing_ok=True)
                place.hardlink_to(blob_path(self.sources, digest))
            yield Found(HFDirectory(folder), told, Details(), tuple(d for _, d in blobs))
        shutil.rmtree(folder, ignore_errors=True)

    def _installed(self) -> StoredModel | None:
        try:
            return self.store.find(self.name)
        except (MissingModelError, CrystalError):
            return None

    def _is_there(self, digest: str) -> bool:
        """Whether the name means this very source already, and nothing is said on top."""
        if replace(self.job.recipe, base="", options={}) != Recipe():
            return False
        found = self._installed()
        if found is None or found.details.origin.get("digest") != digest:
            return False
        self._existing(found)
        if growth := found.details.origin.get("growth"):  # it was killed before it tidied up
            shutil.rmtree(self.store.root / GROWING / growth[:32], ignore_errors=True)
        return True

    def _existing(self, model: StoredModel) -> None:
        for file in model.files:
            self.teller.say(f"using existing layer sha256:{file.sha256}")

    def _finish(self, found: Found) -> None:
        """Grow and install; one process at a time for the same crystal, and only once."""
        details = with_recipe(found.details, self.job.recipe)
        source = found.source
        digest = found.digest or fingerprint(source)
        key = hashlib.sha256(f"{digest} {self.options!r}".encode()).hexdigest()
        details = replace(
            details,
            origin={
                "source": self._origin(),
                "digest": digest,
                "precision": precision(source.files()),
                "growth": key,
            },
            capabilities=capabilities(
                source.chat_template() if details.template is None else details.template,
                source.tokenizer_json(),
            ),
        )
        place = self.store.root / GROWING / key[:32]
        with alone(place / "lock", self._waiting()):
            self._grow(source, place / "crystal", details)
            shutil.rmtree(place, ignore_errors=True)
        self._spent = found.blobs

    def _grow(self, source: Source, target: Path, details: Details) -> None:
        for model in self.store.models():
            if model.details.origin.get("growth") == details.origin["growth"]:
                self._existing(model)
                self.teller.say("writing manifest")
                self.store.rename(model, self.name, details, self.job.collect)
                return
        from h2q.crystallize import ModelCrystallizationEngine  # much to load

        origin = {name: details.origin[name] for name in ("source", "digest")}
        engine = ModelCrystallizationEngine(source, self.options, origin)
        engine.grow(target, overwrite=True, progress=self.teller.heard)
        self.teller.say("writing manifest")
        self.store.install(target, self.name, details, move=True, collect=self.job.collect)

    def _origin(self) -> str:
        if self.job.recipe.files:
            return "files"
        return Path(self.job.source).name if self.job.local else self.job.source

    def _waiting(self) -> Iterator[bool]:
        self.teller.say("waiting for another process that makes this model")
        while True:
            yield False


def _options(job: Job) -> Options:
    wanted = job.recipe.quantize.lower()
    if not wanted:
        return job.options
    if wanted not in SIZES:
        raise UsageError(
            f"unsupported quantization {job.recipe.quantize[:40]!r}",
            fix=f"Known are {', '.join(SIZES)}; without one the quality is held.",
        )
    kept: dict[str, Any] = dict.fromkeys(("quality", "ratio", "size", "memory"), None)
    return replace(job.options, bits=SIZES[wanted], **kept)


def _sweep_growths(folder: Path) -> None:
    """Growths that nobody came back to for a week."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.stat().st_mtime < time.time() - WEEK:
                shutil.rmtree(path, ignore_errors=True)

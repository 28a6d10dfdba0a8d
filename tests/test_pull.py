"""Models are pulled from registries and the hub: fetched, proven, grown in a child process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from checkpoints import WEIGHTS
from h2q.core.errors import (
    AccessError,
    H2QError,
    NetworkError,
    ResourceError,
    SourceError,
    UsageError,
)
from h2q.crystal import open_crystal
from h2q.crystal.store import Store
from h2q.crystallize.growth import STAGE
from h2q.orchestrator.house import WorkEvent
from h2q.orchestrator.jobs import error_of, fault_of
from h2q.orchestrator.works import Access, Works
from h2q.sources.hub_wire import BrokenOffError
from hub_server import COMMIT, REPO, HubServer
from pulled import QUICK, left, pull, registry, weights, works
from registry_server import Registry

__all__ = ["Store", "Works", "registry", "weights", "works"]


def stop_at(works: Works, name: str, status: str) -> list[WorkEvent]:
    """Pulls until a status is told, then leaves."""

    async def main() -> list[WorkEvent]:
        found = []
        async with contextlib.aclosing(works.pull(name)) as events:  # type: ignore[type-var]
            async for event in events:
                found.append(event)
                if event.status.startswith(status):
                    break
        return found

    return asyncio.run(main())


def test_a_model_of_a_registry_becomes_a_crystal(
    works: Works, registry: Registry, weights: bytes
) -> None:
    name = registry.add(
        "tiny", weights, system="Be brief.", params='{"temperature": 0.5, "stop": ["X"]}'
    )
    events = pull(works, name)
    told = [event.status for event in events]
    digest = registry.weights("tiny")
    assert told[0] == "pulling manifest"
    assert told[-3:] == ["writing manifest", "removing unused layers", "success"]
    layer = [event for event in events if event.digest == f"sha256:{digest}"]
    assert layer[-1] == WorkEvent(
        f"pulling {digest[:12]}", f"sha256:{digest}", len(weights), len(weights)
    )
    assert "verifying sha256 digest" in told
    assert [event for event in events if event.status.startswith("measure") and event.total]
    model = works.store.find(registry.installed("tiny"))
    assert model.details.system == "Be brief."
    assert dict(model.details.parameters) == {"temperature": 0.5, "stop": ("X",)}
    assert model.details.origin["precision"] == "Q8_0"
    crystal = works.store.folder(model)
    assert open_crystal(crystal)
    stated = json.loads((crystal / "certificate.json").read_text())
    assert stated["source"]["precision"] == "Q8_0"
    assert stated["source"]["source"] == name
    assert left(works) == []
    assert works.store.check() == []
    registry.asked.clear()
    again = pull(works, name)
    assert len(registry.asked) == 1  # the manifest
    assert again[-1].status == "success"


def test_a_download_goes_on_where_it_broke_off(
    works: Works, registry: Registry, weights: bytes
) -> None:
    name, digest = registry.add("tiny", weights), registry.weights("tiny")
    registry.hang = digest
    stop_at(works, name, f"pulling {digest[:12]}")
    partial = works.store.root / "sources" / "blobs" / f"sha256-{digest}-partial"
    assert works.store.models() == []
    registry.hang, registry.drop = "", {digest: [len(weights) // 4]}
    registry.asked.clear()
    kept = partial.stat().st_size if partial.exists() else 0
    stop_at(works, name, "verifying")
    asked = registry.ranges(digest)
    assert asked[0] == (f"bytes={kept}-" if kept else None)
    assert len(asked) == 2  # cut once, went on
    assert not partial.exists()
    assert pull(works, name)[-1].status == "success"


def test_another_file_than_was_promised_is_refused(
    works: Works, registry: Registry, weights: bytes
) -> None:
    name, digest = registry.add("tiny", weights), registry.weights("tiny")
    blob = registry.store.root / "blobs" / f"sha256-{digest}"
    blob.write_bytes(bytes(reversed(weights)))
    with pytest.raises(SourceError, match="digest"):
        pull(works, name)
    assert works.store.models() == []
    assert not list((works.store.root / "sources" / "blobs").glob(f"*{digest}*"))


def test_a_killed_growth_goes_on(works: Works, registry: Registry, weights: bytes) -> None:
    name = registry.add("tiny", weights)

    async def killed(status: str) -> None:
        async for event in works.pull(name):
            if event.status.startswith(status):
                (child,) = psutil.Process().children()
                child.send_signal(signal.SIGKILL)

    for status in (STAGE, "writing manifest"):
        with contextlib.suppress(ResourceError):  # at the very end it may be too late to kill it
            asyncio.run(killed(status))
            assert status == "writing manifest"
        assert works.store.check() == []
    assert pull(works, name)[-1].status == "success"
    assert works.store.check() == []
    assert left(works) == []


def test_leaving_ends_the_child(works: Works, registry: Registry, weights: bytes) -> None:
    stop_at(works, registry.add("tiny", weights), "measure")
    assert psutil.Process().children() == []
    assert works.store.models() == []


def test_a_full_disk_is_said_and_harms_nothing(
    works: Works, registry: Registry, weights: bytes
) -> None:
    name = registry.add("tiny", weights)
    code = (
        "import asyncio, resource, signal, sys, test_pull as t; from pathlib import Path\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)\n"
        "access = t.Access(private=True, nice=0, options=t.QUICK)\n"
        "works = t.Works(t.Store(Path(sys.argv[1])), access)\n"
        "try: t.pull(works, sys.argv[2])\n"
        "except t.ResourceError as error: print(error)\n"
    )
    path = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    for room in (10_000, len(weights) + 100_000):  # not the download; not what follows it
        told = subprocess.run(
            [sys.executable, "-c", code, works.store.root, name, str(room)],
            capture_output=True,
            text=True,
            check=True,
            env=path,
        ).stdout
        if room < len(weights):
            assert "The disk is full" in told
        assert works.store.check() == []
    assert pull(works, name)[-1].status == "success"


def test_a_model_of_the_hub_becomes_a_crystal(
    works: Works, server: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from small_llamas import small_llama

    small_llama(tmp_path / "small")
    for file in ("config.json", "tokenizer.json", WEIGHTS):
        server.files[file] = (tmp_path / "small" / file).read_bytes()
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    events = pull(works, f"hf:{REPO}")
    assert events[-1].status == "success"
    assert "fetch the weights" in [event.status for event in events]
    model = works.store.find(f"hf:{REPO}")
    assert str(model.name) == f"hf.co/{REPO}:latest"
    assert model.details.origin["digest"] == COMMIT
    assert model.details.origin["precision"] in ("F32", "BF16")
    before = len(server.seen)
    assert pull(works, f"hf:{REPO}")[-1].status == "success"
    assert len(server.seen) == before + 1  # what the revision means


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("", UsageError),
        ("../x", UsageError),
        ("a b", UsageError),
        ("http://8.8.8.8/library/x", UsageError),  # plain http is for this machine
        ("hf:nobody", H2QError),
    ],
)
def test_names_that_are_none(works: Works, name: str, error: type[H2QError]) -> None:
    with pytest.raises(error):
        pull(works, name)


def test_who_reaches_a_server_reaches_no_private_registry(
    works: Works, registry: Registry, weights: bytes
) -> None:
    open_works = Works(works.store, Access(nice=0, options=QUICK))
    with pytest.raises(AccessError, match="private"):
        pull(open_works, registry.add("tiny", weights))
    assert registry.asked == []
    with pytest.raises(SourceError, match="no such model"):
        pull(works, registry.add("tiny", weights) + "x")


def test_an_error_of_another_process_keeps_its_class() -> None:
    for error in (BrokenOffError("It broke off.", where="x", fix="y"), UsageError("No.")):
        found = error_of(fault_of(error))
        assert type(found) in (NetworkError, UsageError)
        assert isinstance(error, type(found))
        assert str(found) == str(error)

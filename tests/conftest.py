"""Fixtures shared by all tests: the seed model, a crystal of it, and the shared data where it is
present.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock
from hypothesis import settings

from h2q import kernels
from h2q.core.settings import usable_cores
from h2q.crystal import Crystal, open_crystal
from h2q.crystallize import ModelCrystallizationEngine, Options
from h2q.sources import Source, open_source
from hub_server import HubServer, serving
from scripted_server import Running, running

if TYPE_CHECKING:
    from h2q.sources.hub_wire import Hub

# The same examples everywhere, so that a change that is green stays green, and a slow machine is no
# error. New ones are looked for with `pytest --hypothesis-profile searching`.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("searching", deadline=None)
settings.load_profile("repeatable")
ROOT = Path(__file__).parent.parent
SEED = ROOT / "src" / "h2q" / "assets" / "seed"
# Smaller than a person would choose: enough to be a real crystal, quick enough for every test run.
QUICK = Options(
    ratio=12.5,
    calibration_streams=12,
    calibration_length=128,
    judged_streams=2,
    measured_streams=4,
    measured_length=128,
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(specs: list[object]) -> None:
    """Processes that share the cores share them: threads that wait for each other's cores cost more
    than they bring. What is about threads sets their number itself.
    """
    for name in ("H2Q_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, str(max(1, usable_cores() // len(specs))))


@pytest.fixture(scope="module")
def two_threads() -> Iterator[None]:
    """Kernels that cut their work in two, whatever the machine."""
    before = kernels.threads()
    kernels.set_threads(2)
    yield
    kernels.set_threads(before)


@pytest.fixture(scope="session")
def seed_source() -> Source:
    return open_source(SEED)


@pytest.fixture(scope="session")
def seed_path(tmp_path_factory: pytest.TempPathFactory, seed_source: Source) -> Path:
    """A crystal of the seed model, grown once per run, by whichever process needs it first."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    target = folder / "seed.crystal"
    with FileLock(folder / "seed.lock"):
        if not target.exists():
            ModelCrystallizationEngine(seed_source, QUICK).grow(target)
    return target


@pytest.fixture
def stated(seed_path: Path) -> dict[str, Any]:
    """Its certificate."""
    return dict(json.loads((seed_path / "certificate.json").read_text()))


@pytest.fixture
def seed_crystal(seed_path: Path) -> Crystal:
    return open_crystal(seed_path)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Data that may not be committed; set H2Q_SHARED, or put it beside the repository."""
    path = Path(os.environ.get("H2Q_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        pytest.skip("the shared data folder is not here (set H2Q_SHARED)")
    return path


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """The seed model, beside files nobody should touch, on a hub of the loopback. Attempts follow
    without pauses, and a slow machine is no error.
    """
    import huggingface_hub

    from h2q.sources import hub_transfer

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DOWNLOAD_TIMEOUT", 600)
    monkeypatch.setattr(hub_transfer, "PAUSES", (0.0,) * 3)
    files = {"pytorch_model.bin": b"\x80\x04", "modeling.py": b"import os", "original/w.pth": b"x"}
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        files[name] = (SEED / name).read_bytes()
    with serving(HubServer(files)) as running:
        yield running
    huggingface_hub.close_session()


@pytest.fixture
def hub(server: HubServer, tmp_path: Path) -> Hub:
    """That hub with a cache of its own."""
    from h2q.sources.hub_wire import Hub

    return Hub(server.address, tmp_path / "cache", reach_seconds=600, patience_seconds=600)


@pytest.fixture(scope="module")
def scripted_server() -> Iterator[Running]:
    """A server over the scripted engine, one for a whole module."""
    with running() as found:
        yield found


@pytest.fixture
def scripted(scripted_server: Running) -> Iterator[Running]:
    """The same server; its script and what it remembers are put back."""
    worker, kept = scripted_server.house.worker, scripted_server.house.kept
    script, asks = worker.script, len(worker.asks)
    yield scripted_server
    worker.script = script
    del worker.asks[asks:]
    kept.clear()

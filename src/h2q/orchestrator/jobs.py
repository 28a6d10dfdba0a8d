"""Work that a child process does: what it is told, and the lines it tells on the way."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from h2q.core import errors
from h2q.core.errors import H2QError
from h2q.crystallize.options import Options
from h2q.orchestrator.house import Recipe, WorkEvent

SOURCES = "sources"  # in the store: what crystals are grown from, while it is needed


@dataclass(frozen=True)
class Job:
    """To make the model `name` in the store at `root`.

    source: what it is grown from, as a person names it: `hf:org/name`, `ollama:name`, a name of a
    registry, or with `local` a path; empty where the recipe has files. private: registries at
    addresses that are not open to the world may be asked. recipe: what is said on top. nice: how
    far it stands back behind other processes, 0 to 19. collect: remove what the name meant before.
    """

    root: str
    name: str
    source: str = ""
    local: bool = False
    private: bool = False
    nice: int = 19
    recipe: Recipe = field(default_factory=Recipe)
    options: Options = field(default_factory=Options)
    collect: bool = True


@dataclass(frozen=True)
class Fault:
    """An error of ours on its way to another process."""

    kind: str
    what: str
    where: str = ""
    fix: str = ""


@dataclass(frozen=True)
class Line:
    """What a child says: a step, or why it ended."""

    event: WorkEvent | None = None
    fault: Fault | None = None


def write_job(job: Job) -> bytes:
    """One line."""
    return msgspec.json.encode(job) + b"\n"


def read_job(data: bytes) -> Job:
    return msgspec.json.decode(data, type=Job)


def write_line(line: Line) -> bytes:
    return msgspec.json.encode(line) + b"\n"


def read_line(data: bytes) -> Line:
    return msgspec.json.decode(data, type=Line)


def fault_of(error: H2QError) -> Fault:
    """By the nearest class that every process knows."""
    kinds = (kind.__name__ for kind in type(error).__mro__ if _is_known(kind))
    return Fault(next(kinds), error.what, error.where, error.fix)


def _is_known(kind: type) -> bool:
    return getattr(errors, kind.__name__, None) is kind


def error_of(fault: Fault) -> H2QError:
    """Of the same class where it is one of core.errors, else of their base."""
    found = getattr(errors, fault.kind, None)
    kind = found if isinstance(found, type) and issubclass(found, H2QError) else H2QError
    return kind(fault.what, where=fault.where, fix=fault.fix)

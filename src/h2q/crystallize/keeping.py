"""What a growth keeps in its journal, and how it finds it again: texts, sensitivities, finished
layers, the two streams behind the last of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from h2q.codec.planes import Plane
from h2q.core.specs import PlaneSpec
from h2q.crystal.entry import Array
from h2q.crystallize.growing import Grown
from h2q.crystallize.journal import Journal
from h2q.crystallize.moments import FloatArray
from h2q.crystallize.sensitivity import Sensitivity
from h2q.crystallize.texts import Texts

ROWS, NORMS, POWER, SHAPING = "rows/", "norms/", "power/", "shaping/"


def keep_texts(journal: Journal, texts: Texts) -> None:
    """Under the name `texts`."""
    arrays: dict[str, Array] = {
        name: getattr(texts, name) for name in ("calibration", "judged", "measured")
    }
    said = {"calibrated_on": texts.calibrated_on, "measured_on": texts.measured_on}
    journal.put("texts", arrays, said)


def kept_texts(journal: Journal) -> Texts | None:
    """None where there are none yet."""
    found = journal.entry("texts")
    if found is None:
        return None
    tokens = {name: np.array(array, np.int64) for name, array in found.arrays.items()}
    return Texts(
        calibration=tokens["calibration"],
        judged=tokens["judged"],
        measured=tokens["measured"],
        calibrated_on=str(found.facts["calibrated_on"]),
        measured_on=str(found.facts["measured_on"]),
    )


def keep_sensitivity(journal: Journal, found: Sensitivity) -> None:
    """Under the name `sensitivity`."""
    arrays: dict[str, Array] = {"embedding": found.embedding, "head": found.head_moments}
    arrays |= {ROWS + name: rows for name, rows in found.rows.items()}
    arrays |= {NORMS + name: rows for name, rows in found.norms.items()}
    arrays |= {POWER + reads: np.array([value]) for reads, value in found.power.items()}
    arrays |= {SHAPING + reads: np.array([value]) for reads, value in found.shaping.items()}
    journal.put("sensitivity", arrays, {})


def kept_sensitivity(journal: Journal) -> Sensitivity | None:
    """None where it was not measured yet."""
    arrays = journal.get("sensitivity")
    if arrays is None:
        return None

    def under(prefix: str) -> dict[str, Array]:
        return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}

    return Sensitivity(
        rows={name: np.array(rows, np.float64) for name, rows in under(ROWS).items()},
        embedding=np.array(arrays["embedding"], np.float64),
        power={reads: float(np.array(value)[0]) for reads, value in under(POWER).items()},
        shaping={reads: float(np.array(value)[0]) for reads, value in under(SHAPING).items()},
        norms={name: np.array(rows, np.float64) for name, rows in under(NORMS).items()},
        head_moments=np.array(arrays["head"], np.float32),
    )


@dataclass(frozen=True)
class Streams:
    """Behind layer `layer` (-1: the embedding): float32 (texts * length, width) each, the
    original's and the crystal's for the calibration, the original's for the watched texts.
    watched_growth: SpectralStabilityController.state by then, None at the embedding.
    """

    layer: int
    original: FloatArray
    crystal: FloatArray
    watched: list[FloatArray]
    watched_growth: npt.NDArray[np.float64] | None = None


class PlanJournal:
    """The entries of one plan; does nothing without a journal."""

    def __init__(self, journal: Journal | None, bits: Mapping[str, int]) -> None:
        self.journal = journal
        text = json.dumps(sorted(bits.items()))
        self.tag = hashlib.sha256(text.encode()).hexdigest()[:16]

    def keep(self, layer: int | str, grown: Mapping[str, Grown]) -> None:
        """Coded parts of a layer."""
        if self.journal is None:
            return
        arrays: dict[str, Array] = {}
        for name, found in grown.items():
            arrays[f"{name}/costs"] = found.costs
            arrays[f"{name}/mse"] = np.array(found.mse, np.float64)
            arrays[f"{name}/tokens"] = np.array([found.tokens], np.int64)
            arrays[f"{name}/spec"] = np.array(
                [(p.spec.bits, p.spec.rows, p.spec.cols) for p in found.planes], np.int64
            )
            for index, plane in enumerate(found.planes):
                arrays[f"{name}/codes/{index}"] = plane.codes
                arrays[f"{name}/scales/{index}"] = plane.scales
        self.journal.put(f"{self.tag}/{layer}", arrays, {})

    def kept(self, layer: int | str) -> dict[str, Grown] | None:
        """Coded parts of a layer, planes mapped from the journal's files; None where it is not
        finished.
        """
        arrays = None if self.journal is None else self.journal.get(f"{self.tag}/{layer}")
        if arrays is None:
            return None
        names = [name.removesuffix("/spec") for name in arrays if name.endswith("/spec")]
        return {name: _grown(name, arrays) for name in names}

    def keep_streams(self, streams: Streams) -> None:
        """Replaces those of the layer before."""
        if self.journal is None:
            return
        arrays: dict[str, Array] = {"original": streams.original, "crystal": streams.crystal}
        if streams.watched_growth is not None:
            arrays["growth"] = streams.watched_growth
        arrays |= {f"watched/{i}": stream for i, stream in enumerate(streams.watched)}
        self.journal.put(f"{self.tag}/streams", arrays, {"layer": streams.layer})

    def kept_streams(self) -> Streams | None:
        """The last ones kept."""
        found = None if self.journal is None else self.journal.entry(f"{self.tag}/streams")
        if found is None:
            return None
        growth = np.array(found.arrays.pop("growth"), np.float64)
        arrays = {name: np.array(array, np.float32) for name, array in found.arrays.items()}
        watched = [arrays[f"watched/{i}"] for i in range(len(arrays) - 2)]
        layer = int(found.facts["layer"] or 0)
        return Streams(layer, arrays["original"], arrays["crystal"], watched, growth)


def _grown(name: str, arrays: Mapping[str, Array]) -> Grown:
    planes = []
    for index, (bits, rows, cols) in enumerate(np.array(arrays[f"{name}/spec"], np.int64)):
        codes, scales = arrays[f"{name}/codes/{index}"], arrays[f"{name}/scales/{index}"]
        spec = PlaneSpec(int(bits), int(rows), int(cols))
        planes.append(Plane(spec, np.asarray(codes, np.uint8), np.asarray(scales, np.uint16)))
    costs = np.array(arrays[f"{name}/costs"], np.float64)
    tokens = int(np.array(arrays[f"{name}/tokens"], np.int64)[0])
    mse = tuple(np.array(arrays[f"{name}/mse"], np.float64).tolist())
    return Grown(tuple(planes), costs, mse, tokens)

"""A certificate with every part, computed from a crystal and its original; drawings of a page."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np

from h2q.codec.planes import Plane
from h2q.core.memory import peak_rss_bytes
from h2q.crystal import open_crystal
from h2q.crystallize import measure_growth, sample_text
from h2q.crystallize.certificate import MEASURE_SEED, tensor_spectra, text_entry, versions
from h2q.engine import load_crystal, load_original
from h2q.geometry.rotation import rotate, rotation
from h2q.kernels import twins
from h2q.sources import Source

STREAMS, LENGTH = 2, 256  # of conftest.QUICK
SAMPLED = "sampled from the original at temperature 1"


def decoded(stack: list[Plane]) -> np.ndarray:
    """The weights of a stack, in the rotated basis, float32 (rows, cols)."""
    return twins.gather_rows(tuple(stack), np.arange(stack[0].spec.rows))


def certify(path: Path, source: Source) -> None:
    """Complete the certificate of the crystal at `path`, grown under conftest.QUICK."""
    stated = json.loads((path / "certificate.json").read_text())
    crystal = open_crystal(path)
    original = load_original(source)
    seed = crystal.rotation_seed
    tokens = sample_text(original, STREAMS, LENGTH, seed=MEASURE_SEED + seed)
    stated["text"] = text_entry(SAMPLED, tokens, "sampled text", [tokens[:1]])
    for row in stated["layers"]:
        weights = np.asarray(source.tensor(row["tensor"]), np.float32)
        turned = rotate(weights, rotation(seed, weights.shape[1]))
        row |= tensor_spectra(turned, decoded(crystal.planes(row["tensor"])), weights)
    controller = measure_growth(original, load_crystal(crystal), tokens)
    stated |= {"format": 2, "growth": controller.to_json(), "versions": versions()}
    stated |= {"peak_memory_bytes": peak_rss_bytes(), "plan": {"ratio": 12.5, "groups": 4}}
    (path / "certificate.json").write_text(json.dumps(stated))


def drawings(page: str) -> list[ET.Element]:
    """Every drawing, parsed; all its coordinates are finite."""
    found = [ET.fromstring(text) for text in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]
    for drawing in found:
        for shape in drawing.iter():
            for key in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height", "points"):
                for value in re.split(r"[ ,]", shape.get(key) or "0"):
                    assert math.isfinite(float(value))
    return found

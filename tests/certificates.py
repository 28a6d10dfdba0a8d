"""What tests of certificates look at: decoded weights, and the drawings of a page."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import numpy as np

from h2q.codec.planes import Plane
from h2q.kernels import twins


def decoded(stack: list[Plane]) -> np.ndarray:
    """The weights of a stack, in the rotated basis, float32 (rows, cols)."""
    return twins.gather_rows(tuple(stack), np.arange(stack[0].spec.rows))


def drawings(page: str) -> list[ET.Element]:
    """Every drawing, parsed; all its coordinates are finite."""
    found = [ET.fromstring(text) for text in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]
    for drawing in found:
        for shape in drawing.iter():
            for key in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height", "points"):
                for value in re.split(r"[ ,]", shape.get(key) or "0"):
                    assert math.isfinite(float(value))
    return found

"""What tests of certificates look at: the drawings of a page."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET


def drawings(page: str) -> list[ET.Element]:
    """Every drawing, parsed; all its coordinates are finite."""
    found = [ET.fromstring(text) for text in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]
    for drawing in found:
        for shape in drawing.iter():
            for key in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height", "points"):
                for value in re.split(r"[ ,]", shape.get(key) or "0"):
                    assert math.isfinite(float(value))
    return found

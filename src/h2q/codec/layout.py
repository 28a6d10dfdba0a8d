"""Where each weight of a plane lies: panels of 16 R rows, groups of four columns, lines of 64
lanes.

A panel and a group of four columns is 64 lanes x R steps: lane 4 r + c at step t holds the weight
(row 16 t + r, column 4 g + c) of the panel. A line of 64 bytes holds S = 8 / bits consecutive steps
of every lane, earliest symbol in the high bits. So one line is one wide register, and a step is
what one dot-product instruction accumulates into sixteen row sums. Padding never shows in the
logical shape; its rule is normative (docs/format.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from h2q.codec.constants import COLUMN_GROUP, LANES
from h2q.core.specs import PlaneSpec

PANEL_STEPS = (16, 8, 4, 2, 1)
ROWS_PER_STEP = 16
SCALE_PADDING = 32
PADDING_SHARE = 32  # rows may grow by at most one part in this many before a smaller panel is taken


@dataclass(frozen=True)
class PanelLayout:
    """Sizes that follow from a PlaneSpec. `steps` is R, `symbols` is S, `padded_cols` the coded
    width.
    """

    spec: PlaneSpec
    steps: int
    symbols: int
    panels: int
    padded_cols: int
    lines: int

    @classmethod
    def of(cls, spec: PlaneSpec) -> PanelLayout:
        """The layout of a plane; pure arithmetic."""
        least = _round_up(spec.rows, ROWS_PER_STEP)
        limit = max(least, spec.rows + spec.rows // PADDING_SHARE)
        steps = next(r for r in PANEL_STEPS if _round_up(spec.rows, ROWS_PER_STEP * r) <= limit)
        symbols = 8 // spec.bits
        padded = _round_up(spec.cols, COLUMN_GROUP * max(1, symbols // steps))
        return cls(
            spec=spec,
            steps=steps,
            symbols=symbols,
            panels=-(-spec.rows // (ROWS_PER_STEP * steps)),
            padded_cols=padded,
            lines=padded // COLUMN_GROUP * steps // symbols,
        )

    @property
    def panel_rows(self) -> int:
        return ROWS_PER_STEP * self.steps

    @property
    def code_shape(self) -> tuple[int, int, int]:
        """(panels, lines, lanes): the shape of the code array, one byte each."""
        return self.panels, self.lines, LANES

    @property
    def scale_count(self) -> int:
        """Entries of the row-scale array, padding included."""
        return _round_up(self.spec.rows, SCALE_PADDING)

    @property
    def byte_count(self) -> int:
        """Bytes of codes and scales together."""
        return self.panels * self.lines * LANES + 2 * self.scale_count


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple

"""What a person may choose about a crystal before it grows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from reprlib import repr as brief

from h2q.core.errors import UsageError

MAX_SEED = (1 << 31) - 1
LARGE = 100_000_000  # parameters; from here on, text costs minutes
DEFAULT_QUALITY = 0.9
MAX_COUNT, MAX_STRENGTH = 1 << 20, 1e6
TARGETS = ("quality", "ratio", "bits", "size", "memory")
SIZES = (
    "calibration_streams",
    "calibration_length",
    "judged_streams",
    "measured_streams",
    "measured_length",
    "groups",
)


@dataclass(frozen=True)
class Sizes:
    """Numbers of texts and their lengths in tokens."""

    calibration_streams: int
    calibration_length: int
    judged_streams: int
    measured_streams: int
    measured_length: int
    sensitivity_tokens: int


@dataclass(frozen=True)
class Options:
    """One target at most: `quality` (0 to 1, the share of the original's likelihood per token to be
    kept; 0.9 without any target), `ratio` (bytes of the original in float32 over the crystal's, at
    least), `bits` (per weight, all in, at most), `size` (bytes of the crystal, at most), `memory`
    (bytes of the working set while serving, at most). With `best_effort` a quality that cannot be
    held is no error.

    `seed` picks the rotation and all text that is sampled. `calibration` is a text of the person's
    own; without one the original model is asked. The numbers of texts follow the model's size
    unless given. Dampings and ridge are relative to the mean of the moments' diagonal (see moments,
    correction); the last plane of a tower has the refinement's damping, all below the base's.
    """

    quality: float | None = None
    ratio: float | None = None
    bits: float | None = None
    size: int | None = None
    memory: int | None = None
    best_effort: bool = False
    seed: int = 0
    calibration: str | None = None
    calibration_streams: int | None = None
    calibration_length: int | None = None
    judged_streams: int | None = None
    measured_streams: int | None = None
    measured_length: int | None = None
    base_damping: float = 0.6
    refine_damping: float = 0.2
    embedding_identity: float = 2.0
    ridge: float = 0.1
    groups: int | None = None
    attempts: int = 5

    def __post_init__(self) -> None:
        given = [name for name in TARGETS if getattr(self, name) is not None]
        if len(given) > 1:
            raise UsageError(f"Choose one target, not {' and '.join(given)}.")
        self._number("quality", 0.0, 1.0)
        self._number("ratio", 1.0, 64.0)
        self._number("bits", 0.5, 32.0)
        self._number("size", 0, math.inf)
        self._number("memory", 0, math.inf)
        for name in ("base_damping", "refine_damping", "embedding_identity", "ridge"):
            self._number(name, 0, MAX_STRENGTH)
        self._count("seed", 0, MAX_SEED)
        self._count("attempts", 1, MAX_COUNT)
        for name in SIZES:
            if getattr(self, name) is not None:
                self._count(name, 2 if name.endswith("length") else 1, MAX_COUNT)
        if not isinstance(self.calibration, str | None):
            raise UsageError(
                f"calibration must be a text, not {brief(self.calibration)}.",
                fix="Read the file first.",
            )

    @property
    def wanted_quality(self) -> float | None:
        """The quality to hold, or None where bytes are the target."""
        if self.quality is not None:
            return self.quality
        bytes_first = any(getattr(self, name) is not None for name in TARGETS)
        return None if bytes_first else DEFAULT_QUALITY

    def sizes(self, parameters: int) -> Sizes:
        """Texts for a model of that many parameters."""
        usual = Sizes(24, 1023, 4, 16, 512, 4096)
        if parameters >= LARGE:
            usual = Sizes(32, 256, 4, 8, 256, 512)
        return Sizes(
            self.calibration_streams or usual.calibration_streams,
            self.calibration_length or usual.calibration_length,
            self.judged_streams or usual.judged_streams,
            self.measured_streams or usual.measured_streams,
            self.measured_length or usual.measured_length,
            usual.sensitivity_tokens,
        )

    def shards(self, parameters: int) -> int:
        """Refinement shards at most: every one is a prefix to be measured."""
        return self.groups or (7 if parameters >= LARGE else 9)

    def _number(self, name: str, above: float, most: float) -> None:
        value = getattr(self, name)
        if value is None:
            return
        good = isinstance(value, int | float) and not isinstance(value, bool)
        if not good or not math.isfinite(value) or not above < value <= most:
            limit = "" if most == math.inf else f" and at most {most:g}"
            raise UsageError(f"{name} must be above {above:g}{limit}, not {brief(value)}.")

    def _count(self, name: str, least: int, most: int) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise UsageError(
                f"{name} must be a whole number from {least} to {most:,}, not {brief(value)}."
            )

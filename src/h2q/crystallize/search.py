"""The closed loop: plan, grow, measure, plan again, until the target holds with few bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from h2q.core.architecture import coded
from h2q.core.errors import QualityError
from h2q.core.events import ProgressListener
from h2q.core.units import format_bytes
from h2q.crystal.sizes import prefix_bytes
from h2q.crystallize.allocate import (
    TOWERS,
    Judge,
    foretold_loss,
    plan_for_bytes,
    plan_for_loss,
)
from h2q.crystallize.candidate import Candidate, measured_factors, ranked
from h2q.crystallize.evaluate import Comparison
from h2q.crystallize.growth import Growth
from h2q.crystallize.options import Options
from h2q.crystallize.remembered import Remembered
from h2q.crystallize.stability import SpectralStabilityController
from h2q.crystallize.texts import Texts, parameters

PROCESS_BYTES = 80 << 20  # a talking process without weights and cache
SERVED_CONTEXT = 4096
SLACK = 256  # bytes by which headers may be longer than foretold
CLOSE = 0.05  # of the wanted divergence: nearer is near enough
Bits = dict[str, int]


@dataclass
class Search:
    """Finds the crystal for the options' target. `attempts` tells how it went."""

    growth: Growth
    judge: Judge
    texts: Texts
    listener: ProgressListener
    attempts: list[dict[str, float]] = field(default_factory=list)
    controller: SpectralStabilityController | None = None

    @property
    def options(self) -> Options:
        return self.growth.options

    def run(self) -> Candidate:
        """Raises QualityError where the target cannot be held (unless best effort)."""
        wanted = self.options.wanted_quality
        if wanted is None:
            return self._for_bytes(self._budget())
        return self._for_quality(wanted)

    # Bytes.

    def _budget(self) -> int:
        options, spec = self.options, self.growth.source.spec
        count = parameters(self.growth.source)
        if options.ratio is not None:
            return int(4 * count / options.ratio)
        if options.bits is not None:
            return int(options.bits * count / 8)
        if options.size is not None:
            return options.size
        assert options.memory is not None
        context = min(spec.max_position_embeddings, SERVED_CONTEXT)
        heads = spec.num_hidden_layers * spec.num_key_value_heads * spec.head_dim
        return options.memory - PROCESS_BYTES - 2 * 4 * heads * context

    def _for_bytes(self, budget: int) -> Candidate:
        least = self._whole_bytes({part.name: 1 for part in coded(self.judge.spec)})
        if least > budget:
            original = 4 * parameters(self.growth.source)
            raise QualityError(
                f"No crystal of this model fits {format_bytes(max(budget, 0))}: with one bit a "
                f"weight it takes {format_bytes(least)}, a ratio of {original / least:.2f}.",
                fix="Ask for more bytes.",
            )
        bits = self._plan(budget)
        found = self._grow(bits)
        count = len(found.steps)
        while count and found.cut(count).sizes[-1] > budget:
            count -= 1
        return found.cut(count)

    def _plan(self, budget: int) -> Bits:
        """The best plan whose files, headers included, fit."""
        room = budget
        for _ in range(8):
            bits = plan_for_bytes(self.judge, room)
            over = self._whole_bytes(bits) + SLACK - budget
            if over <= 0 or room <= 0:
                break
            room -= max(over, 64)
        return bits

    def _whole_bytes(self, bits: Bits) -> int:
        """Of the whole crystal of a plan."""
        stacks = {name: TOWERS[count] for name, count in bits.items()}
        planes = [(name, k) for name, stack in stacks.items() for k in range(1, len(stack))]
        size = max(1, -(-len(planes) // self.options.groups))
        cut = [planes[begin : begin + size] for begin in range(0, len(planes), size)]
        return prefix_bytes(self.judge.spec, self.options.seed, stacks, cut)[-1]

    # Quality.

    def _for_quality(self, quality: float) -> Candidate:
        """Grow for a foretold divergence, measure, correct the forecast, again; keep the smallest
        that holds.
        """
        wanted = -math.log(min(quality, 1 - 1e-6))
        aim, best, reached = wanted * 0.97, None, None
        tried: set[tuple[int, ...]] = set()
        for _ in range(self.options.attempts):
            bits = plan_for_loss(self.judge, aim)
            if tuple(bits.values()) in tried:
                break
            tried.add(tuple(bits.values()))
            found = self._grow(bits)
            foretold = foretold_loss(self.judge, bits)
            result = found.judged(self._truth(0), self.texts.judged)
            held = self._holds(found, result, quality, wanted)
            self.attempts.append(
                {
                    "foretold": foretold,
                    "kl_mean": result.kl_mean,
                    "bytes": found.sizes[-1],
                    "held": float(held),
                }
            )
            if reached is None or result.kl_mean < reached[1].kl_mean:
                reached = found, result
            if held:
                found = self._shortest(found, quality, wanted)
                if best is None or found.sizes[-1] < best.sizes[-1]:
                    best = found
                if result.kl_mean > wanted * (1 - CLOSE):
                    break
            elif all(count == max(TOWERS) for count in bits.values()):
                break
            aim *= min(2.0, max(0.25, wanted * (0.98 if held else 0.95) / result.kl_mean))
        if best is not None:
            return best
        assert reached is not None
        if self.options.best_effort:
            return reached[0]
        raise QualityError(
            f"A quality of {quality:g} cannot be held: the best was a mean divergence of "
            f"{reached[1].kl_mean:.4f} nats (quality {math.exp(-reached[1].kl_mean):.4f}) "
            f"with {format_bytes(reached[0].sizes[-1])}.",
            fix="Ask for less, or take what can be had with --best-effort.",
        )

    def _holds(self, found: Candidate, result: Comparison, quality: float, wanted: float) -> bool:
        """On the judged text by divergence, on the certificate's by likelihood too."""
        if result.kl_mean > wanted:
            return False
        return found.judged(self._truth(1), self.texts.measured).quality >= quality

    def _shortest(self, found: Candidate, quality: float, wanted: float) -> Candidate:
        """The shortest prefix of the ranking that still holds, by bisection."""
        low, high = 0, len(found.steps)
        while low < high:
            middle = (low + high) // 2
            cut = found.cut(middle)
            result = cut.judged(self._truth(0), self.texts.judged)
            if self._holds(cut, result, quality, wanted):
                high = middle
            else:
                low = middle + 1
        return found.cut(high)

    # Both.

    def _truth(self, index: int) -> Remembered:
        return Remembered(self.growth.source, self.growth.watched[index], self.growth.hidden[index])

    def _grow(self, bits: Bits) -> Candidate:
        options, source = self.options, self.growth.source
        self.controller = SpectralStabilityController()
        grown = self.growth.grow(bits, self.controller.observe)
        plain = replace(self.judge, factors={})
        found = ranked(source, options.seed, plain, grown, options.groups)
        factors = measured_factors(found, plain, self._truth(0), self.texts.judged, self.listener)
        self.judge_of_planes = replace(self.judge, factors=factors)
        return ranked(source, options.seed, self.judge_of_planes, grown, options.groups)

"""The closed loop: plan, grow, measure, plan again, until the target holds with few bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from h2q.core.architecture import coded
from h2q.core.errors import QualityError
from h2q.core.events import ProgressListener
from h2q.core.units import format_bytes
from h2q.crystallize.allocate import TOWERS, Judge, foretold_loss, plan_for_loss
from h2q.crystallize.budget import budget_bytes, parameters, plan_within
from h2q.crystallize.candidate import Candidate, measured_factors, ranked
from h2q.crystallize.evaluate import Comparison
from h2q.crystallize.growth import Growth
from h2q.crystallize.options import Options
from h2q.crystallize.remembered import Remembered
from h2q.crystallize.stability import SpectralStabilityController
from h2q.crystallize.texts import Texts
from h2q.geometry.decision import Step

CLOSE = 0.05  # of the wanted divergence: nearer is near enough
LARGE_SHARE, TRIMS = 0.01, 6  # of the bytes: a plane worth a measurement; how many of those
Bits = dict[str, int]


@dataclass(frozen=True)
class Trial:
    """A grown candidate, what its planes were judged by, what was seen while it grew."""

    found: Candidate
    judge: Judge
    controller: SpectralStabilityController | None


@dataclass
class Search:
    """Finds the crystal for the options' target. `attempts` tells how it went."""

    growth: Growth
    judge: Judge
    texts: Texts
    listener: ProgressListener
    attempts: list[dict[str, float]] = field(default_factory=list)
    controller: SpectralStabilityController | None = None
    judge_of_planes: Judge = field(init=False)

    @property
    def options(self) -> Options:
        return self.growth.options

    def run(self) -> Candidate:
        """Raises QualityError where the target cannot be held (unless best effort)."""
        wanted = self.options.wanted_quality
        if wanted is not None:
            return self._for_quality(wanted)
        budget = budget_bytes(self.judge.spec, self.options)
        assert budget is not None
        return self._for_bytes(budget)

    def _for_bytes(self, budget: int) -> Candidate:
        found = self._grow(plan_within(self.judge, self.options, budget))
        count = len(found.steps)
        while count and found.cut(count).sizes[-1] > budget:
            count -= 1
        return found.cut(count)

    def _for_quality(self, quality: float) -> Candidate:
        """Grow for a foretold divergence, measure, correct the forecast, again; keep the smallest
        that holds. Without one that holds it goes on, the forecast ever stricter, to the most bits
        there are.
        """
        wanted = -math.log(min(quality, 1 - 1e-6))
        aim, caution = wanted * 0.97, 0.95
        best: Trial | None = None
        reached: tuple[Trial, float] | None = None
        tried: set[tuple[int, ...]] = set()
        while best is None or len(tried) < self.options.attempts:
            bits = plan_for_loss(self.judge, aim)
            if tuple(bits.values()) in tried:
                if best is not None:
                    break
                aim *= caution  # so small a step does not change the plan
                continue
            tried.add(tuple(bits.values()))
            found = self._grow(bits)
            result = found.judged(self.truth(0), self.texts.judged)
            off = self._divergence(found, result, wanted)
            held = off <= wanted
            self.attempts.append(
                {
                    "foretold": foretold_loss(self.judge, bits),
                    "kl_mean": result.kl_mean,
                    "bytes": found.sizes[-1],
                    "held": float(held),
                }
            )
            if reached is None or off < reached[1]:
                reached = self._trial(found), off
            if held:
                found = self._trimmed(self._shortest(found, wanted), wanted)
                if best is None or found.sizes[-1] < best.found.sizes[-1]:
                    best = self._trial(found)
                if off > wanted * (1 - CLOSE):
                    break
            elif all(count == max(TOWERS) for count in bits.values()):
                break
            aim *= min(2.0, max(0.25, wanted * (0.98 if held else caution) / max(off, 1e-12)))
            caution *= 1.0 if held else 0.95
        if best is not None:
            return self._taken(best)
        assert reached is not None
        if self.options.best_effort:
            return self._taken(reached[0])
        raise QualityError(
            f"A quality of {quality:g} cannot be held: the best was {math.exp(-reached[1]):.6f} "
            f"with {format_bytes(reached[0].found.sizes[-1])}.",
            fix="Ask for less, or take what can be had with --best-effort.",
        )

    def _divergence(self, found: Candidate, result: Comparison, wanted: float) -> float:
        """What must not exceed `wanted`, nats per token: the mean divergence on the judged text,
        and where that is small enough the likelihood that the certificate's text loses.
        """
        if result.kl_mean > wanted:
            return result.kl_mean
        measured = found.judged(self.truth(1), self.texts.measured)
        return max(result.kl_mean, measured.loss_crystal - measured.loss_original)

    def _shortest(self, found: Candidate, wanted: float) -> Candidate:
        """The shortest prefix of the ranking that still holds, by bisection."""
        low, high = 0, len(found.steps)
        while low < high:
            middle = (low + high) // 2
            if self._left(found.cut(middle), wanted) >= 0:
                high = middle
            else:
                low = middle + 1
        return found.cut(high)

    def _trimmed(self, found: Candidate, wanted: float) -> Candidate:
        """Without large planes that the target does not need, wherever they stand in the ranking.
        Where planes are many the cut is near enough before.
        """
        tried: set[Step] = set()
        left = self._left(found, wanted)
        while left > wanted * CLOSE and len(tried) < TRIMS:
            fits = [step for step in self._large(found, left) if step not in tried]
            if not fits:
                break
            chosen = max(fits, key=lambda step: step.cost)
            tried.add(chosen)
            less = found.without(chosen)
            rest = self._left(less, wanted)
            if rest >= 0:
                found, left = less, rest
        return found

    def _left(self, found: Candidate, wanted: float) -> float:
        """Divergence that may be added before `wanted` is reached, nats per token."""
        result = found.judged(self.truth(0), self.texts.judged)
        return wanted - self._divergence(found, result, wanted)

    def _large(self, found: Candidate, most: float) -> list[Step]:
        """Last planes of parts that take a good share of the bytes, and by forecast lose at most
        `most`.
        """
        table = {part.name: part for part in coded(self.judge.spec)}
        heights, least, out = found.heights, LARGE_SHARE * found.sizes[-1], list[Step]()
        for step in found.steps:
            name = str(step.key)
            if step.level == heights[name] - 1 and step.cost >= least:
                losses = self.judge_of_planes.measured(table[name], found.grown[name])
                if losses[step.level] - losses[step.level + 1] <= most:
                    out.append(step)
        return out

    def _trial(self, found: Candidate) -> Trial:
        return Trial(found, self.judge_of_planes, self.controller)

    def _taken(self, trial: Trial) -> Candidate:
        """What is told about the search is about this one, whichever came last."""
        self.judge_of_planes, self.controller = trial.judge, trial.controller
        return trial.found

    def truth(self, index: int) -> Remembered:
        """The original on the judged texts (0) or the certificate's (1), once something grew."""
        return Remembered(self.growth.source, self.growth.watched[index], self.growth.hidden[index])

    def _grow(self, bits: Bits) -> Candidate:
        options, source = self.options, self.growth.source
        self.controller = SpectralStabilityController()
        grown = self.growth.grow(bits, self.controller)
        shards = options.shards(parameters(source.spec))
        found = ranked(source, options.seed, self.judge, grown, shards)
        some = self.texts.judged[: (len(self.texts.judged) + 1) // 2]  # enough for an order
        factors = measured_factors(found, self.judge, self.truth(0), some, self.listener)
        self.judge_of_planes = replace(self.judge, factors=factors)
        layers = range(self.judge.spec.num_hidden_layers)
        first = self.controller.priorities(layers)
        return ranked(source, options.seed, self.judge_of_planes, grown, shards, first)

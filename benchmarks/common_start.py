"""What growths of one model have in common whatever their target: texts and sensitivities, made
once and kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from h2q import kernels
from h2q.core.events import ProgressListener, silent
from h2q.crystallize import ModelCrystallizationEngine, Options
from h2q.crystallize.allocate import Judge
from h2q.crystallize.balance import BalancedSource
from h2q.crystallize.budget import parameters
from h2q.crystallize.candidate import Candidate, ranked
from h2q.crystallize.growing import Grown
from h2q.crystallize.growth import Growth
from h2q.crystallize.journal import Journal, journal_key
from h2q.crystallize.keeping import keep_sensitivity, keep_texts, kept_sensitivity, kept_texts
from h2q.crystallize.search import Search
from h2q.crystallize.sensitivity import Sensitivity, measure_sensitivity
from h2q.crystallize.texts import Texts, gather_texts
from h2q.sources import Source
from h2q.sources.fingerprint import fingerprint

SEED_MODEL = Path(__file__).parents[1] / "src" / "h2q" / "assets" / "seed"


@dataclass
class CommonStart:
    """Texts and sensitivities of `source` under `options`, whose target does not matter. They are
    kept in a journal in `folder` and made anew when the code, the source or the options change.
    """

    source: Source  # balanced from the beginning on, as the engine does
    folder: Path
    options: Options = field(default_factory=Options)
    listener: ProgressListener = silent

    def __post_init__(self) -> None:
        self.original, self.source = self.source, BalancedSource(self.source)
        self.texts, self.sensitivity = self._gathered()

    def _gathered(self) -> tuple[Texts, Sensitivity]:
        key = self._key(self.options)
        with Journal.beside(self.folder / f"start-{key[:12]}", key) as journal:
            texts = kept_texts(journal)
            if texts is None:
                texts = gather_texts(self.original, self.options, self.listener)
                keep_texts(journal, texts)
            found = kept_sensitivity(journal)
            if found is None:
                sizes = self.options.sizes(parameters(self.source.spec))
                rows = max(1, sizes.sensitivity_tokens // texts.calibration.shape[1])
                found = measure_sensitivity(
                    self.source, texts.calibration[:rows], self.options.seed, self.listener
                )
                keep_sensitivity(journal, found)
        return texts, found

    def judge(self) -> Judge:
        """What errors cost, uncorrected."""
        return Judge(self.source.spec, self.sensitivity, self.options.embedding_identity, {})

    def growth(self, options: Options | None = None) -> Growth:
        """Grows plans, in memory."""
        texts = self.texts
        return Growth(
            self.source,
            options or self.options,
            self.listener,
            texts.calibration,
            self.sensitivity.head_moments,
            [texts.judged, texts.measured],
        )

    def ranked(
        self,
        judge: Judge,
        grown: Mapping[str, Grown],
        priorities: Mapping[int, float] | None = None,
    ) -> Candidate:
        """What was grown, in the order of its planes, of the source it was grown from."""
        shards = self.options.shards(parameters(self.source.spec))
        return ranked(self.source, self.options.seed, judge, grown, shards, priorities)

    def search(self, options: Options) -> Search:
        """The closed loop towards the target of `options`, in memory."""
        return Search(self.growth(options), self.judge(), self.texts, self.listener)

    def crystal(self, target: Path, options: Options) -> None:
        """What `h2q crystallize` writes under these options, found by an engine whose journal holds
        texts and sensitivities already. Raises what the engine raises.
        """
        with Journal.beside(target, self._key(options)) as journal:
            keep_texts(journal, self.texts)
            keep_sensitivity(journal, self.sensitivity)
        try:
            ModelCrystallizationEngine(self.original, options).grow(target, progress=self.listener)
        except BaseException:
            Journal.beside(target, self._key(options)).close(remove=True)
            raise

    def _key(self, options: Options) -> str:
        """As the engine makes it; were it another, the engine would only begin from nothing."""
        return journal_key([fingerprint(self.source), repr(options), kernels.path()])

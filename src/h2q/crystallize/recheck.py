"""A certificate is checked by measuring the crystal again, at every prefix, on the same text.

The text is sampled again, from the original, in seven bits, or from a draft, as the certificate
says, with the seed of the crystal. On the same arithmetic it comes out token for token (the
certificate's sha256 says whether), and figures agree to rounding. On another machine a sampled
token may tip and the texts part; figures are then compared as two samples of the same quantity,
with tolerances of about three standard errors, which the result states.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from h2q.core.architecture import EMBEDDING, tensors
from h2q.core.errors import CrystalError, SourceError
from h2q.core.events import Progress, ProgressListener, silent
from h2q.crystal import Crystal, crystal_bytes
from h2q.crystallize.certificate import tokens_sha256
from h2q.crystallize.evaluate import Comparison, compare
from h2q.crystallize.moments import TokenArray
from h2q.crystallize.remembered import Remembered
from h2q.crystallize.sampling import sample_text
from h2q.crystallize.texts import MEASURE_SEED, speaker
from h2q.engine import load_crystal
from h2q.engine.block import entering, run_texts
from h2q.engine.load import OriginalWeights, build_layer
from h2q.sources import Source

MOST_TOKENS = 1 << 24  # of a measuring text: what a certificate may ask for
EACH = ("quality", "kl_mean")  # that every prefix states
HEADLINE = ("quality", "quality_error", "kl_mean", "kl_p99", "top1_agreement", "ratio_fp32")


@dataclass(frozen=True)
class Tolerance:
    """How far a figure may lie from the stated one. On the same text: `relative` of the stated
    figure plus `tokens` over the number of tokens. On another: `sampled` over the root of that
    number, times the stated figure when `scaled`; None: not compared.
    """

    relative: float
    tokens: float
    sampled: float | None
    scaled: bool

    def of(self, stated: float, tokens: int, same_text: bool) -> float | None:
        """In units of the figure."""
        if same_text:
            return abs(stated) * self.relative + self.tokens / tokens
        if self.sampled is None:
            return None
        return self.sampled / math.sqrt(tokens) * (abs(stated) if self.scaled else 1.0)


# The same text: float32 sums of the original in another order, and a first choice that tips.
# Another text: three standard errors of the difference of two samples, from the spread of losses
# (about 2.5 nats a token), divergences (about 1.5 times their mean) and choices (at most 0.5).
TOLERANCES = {
    "tokens": Tolerance(0.0, 0.0, 0.0, False),
    "quality": Tolerance(1e-3, 0.0, 3.0, False),
    "quality_error": Tolerance(1e-2, 0.0, None, False),
    "kl_mean": Tolerance(2e-3, 0.0, 10.0, True),
    "kl_p99": Tolerance(5e-3, 0.0, 30.0, True),
    "kl_max": Tolerance(5e-3, 0.0, None, False),
    "top1_agreement": Tolerance(0.0, 3.5, 2.5, False),
    "loss_original": Tolerance(1e-3, 0.0, 12.0, False),
    "loss_crystal": Tolerance(1e-3, 0.0, 12.0, False),
    "perplexity_original": Tolerance(2e-3, 0.0, 15.0, True),
    "perplexity_crystal": Tolerance(2e-3, 0.0, 15.0, True),
}
EXACT = Tolerance(1e-9, 0.0, 0.0, False)


@dataclass(frozen=True)
class Figure:
    """A figure as stated and as found. `where`: the prefix, or "headline". `tolerance` None: stated
    but not comparable on another text.
    """

    where: str
    name: str
    stated: float
    found: float
    tolerance: float | None

    @property
    def ok(self) -> bool:
        return self.tolerance is None or abs(self.stated - self.found) <= self.tolerance

    def to_json(self) -> dict[str, Any]:
        """All fields and `ok`."""
        return {**self.__dict__, "ok": self.ok}


@dataclass(frozen=True)
class Recheck:
    """`same_text`: whether the text is the certificate's by its sha256; None when it states none
    (the figures are then taken to be on the same text).
    """

    same_text: bool | None
    figures: tuple[Figure, ...]
    measured: tuple[Comparison, ...]

    @property
    def wrong(self) -> list[Figure]:
        """Figures that differ by more than their tolerance."""
        return [figure for figure in self.figures if not figure.ok]


def recheck(
    crystal: Crystal,
    certificate: dict[str, Any],
    source: Source,
    progress: ProgressListener = silent,
) -> Recheck:
    """Measure every prefix of `crystal` against `source` and compare with its certificate.

    Raises SourceError when the source is a model of another shape, CrystalError when the
    certificate lacks what measuring needs.
    """
    if source.spec != crystal.spec:
        raise SourceError("The crystal was not grown from a model of this shape.")
    _unmeasured(certificate, crystal)  # what lacks a figure is refused before minutes go by
    streams, length = _text_shape(certificate, crystal)
    spoken = str(certificate["text"].get("measured_on"))
    tokens = sample_text(
        speaker(source, spoken, crystal.rotation_seed, progress),
        streams,
        length,
        seed=MEASURE_SEED + crystal.rotation_seed,
        progress=lambda share: progress(Progress("sample measuring text", share, 1.0)),
    )
    stated_hash = certificate["text"].get("sha256")
    same = None if stated_hash is None else stated_hash == tokens_sha256([tokens])
    models = [load_crystal(crystal, groups) for groups in range(1 + len(crystal.rank))]
    results = compare(
        _truth(source, tokens, progress),
        models,
        tokens,
        lambda share: progress(Progress("measure quality", share, 1.0)),
    )
    return judge(crystal, certificate, results, same)


def _truth(source: Source, tokens: TokenArray, progress: ProgressListener) -> Remembered:
    """The original's answers, one of its layers in memory at a time."""
    spec = source.spec
    stream = entering(spec, OriginalWeights(source).tensor(EMBEDDING)[tokens.reshape(-1)])
    for index in range(spec.num_hidden_layers):
        layer = build_layer(spec, OriginalWeights(source), index)
        stream = run_texts(spec, layer, stream, len(tokens))
        progress(Progress("read the original", index + 1, spec.num_hidden_layers))
    return Remembered(source, tokens, stream)


def judge(
    crystal: Crystal,
    certificate: dict[str, Any],
    results: Sequence[Comparison],
    same_text: bool | None,
) -> Recheck:
    """What a certificate states against the crystal's files and a new measurement of every prefix.
    Raises CrystalError when the certificate lacks a figure.
    """
    measured = _measured(_prefixes(certificate, crystal), results, same_text is not False)
    return Recheck(same_text, (*_unmeasured(certificate, crystal), *measured), tuple(results))


def _unmeasured(certificate: dict[str, Any], crystal: Crystal) -> list[Figure]:
    """Figures for which nothing is measured."""
    prefixes = _prefixes(certificate, crystal)
    for prefix in prefixes:
        for name in EACH:
            _number(prefix, name)
    return [*_sizes(certificate, crystal, prefixes), *_headline(certificate, prefixes)]


def _measured(
    prefixes: list[dict[str, Any]], results: Sequence[Comparison], same: bool
) -> Iterator[Figure]:
    for count, (prefix, result) in enumerate(zip(prefixes, results, strict=True)):
        for name, found in result.to_json().items():
            if name in EACH or name in prefix:
                stated = _number(prefix, name)
                tolerance = TOLERANCES[name].of(stated, result.tokens, same)
                yield Figure(_label(count), name, stated, found, tolerance)


def _sizes(
    certificate: dict[str, Any], crystal: Crystal, prefixes: list[dict[str, Any]]
) -> Iterator[Figure]:
    """Figures that follow from the files."""
    original = 4 * sum(math.prod(t.shape) for t in tensors(crystal.spec))
    whole = crystal_bytes(crystal)
    found = {
        "original_bytes_fp32": original,
        "original_bytes_bf16": original // 2,
        "crystal_bytes": whole,
        "ratio_bf16": original / 2 / whole,
        "bits_per_weight": 32 * whole / original,
        "tokenizer_bytes": crystal.tokenizer_path.stat().st_size,
    }
    for name, value in found.items():
        if name in certificate:
            yield _exact("headline", name, _number(certificate, name), value)
    streams, length = _text_shape(certificate, crystal)
    if "tokens" in (text := certificate["text"]):
        yield _exact("text", "tokens", _number(text, "tokens"), streams * (length - 1))
    for count, prefix in enumerate(prefixes):
        size = crystal_bytes(crystal, count)
        yield _exact(_label(count), "bytes", _number(prefix, "bytes"), size)
        yield _exact(_label(count), "ratio_fp32", _number(prefix, "ratio_fp32"), original / size)


def _headline(certificate: dict[str, Any], prefixes: list[dict[str, Any]]) -> Iterator[Figure]:
    """What stands at the top is what the last prefix says."""
    for name in HEADLINE:
        if name in certificate:
            stated = _number(certificate, name)
            yield _exact("headline", name, stated, _number(prefixes[-1], name))


def _exact(where: str, name: str, stated: float, found: float) -> Figure:
    return Figure(where, name, stated, found, EXACT.of(stated, 1, True))


def _label(count: int) -> str:
    return "base" if count == 0 else f"base + {count}"


def _prefixes(certificate: dict[str, Any], crystal: Crystal) -> list[dict[str, Any]]:
    rows = certificate.get("prefixes")
    count = 1 + len(crystal.rank)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _unfit("states no prefixes")
    if [row.get("groups") for row in rows] != list(range(count)):
        raise _unfit(f"does not state the crystal's {count} prefixes in their order")
    return rows


def _text_shape(certificate: dict[str, Any], crystal: Crystal) -> tuple[int, int]:
    """Streams and length of the measuring text. Raises CrystalError."""
    text = certificate.get("text")
    if not isinstance(text, dict):
        raise _unfit("does not say on which text it was measured")
    limit = crystal.spec.max_position_embeddings
    streams, length = (_count(text.get(name)) for name in ("streams", "length"))
    if not (streams >= 1 and 2 <= length <= limit and streams * length <= MOST_TOKENS):
        raise _unfit(f"states an impossible text of {streams} x {length} tokens")
    return streams, length


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _unfit("does not state the streams and length of its text")
    return value


def _number(row: dict[str, Any], name: str) -> float:
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _unfit(f"states no number for {name}")
    return value


def _unfit(what: str) -> CrystalError:
    return CrystalError(
        f"The certificate {what}.",
        where="certificate.json",
        fix="Grow the crystal again, or measure it on a text with `h2q eval`.",
    )

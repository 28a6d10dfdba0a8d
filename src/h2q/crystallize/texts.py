"""The texts a growth needs: to calibrate on, to judge plans on, to certify on. Sampled from the
model itself unless the person brings one to calibrate on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from h2q.core.architecture import coded
from h2q.core.errors import KernelError, QualityError, TextError
from h2q.core.events import Progress, ProgressListener
from h2q.core.memory import free_bytes
from h2q.core.specs import ModelSpec
from h2q.crystallize.budget import parameters
from h2q.crystallize.growing import read_rotated
from h2q.crystallize.moments import OVERFLOWS, TokenArray
from h2q.crystallize.options import LARGE, Options, Sizes
from h2q.crystallize.sampling import Wish, cut_text, sample_texts
from h2q.crystallize.towers import Matrix, add_plane
from h2q.engine import Model, load_original
from h2q.engine.load import PlaneWeights, build
from h2q.engine.rounded import RoundedWeights
from h2q.sources import Source
from h2q.text import Tokenizer

# Each use has its own seeds. Nothing is coded or ranked by the certificate's text; where a quality
# is the target it must hold there too, so that text has a say in where the crystal ends.
CALIBRATION_SEED, MEASURE_SEED = 1_000, 3_000
TEMPERATURES = (1.0, 0.8, 1.0)  # of calibration texts, in turn
MARGIN = 1.3  # memory that running the original takes, relative to its weights in float32
ROUNDED_BYTES = 2  # a weight, that running it in seven bits takes, keys and values included
LETTERS = 8  # of a token, as a first guess
CUT = 64  # last tokens of what was read, that the text behind it might change
OWN_TEXT, SAMPLED = "a given text", "text sampled from the original"
ROUNDED = "text sampled from the original rounded to seven bits"
DRAFTED = "text sampled from a two-bit draft: the original does not fit into memory"


@dataclass(frozen=True)
class Texts:
    """int64 (texts, length) tokens each. `judged` is what plans are compared on, `measured` what
    the certificate is about. `calibrated_on` and `measured_on` say in words what they are.
    """

    calibration: TokenArray
    judged: TokenArray
    measured: TokenArray
    calibrated_on: str
    measured_on: str


def gather_texts(source: Source, options: Options, listener: ProgressListener) -> Texts:
    """Sample what is needed. Raises TextError when the person's text is too short or the tokenizer
    does not fit.
    """
    tokenizer = Tokenizer.from_json(source.tokenizer_json())
    tokenizer.require_fit(source.spec.vocab_size)
    sizes = options.sizes(parameters(source.spec))
    spoken = choose_speaker(source.spec)
    model = speaker(source, spoken, options.seed, listener)
    own, streams = options.calibration, sizes.calibration_streams
    if own is not None:
        streams = 0
        limit = sizes.calibration_streams * sizes.calibration_length
        ids = begin_of(tokenizer, own, limit)
        if len(ids) < 2:
            raise TextError("The calibration text is too short.", fix="Bring a longer one.")
    heat = [TEMPERATURES[i % len(TEMPERATURES)] for i in range(streams)]
    judged_heat = [1.0] * sizes.judged_streams
    planning = Wish(
        streams + sizes.judged_streams, CALIBRATION_SEED + options.seed, heat + judged_heat
    )
    measuring = Wish(sizes.measured_streams, MEASURE_SEED + options.seed)
    sampled, measured = _sampled(model, planning, measuring, sizes, listener)
    calibration, judged = sampled[:streams], sampled[streams:]
    if own is not None:
        calibration = cut_text(ids, source.spec, sizes.calibration_length, limit)
    return Texts(calibration, judged, measured, spoken if own is None else OWN_TEXT, spoken)


def begin_of(tokenizer: Tokenizer, text: str, count: int) -> list[int]:
    """Ids of the first `count` tokens at most. No more is read than that takes: all ids of a book
    shelf would fill the memory.
    """
    size = LETTERS * (count + CUT)
    while True:
        ids = tokenizer.encode(text[:size], special=False)
        if size >= len(text) or len(ids) >= count + CUT:
            return ids[:count]
        size *= 2


def _sampled(
    model: Model, planning: Wish, measuring: Wish, sizes: Sizes, listener: ProgressListener
) -> list[TokenArray]:
    """In one run where lengths are equal."""

    def report(stage: str) -> Callable[[float], None]:
        return lambda share: listener(Progress(stage, share, 1))

    try:
        with np.errstate(over="ignore", invalid="ignore"):  # the sampler will say so
            return _run(model, planning, measuring, sizes, report)
    except KernelError as error:
        raise QualityError(
            "The original model's own words are not finite numbers.", where="logits", fix=OVERFLOWS
        ) from error


def _run(
    model: Model,
    planning: Wish,
    measuring: Wish,
    sizes: Sizes,
    report: Callable[[str], Callable[[float], None]],
) -> list[TokenArray]:
    runs = [(sizes.calibration_length, planning), (sizes.measured_length, measuring)]
    if sizes.calibration_length == sizes.measured_length:
        return sample_texts(
            model, [planning, measuring], sizes.measured_length, report("sample text")
        )
    stages = ("sample text", "sample measuring text")
    return [
        sample_texts(model, [wish], length, report(stage))[0]
        for stage, (length, wish) in zip(stages, runs, strict=True)
    ]


def fits_memory(spec: ModelSpec) -> bool:
    """Whether the original can be run as a whole, in float32."""
    return 4 * parameters(spec) * MARGIN < free_bytes()


def choose_speaker(spec: ModelSpec) -> str:
    """What texts are sampled from: the original; in seven bits where it is large, for those take a
    quarter of the time and tell the same, or where only they fit into memory; else a draft.
    """
    if parameters(spec) < LARGE and fits_memory(spec):
        return SAMPLED
    return ROUNDED if ROUNDED_BYTES * parameters(spec) < free_bytes() else DRAFTED


def speaker(source: Source, spoken: str, seed: int, listener: ProgressListener) -> Model:
    """The model that a text `spoken` of was sampled from, as certificates call it."""
    if spoken == ROUNDED:
        return build(source.spec, RoundedWeights(source, seed))
    return draft(source, seed, listener) if spoken == DRAFTED else load_original(source)


def draft(source: Source, seed: int, listener: ProgressListener) -> Model:
    """Two bits a weight, shaped by nothing: good enough to tell what texts look like."""
    stacks, done = {}, 0
    todo = coded(source.spec)
    total = sum(math.prod(part.shape) for part in todo)
    rotated, name = np.zeros((0, 0), np.float32), ""
    for part in todo:
        if part.tensor.name != name:
            name, rotated = part.tensor.name, read_rotated(source, part.tensor.name, seed)
        rows = rotated[part.rows]
        stacks[part.name] = (add_plane(Matrix(part.name, rows), None, 2, 0.0).plane,)
        done += math.prod(part.shape)
        listener(Progress("encode a draft", done, total, "weights"))
    norms = PlaneWeights(
        stacks.__getitem__, lambda n: np.asarray(source.tensor(n), np.float32), seed
    )
    return build(source.spec, norms)

"""How much the model's words change when a row of a matrix is a little wrong.

To second order the KL divergence of a disturbed model is half the Fisher information's quadratic
form. One sampled next token per position and one backward pass give its diagonal blocks: an error e
in row r of a matrix that reads x costs about 1/2 E[g_r^2] E[(e x)^2] = 1/2 E[g_r^2] e H e^T nats
per token, g_r the derivative at the row's output. (Fisher information for layer-wise rounding:
SqueezeLLM, Kim et al. 2023; GuidedQuant, Kim et al. 2025.) Layers are read one at a time, so the
model need not fit into memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from h2q import kernels
from h2q.core.architecture import EMBEDDING, FINAL_NORM, HEAD_INPUT, head_name, tensors
from h2q.core.errors import QualityError
from h2q.core.events import Progress, ProgressListener, silent
from h2q.core.specs import ModelSpec
from h2q.core.tensor_spec import TensorSpec
from h2q.crystallize.gradients import dense, leaving_slope, rms_norm_back
from h2q.crystallize.layer_gradients import layer_back
from h2q.crystallize.moments import (
    NOT_FINITE,
    OVERFLOWS,
    FloatArray,
    TokenArray,
    second_moments,
    shaping_gain,
)
from h2q.crystallize.row_costs import row_costs
from h2q.engine.block import entering, leaving, run_texts
from h2q.engine.load import OriginalWeights, build_layer
from h2q.geometry.rotation import rotation
from h2q.sources import Source

Rows = npt.NDArray[np.float64]
LOGIT_ROWS = 256  # of logits at a time
EXPECTED = 0.05  # of an average expert's derivatives
ROUNDING = 0.3  # damping under which feedback's gain is foretold


@dataclass
class Sensitivity:
    """rows: per tensor E[g_r^2], float64 (rows,); for the embedding as it is looked up,
    `embedding`: float64 (vocab_size,), sum of |g|^2 over the positions of a token, per position of
    the text and per column. power: per `reads` name the mean of x^2; shaping: per `reads` name
    what feedback leaves of plain rounding's loss. norms: per tensor |w_r|^2, float64 (rows,).
    head_moments: float32 (width, width), rotated.
    """

    rows: dict[str, Rows] = field(default_factory=dict)
    embedding: Rows = field(default_factory=lambda: np.zeros(0))
    power: dict[str, float] = field(default_factory=dict)
    shaping: dict[str, float] = field(default_factory=dict)
    norms: dict[str, Rows] = field(default_factory=dict)
    head_moments: FloatArray = field(default_factory=lambda: np.zeros((0, 0), np.float32))

    def saw(self, reads: str, x: FloatArray, seed: int) -> None:
        """Note an input, float32 (T, width). Raises QualityError when it is not finite."""
        self.power[reads] = float(np.mean(x.astype(np.float64) ** 2))
        if not np.isfinite(self.power[reads]):
            raise QualityError(NOT_FINITE, where=reads, fix=OVERFLOWS)
        self.shaping[reads] = shaping_gain(x, ROUNDING)
        if reads == HEAD_INPUT:
            turned = kernels.rotate(np.ascontiguousarray(x), rotation(seed, x.shape[1]))
            self.head_moments = second_moments(turned, reads)

    def weighed(self, name: str, weights: FloatArray) -> None:
        """Note a matrix, float32 (rows, cols)."""
        self.norms[name] = row_costs(weights, None)

    def heard(self, name: str, grad: FloatArray, tokens: int) -> None:
        """Note the derivative at a matrix's output, float32 (T, rows), zero for others of `tokens`
        tokens.
        """
        self.rows[name] = np.sum(grad.astype(np.float64) ** 2, axis=0) / tokens

    def require_finite(self) -> None:
        """Raises QualityError, with a tensor's name, where a derivative is not."""
        for name, values in ((EMBEDDING, self.embedding), *self.rows.items()):
            if not np.isfinite(values).all():
                raise QualityError(
                    "The original model's derivatives are not finite.", where=name, fix=OVERFLOWS
                )

    def complete(self, spec: ModelSpec) -> None:
        """Give experts that text reached little, or never, EXPECTED of the mean of their layer's:
        other text will reach them.
        """
        kinds: dict[tuple[str, str], list[TensorSpec]] = {}
        for tensor in tensors(spec):
            room, found, rest = tensor.name.partition(".experts.")
            if tensor.coded and found:
                kinds.setdefault((room, rest.split(".")[1]), []).append(tensor)
        for alike in kinds.values():
            rows = [self.rows[t.name] for t in alike if t.name in self.rows]
            mean = EXPECTED * np.sum(rows, axis=0) / len(alike)
            power, shaping = (
                float(np.mean([noted[t.reads] for t in alike if t.reads in noted]))
                for noted in (self.power, self.shaping)
            )
            for tensor in alike:
                self.rows[tensor.name] = self.rows.get(tensor.name, 0.0) + mean
                self.power.setdefault(tensor.reads, power)
                self.shaping.setdefault(tensor.reads, shaping)


@np.errstate(over="ignore", invalid="ignore")  # what is not finite is told at the end
def measure_sensitivity(
    source: Source, tokens: TokenArray, seed: int, listener: ProgressListener = silent
) -> Sensitivity:
    """Forward and backward over int64 (texts, length) tokens, by layer. Raises SourceError, and
    QualityError where the model's numbers overflow.
    """
    spec, found, batch = source.spec, Sensitivity(), len(tokens)
    stage, steps = "measure sensitivity", 2 * spec.num_hidden_layers + 1
    ids = tokens.reshape(-1)
    table = np.ascontiguousarray(source.tensor(EMBEDDING), np.float32)
    found.weighed(EMBEDDING, table)
    streams = [entering(spec, table[ids])]
    del table
    for index in range(spec.num_hidden_layers):
        layer = build_layer(spec, OriginalWeights(source), index)
        for projection in layer.matrices():
            for tensor, weights in zip(projection.names, dense(projection), strict=True):
                found.weighed(tensor, weights)
        observer = lambda reads, x: found.saw(reads, x, seed)  # noqa: E731
        streams.append(run_texts(spec, layer, streams[-1], batch, observer))
        listener(Progress(stage, index + 1, steps))
    heard = lambda name, g: found.heard(name, g, len(ids))  # noqa: E731
    grad = _head_back(source, streams.pop(), seed, found)
    for index in reversed(range(spec.num_hidden_layers)):
        layer = build_layer(spec, OriginalWeights(source), index)
        grad = layer_back(spec, layer, streams.pop(), grad, batch, heard)
        listener(Progress(stage, steps - index, steps))
    found.complete(spec)
    grad = entering(spec, grad)
    found.embedding = np.bincount(
        ids, np.mean(grad.astype(np.float64) ** 2, axis=1), minlength=spec.vocab_size
    ) / len(ids)
    found.require_finite()
    return found


def _head_back(source: Source, x: FloatArray, seed: int, found: Sensitivity) -> FloatArray:
    """Samples a next token everywhere; the derivative at the last stream of minus its
    log-likelihood.
    """
    spec, random = source.spec, np.random.default_rng(seed)
    norm = np.asarray(source.tensor(FINAL_NORM), np.float32)
    name = head_name(spec)
    head = np.ascontiguousarray(source.tensor(name), np.float32)
    found.weighed(name, head)
    normed = kernels.rms_norm(x, norm, spec.rms_norm_eps)
    found.saw(HEAD_INPUT, normed, seed)
    grad = np.empty_like(x)
    spread = np.zeros(spec.vocab_size)
    for begin in range(0, len(x), LOGIT_ROWS):
        rows = slice(begin, begin + LOGIT_ROWS)
        logits = leaving(spec, normed[rows] @ head.T)
        slope = leaving_slope(spec, logits)
        share = np.exp(logits - logits.max(axis=-1, keepdims=True))
        share /= share.sum(axis=-1, keepdims=True)
        spread += np.sum(share * (1 - share) * slope**2, axis=0, dtype=np.float64)
        sums = np.cumsum(share, axis=-1)
        draws = random.random((len(share), 1)) * sums[:, -1:]
        share[np.arange(len(share)), np.argmax(sums > draws, axis=-1)] -= 1
        grad[rows] = rms_norm_back((share * slope) @ head, x[rows], norm, spec.rms_norm_eps)
    found.rows[name] = spread / len(x)  # E[(p - y)^2] over y, exactly
    return grad

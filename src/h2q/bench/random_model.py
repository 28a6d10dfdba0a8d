"""Models of real shapes with random codes, made in memory: speed and memory do not depend on what
the codes say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from h2q.bench.materials import PIECE, aligned
from h2q.codec.constants import LANES, LEVELS
from h2q.codec.layout import PanelLayout
from h2q.codec.planes import Plane, to_bfloat16
from h2q.core.architecture import HEAD, coded, head_name, tensors
from h2q.core.specs import ModelSpec, PlaneSpec
from h2q.core.tensor_spec import TensorSpec
from h2q.engine.load import PlaneWeights, build
from h2q.engine.model import Model

REFINEMENT = 0.15  # the scale of a plane over that of the plane before it

LLAMA = ModelSpec(
    family="llama",
    vocab_size=32_000,
    hidden_size=2048,
    intermediate_size=8192,
    num_hidden_layers=16,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=64,
    max_position_embeddings=8192,
    rms_norm_eps=1e-5,
    rope_theta=10_000.0,
    tie_word_embeddings=False,
    bos_token_id=1,
    eos_token_ids=(2,),
)
# Sizes as their config.json have them, all as plain llamas: the norms of heads that Qwen3 adds are
# left out, for both sides alike.
SHAPES: Mapping[str, ModelSpec] = {
    "llama-1.1b": LLAMA,
    "qwen3-0.6b": replace(
        LLAMA,
        vocab_size=151_936,
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=28,
        num_attention_heads=16,
        head_dim=128,
        rms_norm_eps=1e-6,
        rope_theta=1e6,
        tie_word_embeddings=True,
    ),
    "llama-3.2-1b": replace(LLAMA, vocab_size=128_256, rope_theta=5e5, tie_word_embeddings=True),
    "llama-3.2-3b": replace(
        LLAMA,
        vocab_size=128_256,
        hidden_size=3072,
        num_hidden_layers=28,
        num_attention_heads=24,
        head_dim=128,
        rope_theta=5e5,
        tie_word_embeddings=True,
    ),
    "trial": replace(
        LLAMA,
        vocab_size=2048,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    ),
}
DEFAULT_SHAPE, TRIAL = "llama-1.1b", "trial"


class RandomWeights:
    """Stacks of `bits` for every coded part of a shape; norms are ones."""

    def __init__(self, spec: ModelSpec, bits: tuple[int, ...] = (2, 2), seed: int = 0) -> None:
        draw = np.random.default_rng(seed)
        self.spec, self.bits = spec, bits
        self.norms = {
            t.name: np.ones(t.shape, np.float32) for t in tensors(spec) if t.kind == "norm"
        }
        self.planes = {
            part.name: tuple(
                _plane(draw, PlaneSpec(plane, *part.shape), REFINEMENT**index)
                for index, plane in enumerate(bits)
            )
            for part in coded(spec)
        }

    def model(self, planes: int) -> Model:
        """The network of the first `planes` planes of every stack; all share their memory."""
        stacks = {name: stack[:planes] for name, stack in self.planes.items()}
        weights = PlaneWeights(stacks.__getitem__, self.norms.__getitem__, 0)
        return build(self.spec, weights)

    def stacked(self, planes: int) -> list[Plane]:
        """The planes of that network."""
        return [plane for stack in self.planes.values() for plane in stack[:planes]]

    def read_per_token(self, planes: int) -> list[Plane]:
        """Those that a token reads in full: all but an embedding that is no head."""
        head = head_name(self.spec)
        return self._some(planes, lambda t: t.kind == "linear" or t.name == head)

    def in_layers(self, planes: int) -> list[Plane]:
        """Those that every token of a prompt is multiplied with."""
        return self._some(planes, lambda t: t.kind == "linear" and t.name != HEAD)

    def _some(self, planes: int, wanted: Callable[[TensorSpec], bool]) -> list[Plane]:
        parts = [part for part in coded(self.spec) if wanted(part.tensor)]
        return [plane for part in parts for plane in self.planes[part.name][:planes]]

    def byte_count(self, planes: int) -> int:
        """Bytes of codes, scales and norms of that network."""
        norms = sum(norm.nbytes for norm in self.norms.values())
        return norms + sum(plane.byte_count for plane in self.stacked(planes))


def _plane(draw: np.random.Generator, spec: PlaneSpec, share: float) -> Plane:
    """Random codes, and scales."""
    layout = PanelLayout.of(spec)
    codes = aligned(layout.panels * layout.lines * LANES).view(np.uint64)
    for at in range(0, len(codes), PIECE):
        part = codes[at : at + PIECE]
        part[:] = draw.integers(0, 1 << 64, len(part), np.uint64)
    return Plane(spec, codes.view(np.uint8).reshape(layout.code_shape), scales(layout, share))


def scales(layout: PanelLayout, share: float) -> npt.NDArray[np.uint16]:
    """Of rows of random codes: what keeps the size of what is multiplied, times `share`."""
    spec = layout.spec
    loudness = float(np.sqrt(np.mean(LEVELS[spec.bits].astype(np.float64) ** 2)))
    found: npt.NDArray[np.uint16] = np.zeros(layout.scale_count, np.uint16)
    scale = share / (loudness * math.sqrt(spec.cols))
    found[: spec.rows] = to_bfloat16(np.full(spec.rows, scale, np.float32))
    return found

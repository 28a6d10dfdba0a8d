"""What a talking process has in memory beside weights and cache: reckoned with when a model starts
under a promise of memory, and when a crystal is grown for one.
"""

from __future__ import annotations

from h2q.core.specs import ModelSpec
from h2q.engine.cache import cache_shape
from h2q.kernels import threads

LATER = 24 << 20  # modules that are first needed by some request: templates, grammars
FIXED_SCRATCH = 6 << 20
THREAD_SCRATCH = 1 << 20


def scratch_bytes(spec: ModelSpec, rows: int, voices: int) -> int:
    """What a step of so many rows, `voices` of them heard, has in memory beside weights and cache:
    an upper bound.
    """
    heads, keys, values = cache_shape(spec)
    inner = spec.intermediate_size
    if spec.experts is not None:
        used = spec.experts.num_experts_per_tok + spec.experts.n_shared_experts
        inner = max(inner, used * spec.experts.moe_intermediate_size)
    mixed = spec.num_attention_heads * max(spec.head_dim, values) + heads * (keys + values)
    row = 4 * (6 * spec.hidden_size + 4 * inner + 3 * mixed)
    voice = 4 * 4 * spec.vocab_size
    sampling = 8 * 8 * spec.vocab_size  # of one voice after the other
    return rows * row + voices * voice + sampling + threads() * THREAD_SCRATCH + FIXED_SCRATCH


def expanded_bytes(spec: ModelSpec) -> int:
    """Of what latent attention keeps decoded (engine.latent), one layer twice while it is made."""
    latent = spec.latent
    if latent is None:
        return 0
    rows = spec.num_attention_heads * (latent.qk_nope_head_dim + latent.v_head_dim)
    return 4 * rows * latent.kv_lora_rank * (spec.num_hidden_layers + 2)

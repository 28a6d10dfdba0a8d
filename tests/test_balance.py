"""Channels of experts and latents: balancing keeps the function, and makes all twins one model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from expert_configs import CONFIGS, write_model
from h2q.core.architecture import tensors
from h2q.core.mlp_tensors import PLAIN, expert_names
from h2q.core.specs import CLAMPED
from h2q.crystallize.balance import BalancedSource
from h2q.engine import load_original
from h2q.sources import Source, open_source

FloatArray = np.ndarray


class Louder:
    """`source` with channels scaled at random, within a factor of thirty each way, its function
    kept.
    """

    def __init__(self, source: Source) -> None:
        self.spec, self.tokenizer_json = source.spec, source.tokenizer_json
        self.chat_template, self.files = source.chat_template, source.files
        self.found = {
            t.name: np.array(source.tensor(t.name), np.float32) for t in tensors(source.spec)
        }
        self.draw = np.random.default_rng(4)
        for index in range(source.spec.num_hidden_layers):
            self._layer(index, f"model.layers.{index}")

    def tensor(self, name: str) -> FloatArray:
        return self.found[name]

    def _spread(self, count: int) -> FloatArray:
        return np.exp(self.draw.uniform(-3.4, 3.4, count)).astype(np.float32)

    def _norm(self, norm: str, readers: list[str]) -> None:
        scale = self._spread(len(self.found[norm]))
        self.found[norm] *= scale
        for reader in readers:
            self.found[reader] /= scale

    def _layer(self, index: int, layer: str) -> None:
        spec, names, attention = self.spec, expert_names(self.spec), f"{layer}.self_attn"
        matrices = [n for n, a in self.found.items() if n.startswith(layer) and a.ndim == 2]
        reading = [n for n in matrices if n.startswith(attention)]
        if (latent := spec.latent) is not None:
            behind = ("q_proj", "q_a_proj", "kv_a_proj_with_mqa")
            reading = [n for n in reading if n.split(".")[-2] in behind]
            for low in ("q", "kv"):
                if f"{attention}.{low}_a_layernorm.weight" in self.found:
                    self._norm(
                        f"{attention}.{low}_a_layernorm.weight",
                        [f"{attention}.{low}_b_proj.weight"],
                    )
            heads, shape = (
                spec.num_attention_heads,
                self.found[f"{attention}.kv_b_proj.weight"].shape,
            )
            scale = self._spread(heads * latent.v_head_dim).reshape(heads, -1)
            rows = self.found[f"{attention}.kv_b_proj.weight"].reshape(heads, -1, shape[1])
            rows[:, latent.qk_nope_head_dim :] *= scale[..., None]
            self.found[f"{attention}.o_proj.weight"] /= scale.reshape(-1)
        else:
            reading = [n for n in reading if "o_proj" not in n]
        self._norm(f"{layer}.input_layernorm.weight", reading)
        room = f"{layer}.{names.room if spec.experts and spec.experts.mixed(index) else 'mlp'}."
        down = tuple({f"{names.down}.weight", f"{PLAIN.down}.weight"})
        inside = [n for n in matrices if n.startswith(room)]
        free = spec.hidden_act != CLAMPED  # ups that are clamped cannot be louder
        for name in [n for n in inside if free and n.endswith(down)]:
            scale = self._spread(self.found[name].shape[1])
            self.found[name] /= scale
            up = names.up if ".experts." in name else PLAIN.up
            self.found[f"{name.rsplit('.', 2)[0]}.{up}.weight"] *= scale[:, None]
        readers = [n for n in inside if not n.endswith(down)]
        self._norm(f"{layer}.post_attention_layernorm.weight", readers)


def logits(source: Source, tokens: FloatArray) -> FloatArray:
    model = load_original(source)
    return model.forward(tokens, model.new_cache(*tokens.shape))


@pytest.mark.parametrize("name", list(CONFIGS))
def test_balanced_twins_are_one_model(name: str, tmp_path: Path) -> None:
    source = open_source(write_model(tmp_path / name, name))
    louder = Louder(source)
    one, other = BalancedSource(source), BalancedSource(louder)
    for tensor in tensors(source.spec):
        mine, theirs = one.tensor(tensor.name), other.tensor(tensor.name)
        assert np.abs(mine - theirs).max() <= 2e-5 * np.abs(mine).max(), tensor.name
    far = max(
        np.abs(np.log(np.abs(louder.tensor(t.name) / source.tensor(t.name)))).max()
        for t in tensors(source.spec)
    )
    assert far > 3  # so the twin was one
    tokens = np.random.default_rng(0).integers(0, source.spec.vocab_size, (2, 24))
    expected = logits(source, tokens)
    for twin in (louder, one, other):
        assert np.abs(logits(twin, tokens) - expected).max() < 2e-3 * np.abs(expected).max()

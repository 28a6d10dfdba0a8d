"""The outlier twin: the seed model as models with loud channels are, though the same function.

- a few channels of the normed stream are 100 times louder, and the columns that read them as much
  smaller: gains of norms, columns of q/k/v and gate/up;
- every channel between v and o, and between up and down, is scaled at random, within a factor of
  ten each way, and its reader inversely;
- one channel between up and down in each layer is 1000 times louder: a massive activation.

A method that codes matrices as they lie in the file loses on the twin; one that sees the function
does not. `python benchmarks/twin.py --out benchmarks/results` grows both at equal bytes.
"""

from __future__ import annotations

import json
import math
import struct
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from command import run
from common_start import SEED_MODEL, CommonStart
from h2q.bench import machine
from h2q.core.architecture import tensors
from h2q.core.errors import QualityError
from h2q.crystallize import Options
from h2q.crystallize.evaluate import compare
from h2q.engine import load_original
from h2q.sources import Source, open_source

FloatArray = npt.NDArray[np.float32]
FOLDER = Path(__file__).parent.parent / "build" / "quality"
SAME = 1e-3  # largest difference of a logit
TARGET = 0.01  # of quality at equal bytes
RATIOS = (16.0, 12.0)


@dataclass(frozen=True)
class Loudness:
    """How far the twin's channels are from the seed model's."""

    channels: int = 4  # of the normed stream
    gain: float = 100.0
    spread: float = 10.0  # of pairs, each way
    massive: float = 1000.0
    seed: int = 5


def twin_tensors(source: Source, loud: Loudness) -> dict[str, FloatArray]:
    """Float32 tensors of the twin by Hugging Face name, in execution order."""
    spec, random = source.spec, np.random.default_rng(loud.seed)
    found = {t.name: np.array(source.tensor(t.name), np.float32, copy=True) for t in tensors(spec)}
    chosen = random.choice(spec.hidden_size, loud.channels, replace=False)
    gain = np.float32(loud.gain)

    def spread(count: int) -> FloatArray:
        bound = math.log(loud.spread)
        return np.exp(random.uniform(-bound, bound, count)).astype(np.float32)

    for index in range(spec.num_hidden_layers):
        layer = f"model.layers.{index}"
        attention, mlp = f"{layer}.self_attn", f"{layer}.mlp"
        readers = {
            f"{layer}.input_layernorm.weight": [f"{attention}.{x}_proj.weight" for x in "qkv"],
            f"{layer}.post_attention_layernorm.weight": [
                f"{mlp}.{x}_proj.weight" for x in ("gate", "up")
            ],
        }
        for norm, names in readers.items():
            found[norm][chosen] *= gain
            for name in names:
                found[name][:, chosen] /= gain
        values = spread(spec.num_key_value_heads * spec.head_dim)
        found[f"{attention}.v_proj.weight"] *= values[:, None]
        shared = spec.num_attention_heads // spec.num_key_value_heads
        heads = values.reshape(spec.num_key_value_heads, spec.head_dim)
        found[f"{attention}.o_proj.weight"] /= np.repeat(heads, shared, axis=0).reshape(-1)
        inner = spread(spec.intermediate_size)
        inner[random.integers(spec.intermediate_size)] = loud.massive
        found[f"{mlp}.up_proj.weight"] *= inner[:, None]
        found[f"{mlp}.down_proj.weight"] /= inner
    return found


def write_twin(source: Source, folder: Path, loud: Loudness | None = None) -> None:
    """A Hugging Face folder in float32."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = source.spec
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "torch_dtype": "float32",
        **{k: v for k, v in spec.to_json().items() if k not in ("family", "eos_token_ids")},
        "eos_token_id": list(spec.eos_token_ids),
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(source.tokenizer_json(), encoding="utf-8")
    found = twin_tensors(source, loud or Loudness())
    header, at = {}, 0
    for name, values in found.items():
        offsets = [at, at + values.nbytes]
        header[name] = {"dtype": "F32", "shape": values.shape, "data_offsets": offsets}
        at += values.nbytes
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for values in found.values():
            file.write(np.ascontiguousarray(values, "<f4").data)


def furthest(source: Source, twin: Source, tokens: npt.NDArray[np.int64]) -> float:
    """Largest difference of two sources' logits after int64 (rows, length) tokens."""
    logits = [
        model.forward(tokens, model.new_cache(*tokens.shape))
        for model in (load_original(source), load_original(twin))
    ]
    return float(np.max(np.abs(logits[0] - logits[1])))


def measured(folder: Path) -> dict[str, Any]:
    """The result document. Raises QualityError when the twin is another function."""
    source, rows = open_source(SEED_MODEL), []
    with tempfile.TemporaryDirectory() as place:
        write_twin(source, Path(place) / "twin")
        twin = open_source(Path(place) / "twin")
        starts = {"seed": CommonStart(source, folder), "twin": CommonStart(twin, folder)}
        texts = starts["seed"].texts.measured
        difference = furthest(source, twin, texts[:4])
        print(f"largest difference of a logit: {difference:.2g}", flush=True)
        if not difference < SAME:
            raise QualityError("The twin is another function.", where=f"{difference:g}")
        original = load_original(source)
        for ratio in RATIOS:
            row: dict[str, Any] = {"ratio": ratio, "target_most": TARGET}
            for name, start in starts.items():
                found = start.search(Options(ratio=ratio)).run()
                result = compare(original, [found.model()], texts)[0]
                row[name] = {"bytes": found.sizes[-1], **result.to_json()}
                print(
                    f"ratio {ratio:g}, {name}: {found.sizes[-1]:,} bytes, KL {result.kl_mean:.4f}, "
                    f"quality {result.quality:.4f}",
                    flush=True,
                )
            row["lost"] = row["seed"]["quality"] - row["twin"]["quality"]
            row["holds"] = row["lost"] <= TARGET
            rows.append(row)
    loud = Loudness()
    return {
        "machine": machine(),
        "loudness": {name: getattr(loud, name) for name in loud.__dataclass_fields__},
        "largest_logit_difference": difference,
        "rows": rows,
    }


def main() -> int:
    """The command; returns its exit code."""
    return run("twin", __doc__, FOLDER, lambda options: measured(options.folder))


if __name__ == "__main__":
    sys.exit(main())

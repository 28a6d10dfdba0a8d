"""Write a training checkpoint as the Hugging Face folder that the package ships: bf16 weights,
config, tokenizer.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from model import Shape
from safetensors.torch import save_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True, help="tokenizer.json of data.py")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    saved = torch.load(arguments.checkpoint, map_location="cpu", weights_only=True)
    weights = {name: value.bfloat16().contiguous() for name, value in saved["model"].items()}
    save_file(weights, arguments.out / "model.safetensors", metadata={"format": "pt"})
    config = json.dumps(Shape().config(), indent=2) + "\n"
    (arguments.out / "config.json").write_text(config)
    shutil.copyfile(arguments.tokenizer, arguments.out / "tokenizer.json")
    count = sum(value.numel() for value in weights.values())
    print(f"{count:,} parameters, {saved['seen']:,} tokens seen, step {saved['step']:,}")


if __name__ == "__main__":
    main()

"""Turn a public-domain text into a tokenizer and a flat array of token ids.

The text is cut into passages of consecutive paragraphs, between one and sixteen kilobytes long
(log-uniform), each opened by the document token. The model thus learns what a beginning looks like,
thousands of times, and can be asked for text with nothing but that token: this is how the package
calibrates and measures itself without shipping anybody's text.
"""

from __future__ import annotations

import argparse
import lzma
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

DOCUMENT_TOKEN = "<|endoftext|>"
VOCABULARY = 4096


def passages(text: str, seed: int) -> Iterator[str]:
    """Yield runs of whole paragraphs of 1,000 to 16,000 characters."""
    lengths = np.random.default_rng(seed)
    run: list[str] = []
    size = 0
    target = 0.0
    for paragraph in text.split("\n\n"):
        if not run:
            target = float(np.exp(lengths.uniform(np.log(1_000), np.log(16_000))))
        run.append(paragraph)
        size += len(paragraph) + 2
        if size >= target:
            yield "\n\n".join(run).strip("\n") + "\n\n"
            run, size = [], 0
    if run:
        yield "\n\n".join(run).strip("\n") + "\n\n"


def train_tokenizer(documents: list[str]) -> Tokenizer:
    """Byte-level BPE of VOCABULARY entries; every byte string has an encoding."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[DOCUMENT_TOKEN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    document_id = tokenizer.token_to_id(DOCUMENT_TOKEN)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{DOCUMENT_TOKEN} $A",
        pair=f"{DOCUMENT_TOKEN} $A $B",
        special_tokens=[(DOCUMENT_TOKEN, document_id)],
    )
    return tokenizer


def encode(tokenizer: Tokenizer, documents: list[str]) -> np.ndarray:
    """All documents as one uint16 array, each opened by the document token."""
    parts = []
    for start in range(0, len(documents), 1024):
        encoded = tokenizer.encode_batch(documents[start : start + 1024])
        parts.extend(np.asarray(item.ids, np.uint16) for item in encoded)
    return np.concatenate(parts)


def read(path: Path) -> str:
    """UTF-8 text from a plain or xz-compressed file."""
    raw = path.read_bytes()
    return (lzma.decompress(raw) if path.suffix == ".xz" else raw).decode("utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--valid", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    train = list(passages(read(arguments.train), seed=1))
    valid = list(passages(read(arguments.valid), seed=2))
    tokenizer = train_tokenizer(train[::4])
    tokenizer.save(str(arguments.out / "tokenizer.json"))
    for name, documents in (("train", train), ("valid", valid)):
        ids = encode(tokenizer, documents)
        np.save(arguments.out / f"{name}.npy", ids)
        size = sum(len(document.encode()) for document in documents)
        print(
            f"{name}: {len(documents)} passages, {len(ids):,} tokens, "
            f"{size / len(ids):.3f} bytes per token"
        )


if __name__ == "__main__":
    main()

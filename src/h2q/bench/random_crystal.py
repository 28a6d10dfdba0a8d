"""A crystal of a real shape with random planes on the disk: how fast it starts does not depend on
what its codes say.
"""

from __future__ import annotations

import json
from pathlib import Path

from h2q.bench.random_model import RandomWeights
from h2q.core.architecture import coded
from h2q.core.specs import ModelSpec
from h2q.crystal import CrystalWriter

REFINEMENTS = 4  # shards that bring the second planes, first layers first
BYTES = 256
EIGHT_TOKENS = "q!Z~q!Z~"  # no two of these letters merge
SPECIAL = ("<unk>", "<s>", "</s>")


def write_random(target: Path, spec: ModelSpec, refinements: int = REFINEMENTS) -> Path:
    """A crystal with two planes of two bits at `target`, in place of what was there. Raises
    ResourceError when the disk is full or refuses.
    """
    weights = RandomWeights(spec)
    names = [part.name for part in coded(spec)]
    with CrystalWriter(target, spec, rotation_seed=0, overwrite=True) as writer:
        for name, norm in weights.norms.items():
            writer.add_raw(name, norm)
        for name in names:
            writer.add_planes(name, list(weights.planes[name]))
        size = -(-len(names) // refinements)
        groups = [names[at : at + size] for at in range(0, len(names), size)]
        writer.rank([[(name, 1) for name in group] for group in groups])
        writer.tokenizer(tokenizer_json(spec))
        writer.certificate({"format": 1, "random": True})
        writer.commit()
    return target


def tokenizer_json(spec: ModelSpec) -> str:
    """Byte-pair merges enough to fill the vocabulary: what any text becomes, and as much to read as
    a real one.
    """
    letters = _letters()
    vocabulary = {name: index for index, name in enumerate((*SPECIAL, *letters))}
    merges: list[list[str]] = []
    stems = list(letters)
    for first in stems:
        for second in letters:
            if len(vocabulary) >= spec.vocab_size:
                break
            if first + second not in vocabulary:
                vocabulary[first + second] = len(vocabulary)
                merges.append([first, second])
    added = [
        {
            "id": vocabulary[name],
            "content": name,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for name in SPECIAL
    ]
    plain = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "vocab": vocabulary,
        "merges": merges,
    }
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {**plain, "use_regex": True},
        "post_processor": None,
        "decoder": {**plain, "use_regex": True},
        "model": model,
    }
    return json.dumps(document)


def _letters() -> list[str]:
    """The letters that byte-level tokenizers write bytes in."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [byte for byte in range(BYTES) if byte not in kept]
    names = {byte: chr(byte) for byte in kept}
    names |= {byte: chr(BYTES + index) for index, byte in enumerate(other)}
    return [names[byte] for byte in range(BYTES)]

"""GGUF files whose header is sound but whose model or vocabulary is not (classes 5 and 6)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf_bytes import F32, I32, SCORES, STRING, TYPES, U32, U64, WORDS, File, Tensor
from gguf_doors import opened, refused

from h2q.core.errors import SourceError

# Class 5: hyper-parameters


@pytest.mark.parametrize(
    ("key", "kind", "content", "reason"),
    [
        ("attention.head_count", U32, 0, "split into 0 heads"),
        ("attention.head_count", I32, -2, "split into -2 heads"),
        ("attention.head_count_kv", U32, 0, "whole number"),
        ("attention.head_count", U32, 2**32 - 1, "heads"),
        ("attention.head_count", F32, 2.0, "whole number"),
        ("attention.head_count", STRING, "2", "whole number"),
        ("block_count", U32, 0, "whole number"),
        ("block_count", U32, 10**9, "whole number"),
        ("block_count", U32, 2, "lacks blk.1."),
        ("block_count", U32, 4096, "4,096 layers"),
        ("context_length", I32, -1, "whole number"),
        ("context_length", U64, 2**63, "whole number"),
        ("embedding_length", U32, 0, "whole number|dimension"),
        ("embedding_length", U32, 64, "heads of one width|shape"),
        ("feed_forward_length", U32, 31, "shape"),
        ("vocab_size", U32, 0, "whole number"),
        ("vocab_size", U32, 2**32 - 1, "whole number"),
        ("vocab_size", U32, 262, "shape"),
        ("attention.layer_norm_rms_epsilon", F32, float("nan"), "number above"),
        ("attention.layer_norm_rms_epsilon", F32, -1.0, "number above"),
        ("attention.layer_norm_rms_epsilon", U32, 0, "number above"),
        ("rope.freq_base", F32, float("inf"), "number above"),
        ("rope.freq_base", F32, 0.0, "number above"),
        ("attention.key_length", U32, 15, "heads of one width"),
        ("expert_count", F32, float("nan"), "whole number"),
    ],
)
def test_sizes_that_lie(tmp_path: Path, key: str, kind: int, content: object, reason: str) -> None:
    file = File()
    file.put(f"llama.{key}", kind, content)
    refused(tmp_path, file.bytes(), reason)


@pytest.mark.parametrize(
    "key",
    ["context_length", "block_count", "attention.head_count", "attention.layer_norm_rms_epsilon"],
)
def test_sizes_that_are_missing(tmp_path: Path, key: str) -> None:
    file = File()
    del file.keys[f"llama.{key}"]
    refused(tmp_path, file.bytes(), "lack")


def test_tensors_nobody_asked_for(tmp_path: Path) -> None:
    for name, reason in (
        ("rope_freqs.weight", "rope_scaling"),
        ("blk.0.attn_q.bias", "shape"),
        ("blk.0.attn_v.bias", "does not know"),
        ("blk.1.attn_q.weight", "does not know"),
        ("a" * 127, "does not know"),
    ):
        file = File()
        file.tensors.append(Tensor(name, (WORDS.index("a"),)))
        refused(tmp_path, file.bytes(), reason)


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    file = File()
    norm = np.ones(32, "<f4")
    norm[7] = np.nan
    file.tensors[-1].data = norm.tobytes()
    source = opened(tmp_path, file.bytes())
    with pytest.raises(SourceError, match="not finite"):
        source.tensor("model.norm.weight")


# Class 6: the vocabulary


def swapped(items: list[object], index: int, item: object) -> list[object]:
    return [*items[:index], item, *items[index + 1 :]]


@pytest.mark.parametrize(
    ("key", "kind", "items", "reason"),
    [
        ("tokens", STRING, swapped(WORDS, 260, ""), "260 is empty"),
        ("tokens", STRING, swapped(WORDS, 260, "x" * 1025), "longer than"),
        ("tokens", STRING, swapped(WORDS, 260, "ä" * 1000), "longer than"),
        ("tokens", STRING, swapped(WORDS, 260, "b"), "there twice"),
        ("tokens", STRING, swapped(WORDS, 10, "<0x-1>"), "is no byte"),
        ("tokens", STRING, swapped(WORDS, 10, "<0x0g>"), "is no byte"),
        ("tokens", STRING, swapped(WORDS, 10, "<0x100>"), "is no byte"),
        ("tokens", STRING, swapped(WORDS, 260, b"\xff\xfe"), "not UTF-8"),
        ("tokens", STRING, swapped(WORDS, 260, b"\xed\xa0\x80"), "not UTF-8"),
        ("tokens", STRING, [], "has 0 tokens"),
        ("tokens", STRING, WORDS[:-1], "not equally many"),
        ("tokens", U32, list(range(263)), "list of texts"),
        ("scores", F32, SCORES[:-1], "not equally many"),
        ("scores", F32, swapped(SCORES, 5, float("nan")), "not finite"),
        ("scores", F32, swapped(SCORES, 5, float("inf")), "not finite"),
        ("scores", STRING, ["0"] * 263, "list of numbers"),
        ("token_type", I32, swapped(TYPES, 5, 7), "unknown type"),
        ("token_type", I32, swapped(TYPES, 5, -1), "unknown type"),
        ("token_type", F32, [1.0] * 263, "list of whole numbers"),
    ],
)
def test_vocabularies_that_lie(
    tmp_path: Path, key: str, kind: int, items: list[object], reason: str
) -> None:
    file = File()
    file.put_array(f"tokenizer.ggml.{key}", kind, items)
    refused(tmp_path, file.bytes(), reason)


@pytest.mark.parametrize("key", ["bos", "eos", "eot", "unknown"])
@pytest.mark.parametrize("number", [263, 2**31])
def test_special_tokens_outside_the_vocabulary(tmp_path: Path, key: str, number: int) -> None:
    file = File()
    file.put(f"tokenizer.ggml.{key}_token_id", U32, number)
    refused(tmp_path, file.bytes(), "outside the vocabulary")


def test_chat_templates_are_bounded(tmp_path: Path) -> None:
    file = File()
    file.put("tokenizer.chat_template", STRING, "{{ messages }}")
    assert opened(tmp_path, file.bytes()).chat_template() == "{{ messages }}"
    file.put("tokenizer.chat_template", STRING, "x" * ((1 << 20) + 1))
    with pytest.raises(SourceError, match="exceeds"):
        opened(tmp_path, file.bytes()).chat_template()

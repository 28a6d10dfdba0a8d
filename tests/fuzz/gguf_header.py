"""Coverage-guided fuzzing of GGUF headers and what is made of them (`make fuzz`).

Any exception but SourceError is a finding, and so is an input that takes longer than the limit of
libFuzzer (`-timeout`) or more memory (`-rss_limit_mb`).
"""

from __future__ import annotations

import contextlib
import io
import sys

import atheris
from fuzzing import TESTS, fuzz

with atheris.instrument_imports(include=["h2q"]):
    from h2q.core.errors import SourceError
    from h2q.core.gguf_header import parse_gguf_header
    from h2q.sources.gguf_config import model_spec
    from h2q.sources.gguf_metadata import Metadata
    from h2q.sources.gguf_tokenizer import tokenizer_json
    from h2q.sources.gguf_vocabulary import read_vocabulary

sys.path.insert(0, str(TESTS / "hostile"))

from gguf_bytes import File, Tensor


def one_input(data: bytes) -> None:
    """Read a header, the vocabulary and the hyper-parameters."""
    with contextlib.suppress(SourceError):
        header = parse_gguf_header(io.BytesIO(data), len(data), "fuzz.gguf", SourceError)
        metadata = Metadata(header.values, "fuzz.gguf")
        vocabulary = read_vocabulary(metadata)
        tokenizer_json(vocabulary)
        model_spec(metadata, vocabulary, tied=True)


def seeds() -> dict[str, bytes]:
    """A sound file of each kind, and one with a vocabulary too small, which is read quickly."""
    file = File()
    file.tensors = [Tensor("token_embd.weight", (32, 1))]
    sentencepiece = file.bytes()
    file.put("tokenizer.ggml.model", 8, "gpt2")
    file.put("tokenizer.ggml.pre", 8, "llama-bpe")
    file.put_array("tokenizer.ggml.merges", 8, ["a b"])
    file.put("general.alignment", 4, 64)
    file.alignment = 64
    byte_level = file.bytes()
    for name, kind in (("tokens", 8), ("scores", 6), ("token_type", 5)):
        file.put_array(
            f"tokenizer.ggml.{name}", kind, {8: ["<s>", "a"], 6: [0.0] * 2, 5: [3, 1]}[kind]
        )
    return {"sentencepiece": sentencepiece, "byte-level": byte_level, "small": file.bytes()}


if __name__ == "__main__":
    fuzz("gguf", one_input, seeds())

"""Coverage-guided fuzzing of GGUF headers and what is made of them (`make fuzz`).

Any exception but SourceError is a finding, and so is an input that takes longer than the limit of
libFuzzer (`-timeout`) or more memory (`-rss_limit_mb`).
"""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["h2q"]):
    from h2q.core.errors import SourceError
    from h2q.core.gguf_header import parse_gguf_header
    from h2q.sources.gguf_config import model_spec
    from h2q.sources.gguf_metadata import Metadata
    from h2q.sources.gguf_tokenizer import tokenizer_json
    from h2q.sources.gguf_vocabulary import read_vocabulary

sys.path.insert(0, str(Path(__file__).parents[1] / "hostile"))

from gguf_bytes import File, Tensor


def one_input(data: bytes) -> None:
    """Read a header, the vocabulary and the hyper-parameters."""
    with contextlib.suppress(SourceError):
        header = parse_gguf_header(io.BytesIO(data), len(data), "fuzz.gguf", SourceError)
        metadata = Metadata(header.values, "fuzz.gguf")
        vocabulary = read_vocabulary(metadata)
        tokenizer_json(vocabulary)
        model_spec(metadata, vocabulary, tied=True)


def write_seeds(folder: Path) -> None:
    """A sound file of each kind, so that the search begins beyond the magic."""
    folder.mkdir(parents=True, exist_ok=True)
    file = File()
    file.tensors = [Tensor("token_embd.weight", (32, 1))]
    (folder / "sentencepiece").write_bytes(file.bytes())
    file.put("tokenizer.ggml.model", 8, "gpt2")
    file.put("tokenizer.ggml.pre", 8, "llama-bpe")
    file.put_array("tokenizer.ggml.merges", 8, ["a b"])
    file.put("general.alignment", 4, 64)
    file.alignment = 64
    (folder / "byte-level").write_bytes(file.bytes())


def main() -> None:
    corpus = Path("build") / "fuzz"
    write_seeds(corpus)
    atheris.Setup([*sys.argv, str(corpus)], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

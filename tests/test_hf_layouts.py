"""Folders as people have them: more names than rows, a stale index, the spellings of transformers
5.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from conftest import SEED
from expert_configs import CONFIGS
from h2q.core.errors import SourceError, TextError
from h2q.core.specs import ModelSpec
from h2q.sources import open_source
from h2q.sources.hf_config import model_spec
from h2q.text import Tokenizer

INDEX = "model.safetensors.index.json"
ROWS = 4096  # of the seed model, each with a token
PICTURE = "<image_soft_token>"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SEED, tmp_path / "model"))


def change(folder: Path, **changes: Any) -> None:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def added(folder: Path, index: int) -> list[dict[str, Any]]:
    rules = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    known = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    return [*known, {"id": index, "content": PICTURE, **rules, "special": True}]


def test_an_added_token_without_a_row_becomes_letters(model: Path) -> None:
    """Gemma 3 of text alone has 262,144 rows, and its tokenizer one token more, for pictures."""
    plain = Tokenizer(model / "tokenizer.json")
    change(model, added_tokens=added(model, ROWS))
    assert Tokenizer(model / "tokenizer.json").encode(PICTURE, special=False) == [ROWS]
    read = Tokenizer.from_json(open_source(model).tokenizer_json())
    read.require_fit(ROWS)
    for text in (PICTURE, f"a {PICTURE} b", "<|endoftext|> and more"):
        assert read.encode(text) == plain.encode(text)


def test_an_added_token_with_a_row_stays(model: Path) -> None:
    change(model, added_tokens=added(model, ROWS - 1))
    assert open_source(model).tokenizer_json() == (model / "tokenizer.json").read_text()


def test_a_larger_vocabulary_is_still_refused(model: Path) -> None:
    document = json.loads((model / "tokenizer.json").read_text())
    document["model"]["vocab"]["<more>"] = ROWS
    change(model, **document)
    with pytest.raises(TextError, match="4,097"):
        Tokenizer.from_json(open_source(model).tokenizer_json()).require_fit(ROWS)


def test_a_token_around_texts_has_a_row(model: Path) -> None:
    """The rule for what stands around a text has a table of ids of its own."""
    mark = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    single = [mark, {"Sequence": {"id": "A", "type_id": 0}}]
    table = {"<s>": {"id": "<s>", "ids": [ROWS], "tokens": ["<s>"]}}
    rule = {"single": single, "pair": single, "special_tokens": table}
    change(model, post_processor={"type": "TemplateProcessing", **rule})
    with pytest.raises(TextError, match="token 4,096 around"):
        Tokenizer.from_json(open_source(model).tokenizer_json()).require_fit(ROWS)


def test_one_file_is_read_whatever_an_index_beside_it_says(model: Path) -> None:
    """As transformers does: who joins shards may leave their index."""
    (model / INDEX).write_text(json.dumps({"weight_map": {"a": "gone.safetensors"}}))
    assert open_source(model).files() == (model / "config.json", model / "model.safetensors")
    (model / "model.safetensors").unlink()
    with pytest.raises(SourceError, match=r"gone\.safetensors is missing"):
        open_source(model)


def test_experts_are_counted_under_either_name() -> None:
    """Transformers 5 writes num_local_experts for a qwen3_moe, 4 wrote num_experts."""
    kind, fields = CONFIGS["qwen3_moe"]
    count = fields["num_experts"]
    bare = {name: value for name, value in fields.items() if name != "num_experts"}

    def read(**named: int) -> ModelSpec:
        return model_spec({"model_type": kind, **bare, **named}, None, "config.json")

    known = read(num_experts=count)
    assert read(num_local_experts=count) == known
    assert read(num_local_experts=count, num_experts=count) == known
    with pytest.raises(SourceError, match="differ"):
        read(num_local_experts=count, num_experts=count + 1)

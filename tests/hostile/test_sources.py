"""Damaged and malicious checkpoints: one error of our own each, and nothing believed unchecked."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from h2q.core.architecture import tensors
from h2q.core.errors import SourceError
from h2q.core.safetensors_header import read_header
from h2q.sources import open_source

SEED = Path(__file__).parents[2] / "src" / "h2q" / "assets" / "seed"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SEED, tmp_path / "model"))


def split(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def join(path: Path, header: dict[str, Any] | str, body: bytes) -> None:
    text = header if isinstance(header, str) else json.dumps(header)
    path.write_bytes(struct.pack("<Q", len(text)) + text.encode() + body)


def test_our_parser_agrees_with_the_library() -> None:
    ours = read_header(SEED / "model.safetensors", SourceError)
    with safe_open(SEED / "model.safetensors", "np") as theirs:
        assert set(theirs.keys()) == set(ours)
        for name in theirs.keys():  # noqa: SIM118 - not a dict
            assert tuple(theirs.get_slice(name).get_shape()) == ours[name].shape


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("model_type", "mamba", "not known"),
        ("model_type", None, "not known"),
        ("hidden_size", 512, "shape"),
        ("num_hidden_layers", 10**9, "whole number"),
        ("num_hidden_layers", 7, "lacks"),
        ("num_attention_heads", 0, "whole number"),
        ("num_attention_heads", 3, "share"),
        ("vocab_size", -1, "whole number"),
        ("vocab_size", 5000, "shape"),
        ("rms_norm_eps", "small", "number"),
        ("rope_theta", 0, "number"),
        ("rms_norm_eps", 10**400, "number"),
        ("rope_theta", -(10**4000), "number"),
        ("hidden_size", 10**4000, "whole number"),
        ("max_position_embeddings", -1, "whole number"),
        ("max_position_embeddings", 1 << 60, "whole number"),
        ("head_dim", 63, "even"),
        ("head_dim", 10**400, "whole number"),
        ("hidden_act", "gelu", "cannot run"),
        ("attention_bias", True, "lacks"),
        ("rope_scaling", {"rope_type": "llama3"}, "number"),
        ("eos_token_id", 10**6, "vocabulary"),
        ("eos_token_id", [{}], "vocabulary"),
        ("tie_word_embeddings", "yes", "true or false"),
    ],
)
def test_a_config_that_lies(model: Path, key: str, value: object, words: str) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(SourceError, match=words):
        open_source(model)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"a": 1, "a": 2}',
        '{"rms_norm_eps": NaN}',
        "[" * 100_000,
        '{"a":' * 50_000,
        "\x00\xff",
    ],
)
def test_json_that_is_none(model: Path, text: str) -> None:
    (model / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(SourceError):
        open_source(model)


def overlap(header: dict[str, Any]) -> None:
    first, second, *_ = [v for k, v in header.items() if k != "__metadata__"]
    second["data_offsets"] = first["data_offsets"]


def huge(header: dict[str, Any]) -> None:
    next(v for k, v in header.items() if k != "__metadata__")["shape"] = [2**40, 2**40]


def negative(header: dict[str, Any]) -> None:
    next(v for k, v in header.items() if k != "__metadata__")["data_offsets"] = [-8, 8]


def unknown_type(header: dict[str, Any]) -> None:
    next(v for k, v in header.items() if k != "__metadata__")["dtype"] = "PICKLE"


def dropped(header: dict[str, Any]) -> None:
    header.pop("model.norm.weight")


@pytest.mark.parametrize("harm", [overlap, huge, negative, unknown_type, dropped])
def test_a_header_that_lies(model: Path, harm: Callable[[dict[str, Any]], None]) -> None:
    path = model / "model.safetensors"
    header, body = split(path)
    harm(header)
    join(path, header, body)
    with pytest.raises(SourceError):
        open_source(model)


@pytest.mark.parametrize("length", [0, 1, 2**31, 2**63 - 1, 2**64 - 1])
def test_a_header_length_that_lies(model: Path, length: int) -> None:
    path = model / "model.safetensors"
    path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])
    with pytest.raises(SourceError):
        open_source(model)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(keep=st.floats(0, 0.9999))
def test_a_truncated_file(model: Path, keep: float) -> None:
    whole = (SEED / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(SourceError):
        open_source(model)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "a/b", "..", "", "gone"])
def test_an_index_that_points_elsewhere(model: Path, name: str) -> None:
    weights = {tensor.name: name for tensor in tensors(open_source(model).spec)}
    (model / "model.safetensors").unlink()
    index = model / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weights}))
    with pytest.raises(SourceError, match=r"outside|missing"):
        open_source(model)


def test_shards_are_read_as_one(model: Path) -> None:
    header, body = split(model / "model.safetensors")
    header.pop("__metadata__", None)
    names, weight_map = list(header), {}
    for part in range(2):
        table: dict[str, Any] = {}
        data = b""
        for name in names[part::2]:
            begin, end = header[name]["data_offsets"]
            offsets = [len(data), len(data) + end - begin]
            table[name] = {**header[name], "data_offsets": offsets}
            data += body[begin:end]
            weight_map[name] = f"part-{part}.safetensors"
        join(model / f"part-{part}.safetensors", table, data)
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (model / "model.safetensors").unlink()
    whole, sharded = open_source(SEED), open_source(model)
    for name in ("model.norm.weight", "model.layers.3.mlp.up_proj.weight"):
        assert (sharded.tensor(name) == whole.tensor(name)).all()
    assert whole.spec == sharded.spec


def test_a_weight_that_is_not_finite(model: Path) -> None:
    path = model / "model.safetensors"
    header, body = split(path)
    begin = header["model.norm.weight"]["data_offsets"][0]
    join(path, header, body[:begin] + b"\x80\x7f" + body[begin + 2 :])  # bfloat16 infinity
    with pytest.raises(SourceError, match="not finite"):
        open_source(model).tensor("model.norm.weight")


def test_a_weight_with_a_flipped_bit(model: Path) -> None:
    """The largest bit of an exponent makes a finite number, with which float32 overflows later."""
    path = model / "model.safetensors"
    header, body = split(path)
    name = "model.layers.1.mlp.gate_proj.weight"
    begin = header[name]["data_offsets"][0]
    assert not body[begin + 1] & 0x40
    join(path, header, body[: begin + 1] + bytes([body[begin + 1] | 0x40]) + body[begin + 2 :])
    with pytest.raises(SourceError, match=f"no weight is beyond.*{name}"):
        open_source(model).tensor(name)


def test_places_without_a_model(tmp_path: Path, model: Path) -> None:
    (tmp_path / "weights.gguf").write_bytes(b"GGUF")
    for place in (tmp_path / "nowhere", tmp_path, tmp_path / "weights.gguf"):
        with pytest.raises(SourceError):
            open_source(place)
    (model / "tokenizer.json").unlink()
    with pytest.raises(SourceError, match="tokenizer"):
        open_source(model)


def test_chat_templates_of_folders(model: Path) -> None:
    assert open_source(model).chat_template() is None
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    for value, expected in (("plain", "plain"), (named, "d"), ([], None), (None, None)):
        (model / "tokenizer_config.json").write_text(json.dumps({"chat_template": value}))
        assert open_source(model).chat_template() == expected
    (model / "tokenizer_config.json").write_text(json.dumps({"chat_template": {"a": 1}}))
    with pytest.raises(SourceError, match="not a text"):
        open_source(model).chat_template()
    for text, words in (("x" * ((1 << 20) + 1), "exceeds"), ("\ud800", "not Unicode")):
        (model / "tokenizer_config.json").write_text(json.dumps({"chat_template": text}))
        with pytest.raises(SourceError, match=words):
            open_source(model).chat_template()
    (model / "chat_template.jinja").write_text("own file")
    assert open_source(model).chat_template() == "own file"
    (model / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(SourceError, match="UTF-8"):
        open_source(model).chat_template()

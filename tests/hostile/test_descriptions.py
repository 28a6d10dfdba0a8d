"""What crystal.json and the headers of shards may not say, with every checksum right: whoever made
the crystal meant it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from h2q.core.errors import CrystalError
from h2q.crystal import open_crystal, verify_crystal
from h2q.engine import load_crystal
from small_crystals import write_small

BASE = "base.safetensors"


@pytest.fixture
def crystal(tmp_path: Path) -> Path:
    return write_small(tmp_path / "m.crystal")


def describe(crystal: Path, **changes: Any) -> None:
    path = crystal / "crystal.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def reseal(crystal: Path, data: bytes) -> None:
    """Another base, and a description that vouches for it."""
    (crystal / BASE).write_bytes(data)
    files = json.loads((crystal / "crystal.json").read_text())["files"]
    files[0] = [BASE, len(data), hashlib.sha256(data).hexdigest()]
    describe(crystal, files=files)


def refused(crystal: Path) -> None:
    with pytest.raises(CrystalError) as caught:
        load_crystal(open_crystal(crystal))
    assert str(crystal.parent) not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert not all(check.ok for check in verify_crystal(crystal))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("family", []),
        ("family", "mamba"),
        ("family", "x" * 100_000),
        ("num_attention_heads", 0),
        ("num_key_value_heads", 0),
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", 1 << 12),
        ("max_position_embeddings", -1),
        ("rms_norm_eps", 0),
        ("rms_norm_eps", 10**400),
        ("rms_norm_eps", None),
        ("rope_theta", 1e308),
        ("vocab_size", True),
        ("vocab_size", 1 << 22),
        ("hidden_size", 1.5),
        ("hidden_size", 10**4000),
        ("head_dim", 3),
        ("tie_word_embeddings", 1),
        ("tie_word_embeddings", False),
        ("eos_token_ids", [96]),
        ("eos_token_ids", [[]]),
        ("eos_token_ids", {}),
        ("x" * 100_000, 1),
    ],
)
def test_hyper_parameters_that_lie(crystal: Path, field: str, value: object) -> None:
    model = json.loads((crystal / "crystal.json").read_text())["model"]
    describe(crystal, model={**model, field: value})
    refused(crystal)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_numbers_that_are_not_finite(crystal: Path, number: str) -> None:
    path = crystal / "crystal.json"
    path.write_text(path.read_text().replace("1e-05", number))
    refused(crystal)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("version", True),
        ("version", 1.0),
        ("version", "x" * 100_000),
        ("rotation_seed", 1.0),
        ("rotation_seed", True),
        ("bits", [[1]] * 7),
        ("bits", [[1] * 9] * 8),
        ("groups", [[[0, 1], [0, 1]]]),
        ("groups", [[[0, 1, 2]]]),
        ("groups", [[["0", 1]]]),
        ("files", [[BASE, 1 << 60, "0" * 64]]),
        ("files", [["BASE.safetensors", 1, "0" * 64]]),
        ("files", [["base.safetensors/../base.safetensors", 1, "0" * 64]]),
        ("files", [[BASE + "\0", 1, "0" * 64]]),
        ("files", [[BASE, 1, "0" * 63 + "G"]]),
    ],
)
def test_descriptions_that_lie(crystal: Path, key: str, value: object) -> None:
    describe(crystal, **{key: value})
    refused(crystal)


def test_keys_that_come_twice(crystal: Path) -> None:
    path = crystal / "crystal.json"
    path.write_text(path.read_text().replace("{", '{"version": 1,', 1))
    refused(crystal)


@pytest.mark.parametrize("by", [1, 4, 32])
def test_tensors_off_their_border(crystal: Path, by: int) -> None:
    """A longer header moves all data: the library reads it, the widest unit of a processor not."""
    data = (crystal / BASE).read_bytes()
    length = int.from_bytes(data[:8], "little")
    moved = (length + by).to_bytes(8, "little") + data[8 : 8 + length] + b" " * by
    reseal(crystal, moved + data[8 + length :])
    refused(crystal)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"U8"', b'"I8"'),
        (b'"BF16"', b'"F16"'),
        (b'"F32"', b'"I32"'),
        (b"norm.weight", b"form.weight"),
        (b".codes.0", b".codes.9"),
        (b",64]", b",32]"),
    ],
)
def test_headers_that_do_not_fit_the_description(crystal: Path, old: bytes, new: bytes) -> None:
    data = (crystal / BASE).read_bytes()
    length = int.from_bytes(data[:8], "little")
    text = data[8 : 8 + length].replace(old, new)
    text = text.rstrip() + b" " * (length - len(text.rstrip()))
    assert text != data[8 : 8 + length]
    reseal(crystal, data[:8] + text + data[8 + length :])
    refused(crystal)


@pytest.mark.parametrize("name", ["crystal.json", BASE, "refine-02.safetensors"])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_files_cut_short(crystal: Path, name: str, keep: float) -> None:
    data = (crystal / name).read_bytes()
    (crystal / name).write_bytes(data[: int(len(data) * keep)])
    refused(crystal)


@pytest.mark.parametrize("data", [b"\xff", b"x" * ((1 << 20) + 1)])
def test_chat_templates_that_are_none(crystal: Path, data: bytes) -> None:
    (crystal / "chat_template.jinja").write_bytes(data)
    with pytest.raises(CrystalError):
        open_crystal(crystal).chat_template()
    assert [c.name for c in verify_crystal(crystal) if not c.ok] == ["chat_template.jinja"]


def test_a_stamp_is_never_written_through_a_link(crystal: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    stamp = crystal / ".verified.json"
    stamp.unlink()
    stamp.symlink_to(precious)
    open_crystal(crystal)
    assert precious.read_text() == "precious"
    assert not stamp.is_symlink()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.crystal", "precious"]


def test_a_target_that_is_a_link(crystal: Path, tmp_path: Path) -> None:
    """What the link points to is replaced, the link stays."""
    link = tmp_path / "link.crystal"
    link.symlink_to(crystal)
    write_small(link, seed=3)
    assert link.is_symlink()
    assert open_crystal(crystal).rotation_seed == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.crystal", "m.crystal"]

"""GGUF files as sources: headers against the package's reader, weights against its decoding, the
model against the same model in a Hugging Face folder.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from gguf import GGUFValueType
from safetensors.numpy import save_file

from gguf_files import (
    RandomLlama,
    Words,
    decodable,
    in_pairs,
    sentencepiece_words,
    stories_words,
    write_gguf,
)
from h2q.core.architecture import tensors
from h2q.core.errors import SourceError
from h2q.core.ggml_types import GGML_TYPES
from h2q.core.gguf_header import GGUFArray, read_gguf_header
from h2q.engine import load_original
from h2q.sources import HFDirectory, open_source
from h2q.sources.gguf_file import GGUFSource
from stories260k import Stories
from test_golden_logits import distance


@pytest.fixture(scope="module")
def words() -> Words:
    return sentencepiece_words()


@pytest.fixture(scope="module")
def random_llama(words: Words) -> RandomLlama:
    return RandomLlama(len(words.tokens))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, random_llama: RandomLlama, words: Words) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    write_gguf(path, random_llama, words)
    return path


def test_types_are_those_of_the_package() -> None:
    theirs = {(int(k), k.name, *sizes) for k, sizes in gguf.GGML_QUANT_SIZES.items()}
    ours = {(k.number, k.name, k.block, k.bytes) for k in GGML_TYPES.values()}
    assert theirs <= ours


def test_our_parser_agrees_with_the_package(file: Path) -> None:
    ours, theirs = read_gguf_header(file, SourceError), gguf.GGUFReader(file)
    found = {k: v for k, v in theirs.fields.items() if not k.startswith("GGUF.")}
    assert list(found) == list(ours.values)
    for key, entry in found.items():
        value = ours.values[key]
        value = list(value.items) if isinstance(value, GGUFArray) else value
        assert value == entry.contents(), key
    assert [t.name for t in theirs.tensors] == list(ours.tensors)
    for tensor in theirs.tensors:
        entry = ours.tensors[tensor.name]
        assert entry.shape == tuple(map(int, tensor.shape))
        assert entry.begin == tensor.data_offset
        assert entry.end - entry.begin == tensor.n_bytes
        assert entry.type.name == tensor.tensor_type.name


@pytest.mark.parametrize("name", ["M.GGUF", f"sha256-{'0' * 64}"])
def test_a_file_of_any_name_is_known_by_its_first_letters(
    tmp_path: Path, file: Path, random_llama: RandomLlama, name: str
) -> None:
    (tmp_path / name).symlink_to(file)
    assert open_source(tmp_path / name).spec == random_llama.spec


@pytest.mark.parametrize("tied", [False, True])
def test_a_file_gives_back_the_model(tmp_path: Path, words: Words, tied: bool) -> None:
    source = RandomLlama(len(words.tokens), tied)
    write_gguf(tmp_path / "model.gguf", source, words)
    opened = GGUFSource(tmp_path / "model.gguf")
    assert opened.spec == source.spec
    assert set(opened.names()) == {t.name for t in tensors(source.spec)}
    for name in opened.names():
        np.testing.assert_array_equal(opened.tensor(name), source.tensor(name))


@pytest.mark.parametrize("kind", decodable(), ids=lambda kind: kind.name)
def test_every_type_is_decoded_as_the_package_does(
    tmp_path: Path, words: Words, kind: Type
) -> None:
    source = RandomLlama(len(words.tokens), width=256)
    expected = write_gguf(tmp_path / "model.gguf", source, words, kind, blocks=True)
    opened = GGUFSource(tmp_path / "model.gguf")
    for name in ("lm_head", "model.layers.1.self_attn.k_proj", "model.layers.0.mlp.down_proj"):
        found = in_pairs(f"{name}.weight", opened.tensor(f"{name}.weight"), opened.spec)
        np.testing.assert_array_equal(found, expected[f"{name}.weight"])


@pytest.mark.parametrize("kind", [Type.F16, Type.BF16, Type.Q8_0, Type.Q4_0, Type.Q5_1])
def test_rounding_is_all_that_is_lost(
    tmp_path: Path, random_llama: RandomLlama, words: Words, kind: Type
) -> None:
    expected = write_gguf(tmp_path / "model.gguf", random_llama, words, kind)
    opened = GGUFSource(tmp_path / "model.gguf")
    assert opened.spec == random_llama.spec
    for name, theirs in expected.items():
        ours = opened.tensor(name)
        np.testing.assert_array_equal(in_pairs(name, ours, opened.spec), theirs)
        error = np.abs(ours - random_llama.tensor(name)).max()
        assert error < {"F16": 1e-3, "BF16": 5e-3, "Q8_0": 5e-3}.get(kind.name, 0.1)


def test_tensors_larger_than_a_strip(
    file: Path, random_llama: RandomLlama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("h2q.sources.gguf_blocks.STRIP", 100)
    opened = GGUFSource(file)
    for name in ("lm_head.weight", "model.layers.1.self_attn.q_proj.weight", "model.norm.weight"):
        np.testing.assert_array_equal(opened.tensor(name), random_llama.tensor(name))


def test_logits_equal_those_of_the_folder(
    tmp_path: Path, file: Path, random_llama: RandomLlama
) -> None:
    spec = random_llama.spec
    save_file(
        {t.name: random_llama.tensor(t.name) for t in tensors(spec)},
        tmp_path / "model.safetensors",
    )
    config = {**spec.to_json(), "model_type": "llama", "eos_token_id": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    shutil.copyfile(
        Path(__file__).parents[1] / "src" / "h2q" / "assets" / "seed" / "tokenizer.json",
        tmp_path / "tokenizer.json",
    )
    ids = np.random.default_rng(1).integers(0, spec.vocab_size, (2, 40))
    folder, one = HFDirectory(tmp_path), GGUFSource(file)
    assert folder.spec == one.spec
    logits = []
    for source in (folder, one):
        model = load_original(source)
        logits.append(model.forward(ids, model.new_cache(2)))
    np.testing.assert_array_equal(*logits)


def test_stories260k_in_gguf_gives_golden_logits(tmp_path: Path, shared: Path) -> None:
    stories = Stories(shared / "models" / "stories260K")
    write_gguf(tmp_path / "stories.gguf", stories, stories_words(shared / "models" / "stories260K"))
    source = GGUFSource(tmp_path / "stories.gguf")
    assert source.spec == stories.spec
    assert distance("stories260k", source) < 1e-3


def shard_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def split(tmp_path: Path, random_llama: RandomLlama, words: Words) -> Path:
    write_gguf(tmp_path / "model.gguf", random_llama, words, shards=9)
    assert shard_names(tmp_path) == [f"model-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
    return tmp_path


@pytest.mark.parametrize("shard", [1, 2, 3])
def test_any_shard_opens_the_whole(split: Path, random_llama: RandomLlama, shard: int) -> None:
    opened = GGUFSource(split / f"model-0000{shard}-of-00003.gguf")
    assert opened.spec == random_llama.spec
    for name in opened.names():
        np.testing.assert_array_equal(opened.tensor(name), random_llama.tensor(name))


@pytest.mark.parametrize(
    ("harm", "words_of"),
    [
        (lambda f: (f / "model-00002-of-00003.gguf").unlink(), "Shard 2 of 3 is missing"),
        (
            lambda f: shutil.copy(f / "model-00002-of-00003.gguf", f / "model-00003-of-00003.gguf"),
            "call itself shard 3",
        ),
        (
            lambda f: shutil.copy(f / "model-00001-of-00003.gguf", f / "first.gguf"),
            "its name does not say so",
        ),
    ],
)
def test_shards_that_do_not_fit(split: Path, harm: object, words_of: str) -> None:
    harm(split)  # type: ignore[operator]
    path = split / "first.gguf"
    path = path if path.exists() else split / "model-00001-of-00003.gguf"
    with pytest.raises(SourceError, match=words_of):
        GGUFSource(path)


def test_shards_of_two_models(split: Path, tmp_path: Path, words: Words) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write_gguf(other / "model.gguf", RandomLlama(len(words.tokens), tied=True), words, shards=8)
    for name in shard_names(other)[1:]:
        shutil.copy(other / name, split / name)
    with pytest.raises(SourceError, match=r"shards hold|in two shards"):
        GGUFSource(split / "model-00001-of-00003.gguf")


FLOAT, UINT, TEXT = GGUFValueType.FLOAT32, GGUFValueType.UINT32, GGUFValueType.STRING


@pytest.mark.parametrize(
    ("key", "value", "value_type", "reason"),
    [
        ("general.architecture", "mamba", TEXT, "not known"),
        ("llama.expert_count", 8, UINT, "expert_used_count"),
        ("llama.attention.sliding_window", 4096, UINT, "cannot run"),
        ("llama.rope.scaling.type", "longrope", TEXT, "cannot run"),
        ("llama.rope.scaling.type", "yarn", TEXT, "rope_scaling factor"),
        ("llama.attn_logit_softcapping", 30.0, FLOAT, "cannot run"),
        ("llama.attention.causal", False, GGUFValueType.BOOL, "cannot run"),
        ("llama.logit_scale", 0.5, FLOAT, "cannot run"),
        ("llama.rope.dimension_count", 8, UINT, "heads of one width"),
        ("llama.attention.value_length", 8, UINT, "heads of one width"),
        ("tokenizer.ggml.model", "bert", TEXT, "tokenizer 'bert' is not known"),
    ],
)
def test_what_cannot_run_is_refused(
    tmp_path: Path,
    random_llama: RandomLlama,
    words: Words,
    key: str,
    value: object,
    value_type: GGUFValueType,
    reason: str,
) -> None:
    write_gguf(tmp_path / "model.gguf", random_llama, words, keys={key: (value, value_type)})
    with pytest.raises(SourceError, match=reason):
        GGUFSource(tmp_path / "model.gguf")

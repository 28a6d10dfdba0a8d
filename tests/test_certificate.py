"""Certificates: their parts, and measuring them again."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from certificates import drawings
from h2q import kernels
from h2q.core.errors import CrystalError
from h2q.core.events import silent
from h2q.crystal import Crystal, open_crystal
from h2q.crystallize import compare, sample_text
from h2q.crystallize.certificate import tensor_spectra, text_entry, tokens_sha256
from h2q.crystallize.evaluate import log_probabilities
from h2q.crystallize.recheck import HEADLINE, Recheck, judge, recheck
from h2q.crystallize.texts import DRAFTED, MEASURE_SEED, ROUNDED, speaker
from h2q.engine import load_crystal, load_original
from h2q.geometry.rotation import rotate, rotation
from h2q.sources import Source, open_source
from test_commands import document, h2q


@pytest.fixture(scope="module")
def measured(seed_path: Path, seed_source: Source) -> Recheck:
    """The seed's crystal measured again, against its own certificate."""
    certificate = json.loads((seed_path / "certificate.json").read_text())
    return recheck(open_crystal(seed_path), certificate, seed_source)


def test_spectra_of_the_tensors(stated: dict[str, Any]) -> None:
    for row in stated["layers"]:
        shift = row["spectral_shift"]
        assert row["singular_shift"] > 0
        assert shift["total"] > 0
        assert 0 < shift["largest"] <= shift["of"] <= 256
        assert len(shift["curve"]) == 32
        assert shift["sketch"] is None
        assert row["incoherence"]["after"] > 1
    # Corrected targets may move a few tensors far; most stay near the original.
    assert np.median([row["singular_shift"] for row in stated["layers"]]) < 0.2
    incoherences = [row["incoherence"] for row in stated["layers"]]
    means = [np.mean([i[when] for i in incoherences]) for when in ("before", "after")]
    assert means[1] < means[0]


def test_fewer_planes_move_the_spectrum_further(seed_crystal: Crystal, seed_source: Source) -> None:
    names = [name for group in seed_crystal.rank for name, _ in group]
    name = next(name for name in names if "layers" in name)
    weights = np.asarray(seed_source.tensor(name), np.float32)
    turned = rotate(weights, rotation(seed_crystal.rotation_seed, weights.shape[1]))
    shifts = [
        tensor_spectra(turned, partial(kernels.gather_rows, planes), weights)
        for planes in (seed_crystal.planes(name, 0), seed_crystal.planes(name))
    ]
    assert shifts[1]["spectral_shift"]["total"] < shifts[0]["spectral_shift"]["total"]
    assert shifts[1]["singular_shift"] < shifts[0]["singular_shift"]


def test_large_tensors_are_sketched_and_say_so() -> None:
    wide = np.random.default_rng(0).standard_normal((1100, 4200)).astype(np.float32)
    found = tensor_spectra(wide, (1.1 * wide).__getitem__, wide)
    assert found["spectral_shift"]["sketch"] == [512, 4096]
    assert found["spectral_shift"]["of"] == 512
    assert found["singular_shift"] == pytest.approx(0.1, rel=1e-4)
    assert found["spectral_shift"]["total"] == pytest.approx(0.21, rel=1e-3)
    zeros = np.zeros((4, 4), np.float32)
    assert tensor_spectra(zeros, zeros.__getitem__, zeros)["spectral_shift"]["total"] == 0


def test_the_hash_of_a_text_is_that_of_its_ids() -> None:
    tokens = np.array([[1, 2], [3, 1 << 33]], np.int64)
    expected = hashlib.sha256(tokens.astype("<i8").tobytes()).hexdigest()
    assert tokens_sha256([tokens]) == expected
    assert tokens_sha256([tokens[:1], tokens[1:]]) == expected
    entry = text_entry("x", tokens, "y", [tokens])
    assert (entry["tokens"], entry["streams"], entry["length"]) == (2, 2, 2)
    assert (entry["calibration_tokens"], entry["calibration_sha256"]) == (4, expected)


def test_divergences_of_single_tokens(seed_crystal: Crystal, seed_source: Source) -> None:
    """Percentile and maximum over tokens, against divergences computed apart."""
    original, crystal = load_original(seed_source), load_crystal(seed_crystal, 0)
    tokens = sample_text(original, 3, 200, seed=4)
    (found,) = compare(original, [crystal], tokens)
    truth, guess = (log_probabilities(model, tokens).astype(float) for model in (original, crystal))
    each = (np.exp(truth) * (truth - guess)).sum(axis=1)
    assert found.kl_mean == pytest.approx(each.mean(), rel=1e-4)
    assert found.kl_p99 == pytest.approx(np.percentile(each, 99), rel=1e-3)
    assert found.kl_max == pytest.approx(each.max(), rel=1e-3)
    assert found.to_json()["kl_p99"] == found.kl_p99 < found.kl_max
    rows, targets = np.arange(tokens[:, 1:].size), tokens[:, 1:].reshape(-1)
    grown = truth[rows, targets] - guess[rows, targets]
    assert found.quality == pytest.approx(np.exp(-grown.mean()), rel=1e-5)
    error = found.quality * grown.std() / np.sqrt(grown.size)
    assert found.quality_error == pytest.approx(error, rel=1e-3)


def test_a_true_certificate_is_confirmed(measured: Recheck, stated: dict[str, Any]) -> None:
    assert measured.same_text is True
    assert measured.wrong == []
    names = {figure.name for figure in measured.figures}
    assert {"bytes", "ratio_fp32", "quality", "kl_p99", "kl_max", "top1_agreement"} <= names
    assert len(measured.measured) == len(stated["prefixes"])


@pytest.mark.parametrize("spoken", [DRAFTED, ROUNDED])
def test_a_text_is_sampled_from_what_the_certificate_says(
    spoken: str, seed_path: Path, stated: dict[str, Any], seed_source: Source
) -> None:
    crystal = open_crystal(seed_path)
    spoke = speaker(seed_source, spoken, crystal.rotation_seed, silent)
    tokens = sample_text(spoke, 2, 64, seed=MEASURE_SEED + crystal.rotation_seed)
    truth = load_original(seed_source)
    models = [load_crystal(crystal, count) for count in range(len(crystal.rank) + 1)]
    results = compare(truth, models, tokens)
    for row, result in zip(stated["prefixes"], results, strict=True):
        row |= result.to_json()
    stated |= {key: stated["prefixes"][-1][key] for key in HEADLINE}
    stated["text"] = text_entry(spoken, tokens, "text", [])
    found = recheck(crystal, stated, seed_source)
    assert found.same_text is True
    assert found.wrong == []


EDITS = [
    ("quality", lambda c: c["prefixes"][-1].update(quality=c["prefixes"][-1]["quality"] + 0.01)),
    ("kl_mean", lambda c: c["prefixes"][1].update(kl_mean=c["prefixes"][1]["kl_mean"] * 0.97)),
    ("kl_p99", lambda c: c["prefixes"][0].update(kl_p99=c["prefixes"][0]["kl_p99"] * 0.9)),
    ("bytes", lambda c: c["prefixes"][0].update(bytes=c["prefixes"][0]["bytes"] - 1)),
    ("quality", lambda c: c.update(quality=0.99)),
    ("ratio_fp32", lambda c: c.update(ratio_fp32=25.0)),
    ("quality_error", lambda c: c.update(quality_error=c["quality_error"] / 2)),
    ("kl_p99", lambda c: c.update(kl_p99=c["kl_p99"] * 0.9)),
    ("kl_max", lambda c: c["prefixes"][1].update(kl_max=c["prefixes"][1]["kl_max"] * 0.9)),
    ("perplexity_crystal", lambda c: c["prefixes"][0].update(perplexity_crystal=2.0)),
    ("bits_per_weight", lambda c: c.update(bits_per_weight=1.0)),
    ("tokenizer_bytes", lambda c: c.update(tokenizer_bytes=1)),
    ("tokens", lambda c: c["text"].update(tokens=1_000_000)),
    ("crystal_bytes", lambda c: c.update(crystal_bytes=c["crystal_bytes"] // 2)),
]


def test_edits_are_caught(seed_path: Path, stated: dict[str, Any], measured: Recheck) -> None:
    crystal = open_crystal(seed_path)
    for name, edit in EDITS:
        edited = copy.deepcopy(stated)
        edit(edited)
        found = judge(crystal, edited, measured.measured, same_text=True)
        assert name in {figure.name for figure in found.wrong}


def test_another_text_widens_the_tolerances_and_says_so(
    seed_path: Path, stated: dict[str, Any], seed_source: Source
) -> None:
    stated["text"]["sha256"] = "0" * 64
    found = recheck(open_crystal(seed_path), stated, seed_source)
    assert found.same_text is False
    assert found.wrong == []
    assert {f.name for f in found.figures if f.tolerance is None} == {"kl_max", "quality_error"}
    for row in stated["prefixes"]:
        row["kl_mean"] /= 3
    wrong = judge(open_crystal(seed_path), stated, found.measured, same_text=False).wrong
    assert "kl_mean" in {figure.name for figure in wrong}


def test_another_sample_of_the_text_lies_within_the_wide_tolerances(
    seed_path: Path, stated: dict[str, Any], seed_source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine where the sampled text parts: the same source, other tokens, measured."""
    from h2q.crystallize import recheck as module

    monkeypatch.setattr(module, "MEASURE_SEED", 123_456)
    found = recheck(open_crystal(seed_path), stated, seed_source)
    assert found.same_text is False
    assert found.wrong == []


@pytest.mark.parametrize(
    "broken",
    [
        {"prefixes": []},
        {"prefixes": 5},
        {"text": None},
        {"text": {"streams": 2}},
        {"text": {"streams": 1 << 40, "length": 256}},
        {"text": {"streams": True, "length": 256}},
        {"quality": "good"},
        {"crystal_bytes": None},
    ],
)
def test_a_certificate_that_cannot_be_measured_is_refused(
    seed_path: Path, stated: dict[str, Any], seed_source: Source, broken: dict[str, Any]
) -> None:
    with pytest.raises(CrystalError, match="certificate"):
        recheck(open_crystal(seed_path), {**stated, **broken}, seed_source)


@pytest.mark.parametrize("change", ["none", "another"])
def test_a_crystal_without_its_words(seed_path: Path, tmp_path: Path, change: str) -> None:
    """Told in clear words, by both; one whose tokens have no rows is no sound crystal either."""
    crystal = tmp_path / "m.crystal"
    shutil.copytree(seed_path, crystal)
    words = crystal / "tokenizer.json"
    text = words.read_text()
    words.unlink()
    if change == "another":
        document = json.loads(text)
        document["model"]["vocab"]["<more>"] = 4096
        words.write_text(json.dumps(document))
    else:
        assert h2q("show", crystal).returncode == CrystalError.exit_code
    found = h2q("verify", crystal)
    assert found.returncode == CrystalError.exit_code
    assert "tokenizer" in found.stderr


def test_the_commands(seed_path: Path, tmp_path: Path, stated: dict[str, Any]) -> None:
    page = tmp_path / "page.html"
    shown = h2q("show", seed_path, "--certificate", "--html", page)
    assert shown.returncode == 0, shown.stderr
    assert "growth of the error" in shown.stdout
    assert len(drawings(page.read_text())) == 7
    assert h2q("show", seed_path, "--html", tmp_path / "no" / "page.html").returncode == 8

    arguments = ("--quality", "--against", "seed", "--json")
    found = document(h2q("verify", seed_path, *arguments))
    assert found["ok"] is True
    assert found["quality"]["same_text"] is True
    assert all(figure["ok"] for figure in found["quality"]["figures"])

    forged = tmp_path / "forged.crystal"
    shutil.copytree(seed_path, forged)
    stated["prefixes"][-1]["quality"] = stated["quality"] = 0.999
    (forged / "certificate.json").write_text(json.dumps(stated))
    assert h2q("verify", forged).returncode == 0
    result = h2q("verify", forged, *arguments)
    assert result.returncode == 9
    assert "0.999 stated" in result.stderr
    assert h2q("verify", forged, "--quality").returncode == 2
    assert h2q("verify", forged, "--against", "seed").returncode == 2


def test_against_another_model(seed_path: Path, tmp_path: Path, stated: dict[str, Any]) -> None:
    """The right shape, other weights: the text is another one and the figures are wrong."""
    from checkpoints import WEIGHTS, Stored, read_stored, write_stored
    from conftest import SEED

    other = tmp_path / "other"
    shutil.copytree(SEED, other)
    tensors = read_stored(other / WEIGHTS)
    for name, tensor in tensors.items():
        if "up_proj" in name:
            tensors[name] = Stored(tensor.dtype, tensor.shape, bytes(len(tensor.data)))
    write_stored(other / WEIGHTS, tensors)
    found = recheck(open_crystal(seed_path), stated, open_source(other))
    assert found.same_text is False
    assert {"quality", "kl_mean"} <= {figure.name for figure in found.wrong}

"""Certificates: their parts, the page made of them, and measuring them again."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import re
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from h2q.cli.certificate import show_certificate, show_details
from h2q.codec.planes import Plane
from h2q.core.errors import CrystalError
from h2q.core.memory import peak_rss_bytes
from h2q.crystal import Crystal, open_crystal
from h2q.crystallize import compare, measure_growth, sample_text
from h2q.crystallize.certificate import tensor_spectra, text_entry, tokens_sha256, versions
from h2q.crystallize.evaluate import log_probabilities
from h2q.crystallize.growth import MEASURE_SEED
from h2q.crystallize.recheck import judge, recheck
from h2q.demo.certificate_page import certificate_page
from h2q.engine import load_crystal, load_original
from h2q.geometry.rotation import rotate, rotation
from h2q.kernels import twins
from h2q.sources import Source, open_source
from test_commands import document, h2q

STREAMS, LENGTH = 2, 256  # of conftest.QUICK
SAMPLED = "sampled from the original at temperature 1"


def decoded(stack: list[Plane]) -> np.ndarray:
    """The weights of a stack, in the rotated basis, float32 (rows, cols)."""
    return twins.gather_rows(tuple(stack), np.arange(stack[0].spec.rows))


@pytest.fixture(scope="module")
def complete(
    seed_path: Path, seed_source: Source, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A crystal whose certificate has every part, each computed."""
    path = tmp_path_factory.mktemp("certified") / "seed.crystal"
    shutil.copytree(seed_path, path)
    stated = json.loads((path / "certificate.json").read_text())
    crystal = open_crystal(path)
    original = load_original(seed_source)
    seed = crystal.rotation_seed
    tokens = sample_text(original, STREAMS, LENGTH, seed=MEASURE_SEED + seed)
    stated["text"] = text_entry(SAMPLED, tokens, "sampled text", [tokens[:1]])
    for row in stated["layers"]:
        weights = np.asarray(seed_source.tensor(row["tensor"]), np.float32)
        turned = rotate(weights, rotation(seed, weights.shape[1]))
        row |= tensor_spectra(turned, decoded(crystal.planes(row["tensor"])), weights)
    controller = measure_growth(original, load_crystal(crystal), tokens)
    stated |= {"format": 2, "growth": controller.to_json(), "versions": versions()}
    stated |= {"peak_memory_bytes": peak_rss_bytes(), "plan": {"ratio": 12.5, "groups": 4}}
    (path / "certificate.json").write_text(json.dumps(stated))
    return path


@pytest.fixture
def stated(complete: Path) -> dict[str, Any]:
    return dict(json.loads((complete / "certificate.json").read_text()))


def test_spectra_of_the_tensors(stated: dict[str, Any]) -> None:
    for row in stated["layers"]:
        shift = row["spectral_shift"]
        assert 0 < row["singular_shift"] < 0.2
        assert 0 < shift["total"] < 0.4
        assert 0 < shift["largest"] <= shift["of"] <= 256
        assert len(shift["curve"]) == 32
        assert shift["sketch"] is None
        assert row["incoherence"]["after"] > 1
    incoherences = [row["incoherence"] for row in stated["layers"]]
    means = [np.mean([i[when] for i in incoherences]) for when in ("before", "after")]
    assert means[1] < means[0]


def test_fewer_planes_move_the_spectrum_further(seed_crystal: Crystal, seed_source: Source) -> None:
    name, _ = seed_crystal.rank[0][0]
    weights = np.asarray(seed_source.tensor(name), np.float32)
    turned = rotate(weights, rotation(seed_crystal.rotation_seed, weights.shape[1]))
    shifts = [
        tensor_spectra(turned, decoded(seed_crystal.planes(name, groups)), weights)
        for groups in (0, None)
    ]
    assert shifts[1]["spectral_shift"]["total"] < shifts[0]["spectral_shift"]["total"]
    assert shifts[1]["singular_shift"] < shifts[0]["singular_shift"]


def test_large_tensors_are_sketched_and_say_so() -> None:
    wide = np.random.default_rng(0).standard_normal((1100, 4200)).astype(np.float32)
    found = tensor_spectra(wide, 1.1 * wide, wide)
    assert found["spectral_shift"]["sketch"] == [1024, 4096]
    assert found["spectral_shift"]["of"] == 1024
    assert found["singular_shift"] == pytest.approx(0.1, rel=1e-4)
    assert found["spectral_shift"]["total"] == pytest.approx(0.21, rel=1e-3)
    zeros = np.zeros((4, 4), np.float32)
    assert tensor_spectra(zeros, zeros, zeros)["spectral_shift"]["total"] == 0


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


def drawings(page: str) -> list[ET.Element]:
    """Every drawing, parsed; all its coordinates are finite."""
    found = [ET.fromstring(text) for text in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]
    for drawing in found:
        for shape in drawing.iter():
            for key in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height", "points"):
                for value in re.split(r"[ ,]", shape.get(key) or "0"):
                    assert math.isfinite(float(value))
    return found


def test_the_page_has_every_part(stated: dict[str, Any]) -> None:
    page = certificate_page(stated, "seed.crystal")
    assert len(drawings(page)) == 7
    for name in ("KL divergence", "Growth over depth", "Spectral shift", "Seconds by stage"):
        assert name in page
    assert stated["text"]["sha256"] in page
    assert stated["versions"]["numpy"] in page
    assert "http" not in page
    assert "<script" not in page
    curves = list(drawings(page)[5].iter("polyline"))
    assert len(curves) == len(stated["layers"])


def test_the_page_of_an_older_certificate(seed_path: Path) -> None:
    old = json.loads((seed_path / "certificate.json").read_text())
    for row in old["prefixes"]:
        for key in ("kl_p99", "kl_max"):
            row.pop(key, None)
    for key in ("growth", "plan", "peak_memory_bytes"):
        old.pop(key, None)
    for row in old["layers"]:
        for key in ("spectral_shift", "singular_shift", "incoherence"):
            row.pop(key, None)
    assert len(drawings(certificate_page(old, "old"))) == 4
    assert "Growth over depth" not in certificate_page(old, "old")


SCRIPT = "<script>alert(1)</script>"
NUMBERS = (-1, 0, 1e300, 5e-324)
SPOILERS: list[Any] = [None, SCRIPT, *NUMBERS, True, [], {}, [[]], [None, 1], {"a": []}]


@pytest.mark.parametrize("spoiler", SPOILERS)
def test_a_page_of_nonsense_is_still_a_page(stated: dict[str, Any], spoiler: Any) -> None:
    """Every value at every place replaced, one at a time; the first entries stand for lists."""

    def places(value: Any) -> list[tuple[Any, ...]]:
        entries: list[tuple[Any, Any]] = []
        if isinstance(value, dict):
            entries = list(value.items())
        elif isinstance(value, list):
            entries = list(enumerate(value))[:2]
        return [(key, *rest) for key, inner in entries for rest in [(), *places(inner)]]

    for place in places(stated):
        spoilt = copy.deepcopy(stated)
        target = spoilt
        for key in place[:-1]:
            target = target[key]
        target[place[-1]] = spoiler
        page = certificate_page(spoilt, "<b>name</b>")
        assert "<script" not in page
        assert "<b>name" not in page
        drawings(page)
    assert certificate_page({}, "empty").endswith("</html>\n")


def test_what_cannot_be_shown_is_an_error_not_a_bug(
    stated: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    show_certificate(stated)
    show_details(stated)
    assert "growth of the error" in capsys.readouterr().out
    for broken in ({"format": 1}, {**stated, "prefixes": 3}, {**stated, "text": None}):
        with pytest.raises(CrystalError, match="certificate"):
            show_certificate(broken)
    with pytest.raises(CrystalError, match="certificate"):
        show_details({**stated, "layers": [1]})


def test_a_true_certificate_is_confirmed(
    complete: Path, stated: dict[str, Any], seed_source: Source
) -> None:
    found = recheck(open_crystal(complete), stated, seed_source)
    assert found.same_text is True
    assert found.wrong == []
    names = {figure.name for figure in found.figures}
    assert {"bytes", "ratio_fp32", "quality", "kl_p99", "kl_max", "top1_agreement"} <= names
    assert len(found.measured) == len(stated["prefixes"])


EDITS = [
    ("quality", lambda c: c["prefixes"][-1].update(quality=c["prefixes"][-1]["quality"] + 0.01)),
    ("kl_mean", lambda c: c["prefixes"][1].update(kl_mean=c["prefixes"][1]["kl_mean"] * 0.97)),
    ("kl_p99", lambda c: c["prefixes"][0].update(kl_p99=c["prefixes"][0]["kl_p99"] * 0.9)),
    ("bytes", lambda c: c["prefixes"][0].update(bytes=c["prefixes"][0]["bytes"] - 1)),
    ("quality", lambda c: c.update(quality=0.99)),
    ("ratio_fp32", lambda c: c.update(ratio_fp32=25.0)),
    ("crystal_bytes", lambda c: c.update(crystal_bytes=c["crystal_bytes"] // 2)),
]


def test_edits_are_caught(complete: Path, stated: dict[str, Any], seed_source: Source) -> None:
    crystal = open_crystal(complete)
    measured = recheck(crystal, stated, seed_source).measured
    for name, edit in EDITS:
        edited = copy.deepcopy(stated)
        edit(edited)
        found = judge(crystal, edited, measured, same_text=True)
        assert name in {figure.name for figure in found.wrong}


def test_another_text_widens_the_tolerances_and_says_so(
    complete: Path, stated: dict[str, Any], seed_source: Source
) -> None:
    stated["text"]["sha256"] = "0" * 64
    found = recheck(open_crystal(complete), stated, seed_source)
    assert found.same_text is False
    assert found.wrong == []
    assert {f.name for f in found.figures if f.tolerance is None} == {"kl_max"}
    for row in stated["prefixes"]:
        row["kl_mean"] /= 3
    wrong = judge(open_crystal(complete), stated, found.measured, same_text=False).wrong
    assert "kl_mean" in {figure.name for figure in wrong}


def test_another_sample_of_the_text_lies_within_the_wide_tolerances(
    complete: Path, stated: dict[str, Any], seed_source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine where the sampled text parts: the same source, other tokens, measured."""
    from h2q.crystallize import recheck as module

    monkeypatch.setattr(module, "MEASURE_SEED", 123_456)
    found = recheck(open_crystal(complete), stated, seed_source)
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
    ],
)
def test_a_certificate_that_cannot_be_measured_is_refused(
    complete: Path, stated: dict[str, Any], seed_source: Source, broken: dict[str, Any]
) -> None:
    with pytest.raises(CrystalError, match="certificate"):
        recheck(open_crystal(complete), {**stated, **broken}, seed_source)


def test_the_commands(complete: Path, tmp_path: Path, stated: dict[str, Any]) -> None:
    page = tmp_path / "page.html"
    shown = h2q("show", complete, "--certificate", "--html", page)
    assert shown.returncode == 0, shown.stderr
    assert "growth of the error" in shown.stdout
    assert len(drawings(page.read_text())) == 7
    assert h2q("show", complete, "--html", tmp_path / "no" / "page.html").returncode == 8

    arguments = ("--quality", "--against", "seed", "--json")
    found = document(h2q("verify", complete, *arguments))
    assert found["ok"] is True
    assert found["quality"]["same_text"] is True
    assert all(figure["ok"] for figure in found["quality"]["figures"])

    forged = tmp_path / "forged.crystal"
    shutil.copytree(complete, forged)
    stated["prefixes"][-1]["quality"] = stated["quality"] = 0.999
    (forged / "certificate.json").write_text(json.dumps(stated))
    assert h2q("verify", forged).returncode == 0
    result = h2q("verify", forged, *arguments)
    assert result.returncode == 9
    assert "0.999 stated" in result.stderr
    assert h2q("verify", forged, "--quality").returncode == 2
    assert h2q("verify", forged, "--against", "seed").returncode == 2


def test_against_another_model(complete: Path, tmp_path: Path, stated: dict[str, Any]) -> None:
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
    found = recheck(open_crystal(complete), stated, open_source(other))
    assert found.same_text is False
    assert {"quality", "kl_mean"} <= {figure.name for figure in found.wrong}

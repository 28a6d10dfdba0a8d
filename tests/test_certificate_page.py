"""The page and the words made of a certificate, whole, old or senseless."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from certificates import drawings
from h2q.cli.certificate import show_certificate, show_details
from h2q.core.errors import CrystalError
from h2q.demo.certificate_page import certificate_page


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

    for rows in ("layers", "prefixes"):  # a page is drawn for every place: few rows are enough
        stated[rows] = stated[rows][:3]
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
    told = capsys.readouterr().out
    assert "growth of the error" in told
    assert "expert" not in told
    routed = [{**row, "tokens": 40 * index} for index, row in enumerate(stated["layers"][:4])]
    show_details({**stated, "layers": routed})
    told = capsys.readouterr().out
    assert "0, 80, 120" in told
    assert "2 of 4 matrices" in told
    for broken in ({"format": 1}, {**stated, "prefixes": 3}, {**stated, "text": None}):
        with pytest.raises(CrystalError, match="certificate"):
            show_certificate(broken)
    with pytest.raises(CrystalError, match="certificate"):
        show_details({**stated, "layers": [1]})

"""Growing from Python: what `docs/growing.md` says there runs, and slips are told in words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import h2q
from h2q.core.errors import SourceError, UsageError
from h2q.crystal import open_crystal
from h2q.crystallize.options import SIZES
from small_llamas import BRIEF, small_llama

PAGE = Path(__file__).parents[1] / "docs" / "growing.md"


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Word for word, with a small model in the place of MODEL, and little text."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    small_llama(tmp_path / "MODEL")
    monkeypatch.chdir(tmp_path)
    names = [name for name in SIZES if getattr(BRIEF, name) is not None]
    sizes = ", ".join(f"{name}={getattr(BRIEF, name)}" for name in names)
    found: dict[str, Any] = {}
    exec(code.replace(", Options(", f", Options({sizes}, "), found)
    assert open_crystal(tmp_path / "my.crystal").spec.hidden_size == 64
    assert found["certificate"]["ratio_fp32"] >= 12
    assert len(found["text"]) > 0


def test_slips_are_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such folder"):
        h2q.ModelCrystallizationEngine(tmp_path / "nothing")
    small_llama(tmp_path / "small")
    with pytest.raises(UsageError, match="not dict"):
        h2q.ModelCrystallizationEngine(str(tmp_path / "small"), {"ratio": 16})  # type: ignore[arg-type]

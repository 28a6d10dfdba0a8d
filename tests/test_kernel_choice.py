"""Which path runs: every available one can be forced, a foreign one is an error, and `doctor` says
why.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from h2q import kernels
from h2q.core.errors import KernelError


def h2q(*arguments: str, kernel: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "h2q", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "H2Q_KERNEL": kernel},
    )


def test_a_native_path_was_built() -> None:
    """What is parametrised by native paths would pass over nothing otherwise."""
    assert len(kernels.available()) > 1, kernels.load_error()
    assert kernels.available()[-2:] == ["portable", kernels.NUMPY]


@pytest.mark.parametrize("path", kernels.available())
def test_every_path_can_be_forced_and_left_again(path: str) -> None:
    before = kernels.path()
    with kernels.using(path):
        assert kernels.path() == path
        kernels.quantize(np.ones((1, 8), np.float32))
        with kernels.using(kernels.NUMPY):
            assert kernels.path() == kernels.NUMPY
        assert kernels.path() == path
    assert kernels.path() == before


@pytest.mark.parametrize("name", ["abacus", "", "AVX2", "numpy "])
def test_a_foreign_path_is_refused(name: str) -> None:
    before = kernels.path()
    with pytest.raises(KernelError, match="not available") as caught, kernels.using(name):
        pass
    assert all(path in caught.value.fix for path in kernels.available())
    assert kernels.path() == before


@pytest.mark.parametrize("path", [kernels.available()[-2], kernels.NUMPY])
def test_the_environment_forces_a_path(path: str) -> None:
    result = h2q("doctor", "--json", kernel=path)
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    assert (result.returncode, found["kernel"]) == (0, path)
    assert found["reason"] == "forced by H2Q_KERNEL"


def test_a_foreign_path_in_the_environment_is_an_error_of_our_own() -> None:
    result = h2q("doctor", kernel="abacus")
    assert result.returncode == KernelError.exit_code
    assert "'abacus' is not available here" in result.stderr
    assert "Traceback" not in result.stderr


def test_doctor_lists_every_instruction_group_and_path() -> None:
    result = h2q("doctor", kernel="")
    assert result.returncode == 0
    text = result.stdout + result.stderr
    for name, feature in kernels.features().items():
        assert name in text
        assert feature["found"] or not feature["executed"]
    for path in kernels.available():
        assert path in text

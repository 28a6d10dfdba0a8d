"""A model larger than the memory: it speaks in seven bits, layers come one at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from h2q.core.errors import ResourceError
from h2q.crystal import open_crystal
from h2q.crystallize.budget import parameters
from h2q.crystallize.texts import ROUNDED
from h2q.engine import load_crystal
from small_llamas import SMALL, small_llama

LARGER = replace(
    SMALL,
    hidden_size=256,
    intermediate_size=640,
    num_hidden_layers=10,
    num_attention_heads=3,
    num_key_value_heads=1,
    head_dim=64,
)
ROOM = 27 << 20


TOO_LITTLE = 6 << 20


def grown_within(room: int, source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """A growth in a process whose data may grow by `room` bytes."""
    script = Path(__file__).parent / "limited_growth.py"
    command = [sys.executable, str(script), str(source), str(target), str(room)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # each thread has a buffer
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to RLIMIT_DATA")
def test_a_model_larger_than_the_memory_is_grown(tmp_path: Path) -> None:
    """The float32 weights alone would exceed what the process may take."""
    source = small_llama(tmp_path / "larger", LARGER)
    assert 4 * parameters(source.spec) > ROOM
    target = tmp_path / "a.crystal"
    done = grown_within(ROOM, tmp_path / "larger", target)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert not told["fits"]  # the weights, were they read at once
    assert told["free"] <= ROOM
    assert told["used"] <= told["limit"]
    certificate = json.loads((target / "certificate.json").read_text())
    assert certificate["text"]["measured_on"] == certificate["text"]["calibrated_on"] == ROUNDED
    assert certificate["ratio_fp32"] >= 26
    assert certificate["quality"] > 0
    model = load_crystal(open_crystal(target))
    tokens = np.array([[0, 5, 4095]])
    assert np.isfinite(model.forward(tokens, model.new_cache())).all()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to RLIMIT_DATA")
def test_memory_that_runs_out_is_an_error_of_ours(tmp_path: Path) -> None:
    small_llama(tmp_path / "larger", LARGER)
    done = grown_within(TOO_LITTLE, tmp_path / "larger", tmp_path / "a.crystal")
    assert done.returncode == ResourceError.exit_code, done.stderr
    assert "too little free memory" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "a.crystal").exists()

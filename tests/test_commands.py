"""The program as a person meets it: real processes, real files, exit codes, documents."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


def h2q(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "h2q", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        input=stdin,
        check=False,
    )


def document(result: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    return dict(json.loads(result.stdout.splitlines()[-1]))


EACH_HELP = """
import sys
from h2q.cli.main import main
for name in sys.argv[1:]:
    sys.argv = ["h2q", name, "--help"]
    try:
        main()
    except SystemExit as end:
        print("ended", name, end.code)
"""


def test_help_names_every_command() -> None:
    result = h2q("--help")
    assert result.returncode == 0
    names = "crystallize run show verify eval export pull create ls ps cp rm stop doctor demo bench"
    command = [sys.executable, "-c", EACH_HELP, *names.split()]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for name in names.split():
        assert name in result.stdout
        assert f"h2q {name} [OPTIONS]" in told
        assert f"ended {name} 0\n" in told


def test_importing_the_package_and_the_commands_loads_no_numpy() -> None:
    code = "import sys, h2q, h2q.cli.main; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_run_streams_text(seed_path: Path) -> None:
    result = h2q("run", seed_path, "Once upon a time", "--max-tokens", "20", "--seed", "1")
    assert result.returncode == 0
    assert len(result.stdout.strip()) > 20
    assert "tokens/s" in result.stderr
    piped = h2q("run", seed_path, "--max-tokens", "20", "--seed", "1", stdin="Once upon a time")
    assert piped.stdout == result.stdout


def test_run_as_a_document(seed_path: Path) -> None:
    options = ("--max-tokens", "12", "--temperature", "0", "--json")
    found = document(h2q("run", seed_path, "The sea", *options))
    base = document(h2q("run", seed_path, "The sea", "--pin", "base", *options))
    assert found["tokens"] == base["tokens"] == 12
    assert found["planes"] > base["planes"] == 1
    assert found["peak_rss_bytes"] > 10_000_000
    assert [s["seconds"] for s in found["timeline"]] == sorted(
        s["seconds"] for s in found["timeline"]
    )


def test_texts_are_held_to_forms_stops_and_planes(seed_path: Path, tmp_path: Path) -> None:
    options = ("--max-tokens", "60", "--temperature", "0", "--json")
    plain = document(h2q("run", seed_path, "The sea", *options))
    stop = plain["text"][20:24]
    cut = document(h2q("run", seed_path, "The sea", "--stop", stop, *options))
    assert cut["text"] == plain["text"][: plain["text"].index(stop)]
    assert cut["finish"] == "stop"
    schema = tmp_path / "sea.json"
    schema.write_text(json.dumps({"enum": ["calm", "wild"]}))
    held = document(h2q("run", seed_path, "The sea", "--schema", schema, *options))
    assert json.loads(held["text"]) in ("calm", "wild")
    free = document(h2q("run", seed_path, "The sea", "--repeat-penalty", "1.5", *options))
    assert free["text"] != plain["text"]
    base = document(h2q("run", seed_path, "The sea", "--pin", "base", *options))
    pinned = document(h2q("run", seed_path, "The sea", "--pin", "1", *options))
    assert (pinned["planes"], pinned["text"]) == (1, base["text"])


@pytest.mark.parametrize(
    "options",
    [("--pin", "99"), ("--min-p", "2"), ("--format", "xml"), ("--schema", "nowhere.json")],
)
def test_wishes_that_make_no_sense_are_refused(seed_path: Path, options: tuple[str, str]) -> None:
    result = h2q("run", seed_path, "The sea", *options)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")


def test_drafts_and_kinds_of_caches_are_reported(seed_path: Path) -> None:
    options = ("--max-tokens", "40", "--seed", "2", "--json")
    plain = document(h2q("run", seed_path, "The sea", *options))
    drafted = document(h2q("run", seed_path, "The sea", "--draft", "3", *options))
    assert drafted["text"] == plain["text"]
    assert drafted["drafted"] >= drafted["drafts_accepted"] >= 0 < drafted["drafted"]
    assert plain["drafted"] == 0
    assert plain["cache"] == {"kind": "k8v8", "ring": None}
    small = document(h2q("run", seed_path, "The sea", "--cache", "f16", "--ring", "200", *options))
    assert small["cache"] == {"kind": "f16", "ring": 256}


def test_a_ring_goes_on_beyond_the_context(seed_path: Path) -> None:
    options = ("--max-tokens", "1100", "--json", "--ring", "192")
    longest = 0
    for seed in range(12):  # a text may end by itself
        found = document(h2q("run", seed_path, "The sea", "--seed", str(seed), *options))
        assert found["finish"] in ("stop", "length")
        longest = max(longest, found["tokens"])
        if longest == 1100:
            return
    raise AssertionError(longest)


@pytest.mark.parametrize(
    "options", [("--ring", "10"), ("--ring", "99999"), ("--cache", "k3"), ("--draft", "99")]
)
def test_caches_that_do_not_exist_are_refused(seed_path: Path, options: tuple[str, str]) -> None:
    result = h2q("run", seed_path, "The sea", *options)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")


def test_show_and_verify(seed_path: Path) -> None:
    shown = document(h2q("show", seed_path, "--json"))
    assert shown["crystal_bytes"] == shown["certificate"]["crystal_bytes"]
    on_disk = sum(f.stat().st_size for f in seed_path.glob("*.safetensors"))
    assert shown["crystal_bytes"] == on_disk + (seed_path / "crystal.json").stat().st_size
    assert document(h2q("verify", seed_path, "--json"))["ok"] is True
    assert "quality" in h2q("show", seed_path).stdout


def test_eval_on_a_text(seed_path: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text((ROOT / "CONTRIBUTING.md").read_text() * 3)
    found = document(
        h2q("eval", seed_path, "--against", "seed", "--text", text, "--tokens", "1500", "--json")
    )
    assert 0.5 < found["quality"] < 1.1
    assert found["kl_mean"] < found["base"]["kl_mean"]
    assert found["perplexity_original"] > 1


def test_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("H2Q_THREADS", raising=False)
    found = document(h2q("doctor", "--json"))
    assert found["kernel"] == found["available"][0]
    assert set(found["features"].get("avx2", {"found": 0, "executed": 0})) == {"found", "executed"}
    assert found["performance_cores"] >= 1
    assert found["performance_cores"] + found["efficiency_cores"] <= found["cores"]
    assert found["threads"] == found["performance_cores"]


def test_bench_of_the_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("H2Q_THREADS", raising=False)
    result = h2q("bench", "kernels", "--mebibytes", "1", "--out", tmp_path, "--json")
    assert result.returncode == 0, result.stderr
    found = document(result)
    (file,) = tmp_path.iterdir()
    assert file.name == f"kernels-{found['machine']['slug']}.json"
    assert json.loads(file.read_text()) == found
    rows = found["results"]
    several = "2 threads" if found["machine"]["threads"] > 1 else "1 thread"
    for threads in {"1 thread", several}:
        for name in (
            "pure read of the codes",
            "bare multiply-adds",
            "all threads meet",
            "matrix-vector K=2",
            "matrix-vector K=1",
            *(f"stacked {bits}" for bits in ("2+1", "2+2", "1+1", "2+1+1")),
            *(f"batch of {tokens} tokens K=2" for tokens in (2, 4, 8, 16)),
            "small layer 256 x 768 K=2",
            "small layer 768 x 256 K=2",
        ):
            assert f"{name}, {threads}" in rows
    for path in found["paths"]:
        assert f"matrix-vector K=2 on {path}, 1 thread" in rows
    for kind in ("prefill", "rotate and round", "gather", "float32 BLAS"):
        assert any(name.startswith(kind) for name in rows)
    for row in rows.values():
        figures = [row["value"], row["ratio"], row["seconds"], row["median_seconds"]]
        figures += [limit["share"] for limit in row.get("limits", [])]
        assert all(math.isfinite(figure) and figure > 0 for figure in figures)
        assert row["seconds"] <= row["median_seconds"]
    assert rows["matrix-vector K=2, 1 thread"]["target"]["least"] == 100e9


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["frobnicate"], 2),
        (["run"], 2),
        (["run", "nowhere", "x"], 4),
        (["show", "nowhere"], 4),
        (["verify", "nowhere"], 4),
        (["crystallize", "nowhere", "-o", "target"], 3),
        (["crystallize", "seed", "-o", "target", "--ratio", "900"], 2),
        (["crystallize", "seed", "-o", "target", "--calibration", "nowhere.txt"], 6),
        (["bench", "abacus"], 2),
    ],
)
def test_mistakes_have_words_codes_and_documents(arguments: list[str], code: int) -> None:
    result = h2q(*arguments, "--json")
    assert result.returncode == code
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("error: ")
    assert document(result)["error"]["what"]
    assert not (ROOT / "target").exists()


def test_a_ratio_beyond_reach_names_the_reach(tmp_path: Path) -> None:
    target = tmp_path / "small.crystal"
    result = h2q("crystallize", "seed", "-o", target, "--ratio", "30")
    assert result.returncode == 9
    assert "--ratio 29" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_the_report_of_a_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from conftest import QUICK
    from h2q.demo import Demo, story

    monkeypatch.setattr(story, "STARTS", 2)
    monkeypatch.setattr(story, "TOKENS", 80)
    brief = replace(
        QUICK, calibration_streams=6, calibration_length=64, measured_streams=2, measured_length=64
    )
    report = Demo(tmp_path, brief).run()
    assert len(report["starts"]) == 2
    assert report == json.loads((tmp_path / "report.json").read_text())
    keys = "crystal_bytes ratio_fp32 ratio_bf16 quality kl_mean top1_agreement ms_per_token"
    for key in (*keys.split(), "first_token_seconds", "tokens_per_second", "peak_rss_bytes"):
        assert report[key] > 0
        assert report["base"][key] > 0
    assert report["ratio_fp32"] > 12
    assert report["base"]["crystal_bytes"] < report["crystal_bytes"]
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 3
    assert "http" not in page.replace("http-equiv", "")

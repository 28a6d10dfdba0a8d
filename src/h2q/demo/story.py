"""The demonstration: grow a crystal of the seed model, start it in new processes, write a
report.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from h2q.core.errors import ResourceError
from h2q.core.events import ProgressListener, silent
from h2q.crystallize import ModelCrystallizationEngine, Options
from h2q.demo.page import write_page
from h2q.sources import open_source

SEED = Path(__file__).parent.parent / "assets" / "seed"
PROMPT = "The old house stood at the edge of the sea, and"
TOKENS = 160
STARTS = 5
TALK_SEED = 7
TIMEOUT = 120.0


@dataclass(frozen=True)
class Talk:
    """A crystal started in a new process: seconds from before the process was made until its first
    text arrived.
    """

    first_token_seconds: float
    figures: dict[str, Any]


class Demo:
    """Tells the story in `out`: seed.crystal, report.json, report.html."""

    def __init__(self, out: Path = Path("h2q-demo"), options: Options | None = None) -> None:
        self.out, self.options = out, options or Options(ratio=12.0)
        self.crystal = out / "seed.crystal"
        self._certificate: dict[str, Any] = {}

    def run(self, progress: ProgressListener = silent) -> dict[str, Any]:
        """The whole story; returns the report."""
        self.grow(progress)
        return self.talk()

    def grow(self, progress: ProgressListener = silent) -> dict[str, Any]:
        """Crystallize the seed model; returns the certificate."""
        engine = ModelCrystallizationEngine(open_source(SEED), self.options)
        self._certificate = engine.grow(self.crystal, overwrite=True, progress=progress)
        return self._certificate

    def talk(self) -> dict[str, Any]:
        """Start the crystal in new processes, write report.json and report.html, return the
        report.
        """
        cold = self._start("all")
        whole = [self._start("all") for _ in range(STARTS)]
        base = [self._start("base") for _ in range(STARTS)]
        report = self._report(cold, whole, base)
        try:
            (self.out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
            write_page(self.out / "report.html", report)
        except OSError as error:
            raise ResourceError(
                f"The report cannot be written: {error.strerror}.", where=str(self.out)
            ) from error
        return report

    def _start(self, planes: str) -> Talk:
        """One new process; its text comes over a pipe, its figures as JSON at the end."""
        command = [sys.executable, "-m", "h2q", "run", str(self.crystal), PROMPT, "--json"]
        command += ["--pin", planes, "--max-tokens", str(TOKENS), "--seed", str(TALK_SEED)]
        began = time.perf_counter()
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
        ) as child:
            assert child.stderr is not None
            opening = child.stderr.read(1)
            first = time.perf_counter() - began
            try:
                out, words = child.communicate(timeout=TIMEOUT)
            except subprocess.TimeoutExpired as error:
                child.kill()
                raise ResourceError("The started crystal did not finish in time.") from error
        if child.returncode != 0:
            reason = (opening + words).decode(errors="replace").strip()
            raise ResourceError(f"The crystal could not be started: {reason}")
        return Talk(first, json.loads(out))

    def _report(self, cold: Talk, whole: list[Talk], base: list[Talk]) -> dict[str, Any]:
        certificate = self._certificate
        prefixes = certificate["prefixes"]
        original = certificate["original_bytes_fp32"]
        sizes = {
            "original_bytes_fp32": original,
            "original_bytes_bf16": certificate["original_bytes_bf16"],
            "tokenizer_bytes": certificate["tokenizer_bytes"],
        }

        def figures(prefix: dict[str, Any], talks: list[Talk]) -> dict[str, Any]:
            median = statistics.median_low(t.first_token_seconds for t in talks)
            speed = statistics.median(t.figures["tokens_per_second"] for t in talks)
            return {
                **sizes,
                "crystal_bytes": prefix["bytes"],
                "ratio_fp32": prefix["ratio_fp32"],
                "ratio_bf16": prefix["ratio_fp32"] / 2,
                "quality": prefix["quality"],
                "kl_mean": prefix["kl_mean"],
                "top1_agreement": prefix["top1_agreement"],
                "first_token_seconds": median,
                "ms_per_token": 1000 / speed,
                "tokens_per_second": speed,
                "peak_rss_bytes": max(t.figures["peak_rss_bytes"] for t in talks),
            }

        typical = min(whole, key=lambda t: t.first_token_seconds)
        return {
            **figures(prefixes[-1], whole),
            "base": figures(prefixes[0], base),
            "first_start_seconds": cold.first_token_seconds,
            "starts": [t.first_token_seconds for t in whole],
            "timeline": typical.figures["timeline"],
            "timeline_first_token_seconds": typical.first_token_seconds,
            "stories": {
                "base plane": PROMPT + base[0].figures["text"],
                "all planes": PROMPT + whole[0].figures["text"],
            },
            "certificate": certificate,
        }

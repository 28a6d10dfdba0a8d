"""Floor 9: every figure we claim, each speed a ratio to something measured in the same run."""

from h2q.bench.codec import bench_codec
from h2q.bench.engine import EngineOptions, bench_engine
from h2q.bench.experts import ExpertOptions, bench_experts
from h2q.bench.kernels import bench_kernels
from h2q.bench.machine import machine, slug
from h2q.bench.materials import TRIAL_BELOW
from h2q.bench.random_model import DEFAULT_SHAPE
from h2q.bench.results import write_result
from h2q.bench.serve import ServeOptions, bench_serve
from h2q.bench.start import StartOptions, bench_start

__all__ = [
    "DEFAULT_SHAPE",
    "TRIAL_BELOW",
    "EngineOptions",
    "ExpertOptions",
    "ServeOptions",
    "StartOptions",
    "bench_codec",
    "bench_engine",
    "bench_experts",
    "bench_kernels",
    "bench_serve",
    "bench_start",
    "machine",
    "slug",
    "write_result",
]

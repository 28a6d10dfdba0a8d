"""Floor 9: every figure we claim, each speed a ratio to something measured in the same run."""

from h2q.bench.codec import bench_codec
from h2q.bench.kernels import bench_kernels
from h2q.bench.machine import machine, slug
from h2q.bench.materials import TRIAL_BELOW
from h2q.bench.results import write_result

__all__ = ["TRIAL_BELOW", "bench_codec", "bench_kernels", "machine", "slug", "write_result"]

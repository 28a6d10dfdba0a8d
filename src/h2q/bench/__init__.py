"""Floor 9: every speed figure we claim, each a ratio to something measured in the same run."""

from h2q.bench.kernels import bench_kernels
from h2q.bench.machine import machine
from h2q.bench.results import write_result

__all__ = ["bench_kernels", "machine", "write_result"]

"""What a figure was measured on."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import psutil

import h2q
from h2q import kernels
from h2q.core import settings


def machine() -> dict[str, str | int]:
    """Processor, memory, versions and kernel path of this process."""
    return {
        "processor": _processor(),
        "cores": settings.usable_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "h2q": h2q.__version__,
        "kernel": kernels.path(),
        "threads": kernels.threads(),
    }


def _processor() -> str:
    """The name the processor gives itself, where the system tells it."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()

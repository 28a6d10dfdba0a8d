"""What a figure was measured on."""

from __future__ import annotations

import platform
import re
import subprocess
from pathlib import Path

import numpy as np
import psutil

import h2q
from h2q import kernels
from h2q.core import settings

# (vendor, family, models from, to): microarchitecture, by the numbers that processors report.
MICROARCHITECTURES = {
    ("AuthenticAMD", 0x17, 0x00, 0x2F): "zen",
    ("AuthenticAMD", 0x17, 0x30, 0xFF): "zen2",
    ("AuthenticAMD", 0x19, 0x00, 0x0F): "zen3",
    ("AuthenticAMD", 0x19, 0x10, 0x1F): "zen4",
    ("AuthenticAMD", 0x19, 0x20, 0x5F): "zen3",
    ("AuthenticAMD", 0x19, 0x60, 0xAF): "zen4",
    ("AuthenticAMD", 0x1A, 0x00, 0xFF): "zen5",
    ("GenuineIntel", 6, 0x3C, 0x3F): "haswell",
    ("GenuineIntel", 6, 0x4F, 0x4F): "broadwell",
    ("GenuineIntel", 6, 0x55, 0x55): "skylake",
    ("GenuineIntel", 6, 0x6A, 0x6C): "icelake",
    ("GenuineIntel", 6, 0x8F, 0x8F): "sapphirerapids",
    ("GenuineIntel", 6, 0x97, 0x9A): "alderlake",
    ("GenuineIntel", 6, 0xAD, 0xAE): "graniterapids",
    ("GenuineIntel", 6, 0xCF, 0xCF): "emeraldrapids",
}
WORDS_WITHOUT_MEANING = re.compile(
    r"\((r|tm)\)|@.*|\b(amd|intel|cpu|processor|\d+-core|with .*)\b", re.IGNORECASE
)


def machine() -> dict[str, str | int]:
    """Processor, memory, versions and kernel path of this process."""
    return {
        "processor": processor(),
        "slug": slug(),
        "cores": settings.usable_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "h2q": h2q.__version__,
        "kernel": kernels.path(),
        "threads": kernels.threads(),
    }


class Neighbours:
    """How busy everybody else keeps this machine, from the moment of making on."""

    def __init__(self) -> None:
        self._began = self._times()

    def share(self) -> float:
        """Processor time of other processes and, in a virtual machine, of its host's others: a part
        of all there was. Figures of a run with much of it are too low, and unevenly so.
        """
        total, idle, own = (
            now - then for now, then in zip(self._times(), self._began, strict=True)
        )
        return min(1.0, max(0.0, (total - idle - own) / total)) if total > 0 else 0.0

    @staticmethod
    def _times() -> tuple[float, float, float]:
        every, own = psutil.cpu_times(), psutil.Process().cpu_times()
        counted = every._asdict()
        for name in ("guest", "guest_nice"):  # already within user and nice
            counted.pop(name, None)
        idle = every.idle + getattr(every, "iowait", 0.0)
        mine = (own.user, own.system, own.children_user, own.children_system)  # ended children
        return sum(counted.values()), idle, sum(mine)


def processor() -> str:
    """The name the processor gives itself, where the system tells it."""
    return _reported().get("model name") or platform.processor() or platform.machine()


def slug() -> str:
    """The processor in a file's name: what it is called, and its microarchitecture where it is
    known.
    """
    words = WORDS_WITHOUT_MEANING.sub(" ", processor())
    name = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-") or "processor"
    found = microarchitecture()
    return f"{name}-{found}" if found else name


def microarchitecture() -> str:
    """By vendor, family and model; empty where the table does not know them."""
    told = _reported()
    try:
        family, model = int(told["cpu family"]), int(told["model"])
    except (KeyError, ValueError):
        return ""
    for (vendor, of, first, last), name in MICROARCHITECTURES.items():
        if vendor == told.get("vendor_id") and of == family and first <= model <= last:
            return name
    return ""


def _reported() -> dict[str, str]:
    """The first processor of /proc/cpuinfo; on Apple machines its brand."""
    if platform.system() == "Darwin":
        brand = ("sysctl", "-n", "machdep.cpu.brand_string")
        found = subprocess.run(brand, capture_output=True, text=True, check=False)
        return {"model name": found.stdout.strip()}
    information = Path("/proc/cpuinfo")
    if information.exists():
        first = information.read_text().partition("\n\n")[0]
        pairs = (line.partition(":") for line in first.splitlines())
        return {name.strip(): value.strip() for name, _, value in pairs}
    return {}

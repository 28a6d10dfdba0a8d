"""h2q doctor: what this machine can do, proven by doing it."""

from __future__ import annotations

from typing import Any

from h2q.cli.options import Json


def doctor(json: Json = False) -> None:
    """Show processor features (found and executed), the kernel path and why, memory and disk."""
    from h2q.cli.output import emit, table
    from h2q.core.units import format_bytes

    found = examine()
    if json:
        emit(found)
        return
    rows = [(name, str(value)) for name, value in found["versions"].items()]
    rows += [
        (
            name,
            "found and executed" if f["executed"] else "found, did not run" if f["found"] else "no",
        )
        for name, f in found["features"].items()
    ]
    rows += [
        ("kernel path", f"{found['kernel']} ({found['reason']})"),
        ("paths available", ", ".join(found["available"])),
        ("cores", _cores(found)),
        ("threads", str(found["threads"])),
        ("memory free", f"{format_bytes(found['memory_free'])} of {format_bytes(found['memory'])}"),
        ("disk free here", format_bytes(found["disk_free"])),
    ]
    table("doctor", rows)


def _cores(found: dict[str, Any]) -> str:
    fast, slow = found["performance_cores"], found["efficiency_cores"]
    return f"{fast} for performance, {slow} for efficiency" if slow else f"{fast}, all of one kind"


def examine() -> dict[str, Any]:
    """The findings as plain JSON types."""
    import platform
    import shutil
    from importlib.metadata import version

    import psutil

    from h2q import kernels
    from h2q.core import settings

    path = kernels.path()
    if settings.kernel():
        reason = "forced by H2Q_KERNEL"
    elif kernels.load_error():
        reason = f"the extension could not be loaded: {kernels.load_error()}"
    else:
        reason = "the fastest whose every instruction ran here"
    memory = psutil.virtual_memory()
    performance, efficiency = kernels.cores()
    return {
        "versions": {
            "h2q": version("h2q"),
            "python": platform.python_version(),
            "numpy": version("numpy"),
            "tokenizers": version("tokenizers"),
            "system": platform.platform(),
        },
        "features": kernels.features(),
        "kernel": path,
        "reason": reason,
        "available": kernels.available(),
        "threads": kernels.threads(),
        "cores": settings.usable_cores(),
        "performance_cores": performance,
        "efficiency_cores": efficiency,
        "memory": memory.total,
        "memory_free": memory.available,
        "disk_free": shutil.disk_usage(".").free,
    }

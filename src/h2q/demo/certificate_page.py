"""A certificate as one self-contained page. A certificate is a file, perhaps of an older program or
another's hand: whatever is missing or not of the expected kind is left out, text is escaped.
"""

from __future__ import annotations

import math
from typing import Any

from h2q.core.units import format_bytes, format_seconds
from h2q.demo import sheet
from h2q.demo.curves import Axis, Curve, bars, curves, exact_bytes
from h2q.demo.plots import (
    Point,
    TensorError,
    error_per_tensor,
    quality_against_bytes,
    tensor_kind,
)

Json = dict[str, Any]
BYTES = Axis("bytes on disk", exact_bytes, log=True, doublings=True)
SMALLEST, LARGEST = 1e-12, 1e30  # of a number that is drawn; below is zero, above no number
LAYER = Axis("layer", lambda v: f"{v:g}" if v == int(v) else "")


def certificate_page(certificate: Json, name: str) -> str:
    """The HTML of the certificate of the crystal `name`."""
    parts = [
        "<h1>Certificate</h1>",
        sheet.lead(f"What was measured when the crystal {name} was grown."),
        sheet.cards(_cards(certificate)),
        *(
            sheet.section(title, body, note)
            for title, body, note in (
                ("Quality against bytes", _quality(certificate), ""),
                ("KL divergence against bytes", _divergence(certificate), KL_NOTE),
                ("Every prefix is a model", _prefixes(certificate), ""),
                ("Error of every tensor", _errors(certificate), ""),
                ("Error over depth", _relative_errors(certificate), ERROR_NOTE),
                ("Growth over depth", _growth(certificate), _growth_note(certificate)),
                ("Spectral shift", _spectral_shift(certificate), SHIFT_NOTE),
                ("Seconds by stage", _seconds(certificate), ""),
                ("Text", _facts(certificate.get("text")), ""),
                ("Plan", _facts(certificate.get("plan")), ""),
                ("Made with", _made_with(certificate), ""),
            )
            if body
        ),
    ]
    return sheet.document(f"Certificate of {name}", parts)


KL_NOTE = "Of the crystal from the original, nats per token: the mean, and the 99th percentile."
ERROR_NOTE = "Norm of crystal minus original over the norm of the original, after each layer."
SHIFT_NOTE = (
    "Eigenvalues of W^T W that the crystal moved above (positive) or below each strength, as a "
    "share of their number; strengths are singular values over the largest."
)


def _cards(certificate: Json) -> list[tuple[str, str]]:
    rows = (
        ("ratio_fp32", "smaller than float32", "{:.2f}x".format),
        ("quality", "quality kept", "{:.2%}".format),
        ("quality_error", "its standard error", "{:.2%}".format),
        ("kl_mean", "mean KL, nats per token", "{:.4f}".format),
        ("top1_agreement", "same first choice", "{:.1%}".format),
        ("crystal_bytes", "crystal", format_bytes),
        ("peak_memory_bytes", "peak memory while growing", format_bytes),
    )
    return [
        (show(value), label)
        for key, label, show in rows
        if (value := _number(certificate, key)) is not None
    ]


def _rows(certificate: Json, key: str) -> list[Json]:
    rows = certificate.get(key)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _number(row: Any, key: str) -> float | None:
    value = row.get(key) if isinstance(row, dict) else None
    return _finite(value)


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Bounds keep every quotient and power of a drawing finite.
    if not math.isfinite(value) or abs(value) > LARGEST:
        return None
    return value if abs(value) > SMALLEST else 0.0


def _numbers(row: Any, key: str) -> list[float]:
    """A list of numbers, empty when anything in it is not one."""
    values = row.get(key) if isinstance(row, dict) else None
    found = [_finite(value) for value in values] if isinstance(values, list) else []
    return [] if None in found else [value for value in found if value is not None]


def _label(prefix: Json) -> str:
    groups = prefix.get("groups")
    return "base" if groups == 0 else f"base + {groups}"


def _quality(certificate: Json) -> str:
    points = [
        Point(_label(row), int(size), quality)
        for row in _rows(certificate, "prefixes")
        if (size := _number(row, "bytes")) and size >= 1
        if (quality := _number(row, "quality")) is not None and quality >= 0
    ]
    if not points:
        return ""
    original = _number(certificate, "original_bytes_bf16")
    if original is not None and original >= 1:
        points.append(Point("original, bfloat16", int(original), 1.0, True))
    return quality_against_bytes(points)


def _divergence(certificate: Json) -> str:
    lines = []
    for key, legend in (("kl_mean", "mean"), ("kl_p99", "99th percentile")):
        points = [
            (size, value)
            for row in _rows(certificate, "prefixes")
            if (size := _number(row, "bytes")) and size >= 1
            if (value := _number(row, key)) and value > 0
        ]
        if points:
            lines.append(Curve(legend, tuple(sorted(points))))
    axis = Axis("KL divergence, nats per token", log=True)
    return curves(lines, BYTES, axis, "KL divergence against bytes") if lines else ""


def _prefixes(certificate: Json) -> str:
    columns = (
        ("bytes", "bytes", format_bytes),
        ("ratio_fp32", "ratio", "{:.2f}".format),
        ("quality", "quality", "{:.4f}".format),
        ("perplexity_crystal", "perplexity", "{:.3f}".format),
        ("kl_mean", "mean KL", "{:.4f}".format),
        ("kl_p99", "KL, 99%", "{:.3f}".format),
        ("top1_agreement", "same first choice", "{:.1%}".format),
    )
    rows = _rows(certificate, "prefixes")
    body = [
        [
            _label(row),
            *(
                "" if (value := _number(row, key)) is None else show(value)
                for key, _, show in columns
            ),
        ]
        for row in rows
    ]
    return sheet.table(["planes", *(name for _, name, _ in columns)], body) if rows else ""


def _errors(certificate: Json) -> str:
    errors = [
        TensorError(row["tensor"], sum(_numbers(row, "bits")), error)
        for row in _rows(certificate, "layers")
        if isinstance(row.get("tensor"), str)
        if (error := _number(row, "error")) is not None and error >= 0
    ]
    return error_per_tensor(errors) if errors else ""


def _relative_errors(certificate: Json) -> str:
    values = _numbers(certificate.get("growth"), "relative_error")
    if not values:
        return ""
    lines = [Curve("relative error", tuple((float(i), v) for i, v in enumerate(values)))]
    return curves(lines, LAYER, Axis("relative error of hidden states"), "Error over depth")


def _growth(certificate: Json) -> str:
    growth = certificate.get("growth")
    values = _numbers(growth, "depth")
    if not values:
        return ""
    # Without a state before the first layer the first exponent is missing.
    first = max(0, len(_numbers(growth, "relative_error")) - len(values))
    points = tuple((float(first + i), v) for i, v in enumerate(values))
    bound = _number(growth, "bound")
    return curves(
        [Curve("growth exponent", points)],
        LAYER,
        Axis("growth exponent, nats per layer; the bound dashed"),
        "Growth exponent over depth",
        [] if bound is None else [bound],
    )


def _growth_note(certificate: Json) -> str:
    growth = certificate.get("growth")
    unstable = [f"{value:g}" for value in _numbers(growth, "unstable")]
    words = [f"Unstable layers: {', '.join(unstable) or 'none'}."]
    if (slope := _number(growth, "tokens")) is not None:
        words.append(f"Over tokens the error grows by {slope:.3g} nats per token.")
    return " ".join(words)


def _spectral_shift(certificate: Json) -> str:
    lines = []
    for row in _rows(certificate, "layers"):
        shift, tensor = row.get("spectral_shift"), row.get("tensor")
        values, count = _numbers(shift, "curve"), _number(shift, "of")
        if not values or not count or count < 1 or not isinstance(tensor, str):
            continue
        points = tuple(((i + 0.5) / len(values), v / count) for i, v in enumerate(values))
        total = _number(shift, "total")
        title = tensor if total is None else f"{tensor}: {total:.3g} of the trace moved"
        lines.append(Curve(tensor_kind(tensor), points, title, thin=True))
    axis = Axis("singular value over the largest")
    return curves(lines, axis, Axis("spectral shift"), "Spectral shift curves") if lines else ""


def _seconds(certificate: Json) -> str:
    seconds = certificate.get("seconds")
    names = seconds if isinstance(seconds, dict) else {}
    rows = [(name, v) for name in names if (v := _number(seconds, name)) is not None and v >= 0]
    return bars(rows, format_seconds, "Seconds by stage") if rows else ""


def _facts(entry: Any) -> str:
    """Single values of an object; a list by its length."""
    if not isinstance(entry, dict):
        return ""
    return sheet.facts((name.replace("_", " "), _words(value)) for name, value in entry.items())


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return f"{len(value)} entries" if len(value) > 12 else ", ".join(map(_words, value))
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "none" if value is None else str(value)


def _made_with(certificate: Json) -> str:
    versions = certificate.get("versions")
    facts = dict(versions) if isinstance(versions, dict) else {}
    if isinstance(kernel := certificate.get("kernel"), str):
        facts["kernel path"] = kernel
    if (peak := _number(certificate, "peak_memory_bytes")) is not None:
        facts["peak memory"] = format_bytes(peak)
    return _facts(facts) if facts else ""

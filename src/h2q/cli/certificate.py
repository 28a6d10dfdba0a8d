"""A certificate as a person reads it. What an older certificate does not state is left out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from h2q.cli.output import say, table
from h2q.core.errors import CrystalError, ResourceError
from h2q.core.units import format_bytes, format_seconds

MOST_TENSORS = 8  # named in the terminal; the page shows all
FEW_TOKENS = 64  # as many as all tokens stand in for (docs/certificate.md)


def show_certificate(certificate: dict[str, Any]) -> None:
    """The headline and one line per prefix. Raises CrystalError when a figure is missing."""
    with _legible():
        _headline(certificate)


def show_details(certificate: dict[str, Any]) -> None:
    """The worst tensors, growth, texts, time, memory, versions, as far as they are stated. Raises
    CrystalError when something is not of its kind.
    """
    with _legible():
        _details(certificate)


@contextmanager
def _legible() -> Iterator[None]:
    """A certificate is a file, perhaps of another's hand."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise CrystalError(
            f"The certificate cannot be read: {type(error).__name__}, {error}.",
            where="certificate.json",
            fix="Grow the crystal again.",
        ) from error


def _headline(certificate: dict[str, Any]) -> None:
    original = certificate["original_bytes_fp32"]
    source = certificate.get("source", {}).get("precision")
    error = f" ± {certificate['quality_error']:.4f}" if "quality_error" in certificate else ""
    table(
        "certificate",
        [
            *([("original, as it was", str(source))] if source else []),
            ("original, float32", format_bytes(original)),
            ("crystal", format_bytes(certificate["crystal_bytes"])),
            ("ratio to float32", f"{certificate['ratio_fp32']:.2f}"),
            ("ratio to bfloat16", f"{certificate['ratio_bf16']:.2f}"),
            ("quality", f"{certificate['quality']:.4f}{error}"),
            ("mean KL divergence", f"{certificate['kl_mean']:.4f} nats per token"),
            ("same first choice", f"{certificate['top1_agreement']:.1%} of tokens"),
            (
                "measured on",
                f"{certificate['text']['tokens']:,} tokens {certificate['text']['measured_on']}",
            ),
        ],
    )
    rows = [
        (
            "base" if prefix["groups"] == 0 else f"base + {prefix['groups']}",
            f"{format_bytes(prefix['bytes']):>10}   ratio {prefix['ratio_fp32']:5.2f}   "
            f"quality {prefix['quality']:.4f}   KL {prefix['kl_mean']:.4f}"
            + (f"   KL 99% {prefix['kl_p99']:.3f}" if "kl_p99" in prefix else ""),
        )
        for prefix in certificate["prefixes"]
    ]
    table("every prefix is a model", rows)


def _details(certificate: dict[str, Any]) -> None:
    worst = sorted(certificate["layers"], key=lambda row: -row["error"])[:MOST_TENSORS]
    table(
        "tensors with the largest error",
        [(row["tensor"], _tensor(row)) for row in worst],
    )
    if counts := sorted(row["tokens"] for row in certificate["layers"] if "tokens" in row):
        few = sum(count < FEW_TOKENS for count in counts)
        rows = [
            (
                "fewest, median, most",
                f"{counts[0]:,}, {counts[len(counts) // 2]:,}, {counts[-1]:,}",
            ),
            (f"fewer than {FEW_TOKENS}", f"{few:,} of {len(counts):,} matrices"),
        ]
        table("calibration tokens that chose a matrix's expert", rows)
    if growth := certificate.get("growth"):
        depth = " ".join(f"{value:+.2f}" for value in growth["depth"])
        unstable = ", ".join(map(str, growth["unstable"])) or "none"
        rows = [("over depth, nats per layer", depth), ("unstable layers", unstable)]
        if growth.get("tokens") is not None:
            rows.append(("over tokens, nats per token", f"{growth['tokens']:.2g}"))
        table("growth of the error", rows)
    texts = certificate["text"].items()
    table("text", [(name.replace("_", " "), str(value)) for name, value in texts])
    table(
        "seconds",
        [(name, format_seconds(value)) for name, value in certificate["seconds"].items()],
    )
    made = [*certificate["versions"].items(), ("kernel path", certificate["kernel"])]
    if peak := certificate.get("peak_memory_bytes"):
        made.append(("peak memory", format_bytes(peak)))
    table("made with", made)


def write_html(path: Path, certificate: dict[str, Any], name: str) -> None:
    """The certificate of the crystal `name` as a page with plots. Raises ResourceError."""
    from h2q.demo.certificate_page import certificate_page

    try:
        path.write_text(certificate_page(certificate, name), encoding="utf-8")
    except OSError as error:
        raise ResourceError(
            f"The page cannot be written: {error.strerror}.", where=str(path)
        ) from error
    say(f"page: {path}")


def _tensor(row: dict[str, Any]) -> str:
    bits = "+".join(map(str, row["bits"]))
    words = f"{bits} bits   error {row['error']:.4g}"
    if "singular_shift" in row:
        words += f"   singular values moved by {row['singular_shift']:.2%}"
    return words

"""A certificate as a person reads it."""

from __future__ import annotations

from typing import Any

from h2q.cli.output import table
from h2q.core.units import format_bytes


def show_certificate(certificate: dict[str, Any]) -> None:
    """The headline and one line per prefix."""
    original = certificate["original_bytes_fp32"]
    table(
        "certificate",
        [
            ("original, float32", format_bytes(original)),
            ("crystal", format_bytes(certificate["crystal_bytes"])),
            ("ratio to float32", f"{certificate['ratio_fp32']:.2f}"),
            ("ratio to bfloat16", f"{certificate['ratio_bf16']:.2f}"),
            ("quality", f"{certificate['quality']:.4f}"),
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
            f"quality {prefix['quality']:.4f}   KL {prefix['kl_mean']:.4f}",
        )
        for prefix in certificate["prefixes"]
    ]
    table("every prefix is a model", rows)

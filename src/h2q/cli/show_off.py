"""h2q demo: the whole story on the model that comes with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from h2q.cli.options import Json
from h2q.cli.parameters import Option


def demo(
    out: Annotated[Path, Option(help="Folder for the crystal and the report.")] = Path("h2q-demo"),
    json: Json = False,
) -> None:
    """Crystallize the seed model, start it, let it talk, measure it, and write a report."""
    from h2q.cli.certificate import show_certificate
    from h2q.cli.output import emit, progress, say, table
    from h2q.core.units import format_bytes, format_seconds
    from h2q.demo import Demo

    story = Demo(out)
    with progress() as listen:
        certificate = story.grow(listen)
    if not json:
        show_certificate(certificate)
    say("starting the crystal in new processes ...")
    report = story.talk()
    if json:
        emit(report)
        return
    table(
        "talking",
        [
            ("process start to first token", format_seconds(report["first_token_seconds"])),
            ("the same, base alone", format_seconds(report["base"]["first_token_seconds"])),
            ("speed", f"{report['tokens_per_second']:.0f} tokens/s"),
            ("peak memory", format_bytes(report["peak_rss_bytes"])),
        ],
    )
    for name, text in report["stories"].items():
        print(f"\n--- {name} ---\n{text}")
    print(f"\nreport: {out / 'report.html'}")

"""h2q eval: how much of the original a crystal keeps on a given text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from h2q.cli.options import SOURCES, CrystalPath, Json, read_text, source_place
from h2q.cli.parameters import Option


def evaluate(
    crystal: CrystalPath,
    against: Annotated[str, Option(metavar="SOURCE", help=f"The original model. {SOURCES}")],
    text: Annotated[Path, Option(help="UTF-8 text, or .xz.")],
    tokens: Annotated[int, Option(min=0, help="Tokens to measure on; 0: all.")] = 32_768,
    length: Annotated[int, Option(min=2, help="Tokens per row of context.")] = 512,
    json: Json = False,
) -> None:
    """Measure a crystal against its original: perplexity, KL divergence, agreement, quality."""
    from h2q.cli.output import emit, progress, table
    from h2q.core.errors import TextError
    from h2q.core.events import Progress
    from h2q.crystal import open_crystal
    from h2q.crystallize import compare
    from h2q.crystallize.sampling import cut_text
    from h2q.engine import load_crystal, load_original
    from h2q.sources import open_source
    from h2q.text import Tokenizer

    with progress() as listen:
        source = open_source(source_place(against), listen)
    opened = open_crystal(crystal)
    tokenizer = Tokenizer(opened.tokenizer_path)
    tokenizer.require_fit(opened.spec.vocab_size)
    if source.spec != opened.spec:
        raise TextError("The crystal was not grown from a model of this shape.", where=against)
    # Four characters a token at most are needed; encoding all of a long text would take minutes.
    words = read_text(text)
    ids = tokenizer.encode(words[: 16 * tokens] if tokens else words, special=False)
    if len(ids) < 2:
        raise TextError("The text is too short to measure on.", where=text.name)
    rows = cut_text(ids, opened.spec, length, tokens or None)
    names = ["all planes", *(["base alone"] if opened.rank else [])]
    models = [load_crystal(opened), *([load_crystal(opened, 0)] if opened.rank else [])]
    with progress() as listen:
        results = compare(
            load_original(source), models, rows, lambda share: listen(Progress("measure", share, 1))
        )
    if json:
        document = results[0].to_json()
        emit({**document, "base": results[-1].to_json(), "text": text.name})
        return
    for name, result in zip(names, results, strict=True):
        table(
            f"{name}, {result.tokens:,} tokens of {text.name}",
            [
                ("perplexity of the original", f"{result.perplexity_original:.3f}"),
                ("perplexity of the crystal", f"{result.perplexity_crystal:.3f}"),
                ("mean KL divergence", f"{result.kl_mean:.4f} nats per token"),
                ("same first choice", f"{result.top1_agreement:.1%}"),
                ("quality", f"{result.quality:.4f} ± {result.quality_error:.4f}"),
            ],
        )

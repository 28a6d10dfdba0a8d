"""Out again: any prefix of a crystal, or an original, as a GGUF file that other engines run.

A crystal's matrices are decoded (levels times scales, summed over the planes) and rotated back, a
strip of rows at a time; what the file rounds to its own type is all that differs from the crystal's
weights.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from h2q.core.architecture import parts
from h2q.core.errors import TextError, UsageError
from h2q.core.events import ProgressListener, silent
from h2q.core.files import read_bounded
from h2q.core.tensor_spec import TensorSpec
from h2q.crystal import Crystal
from h2q.crystallize.export_gguf import (
    Exportable,
    Exported,
    FloatArray,
    RowReader,
    require_free,
    weight_type,
    write_gguf,
)
from h2q.crystallize.export_words import vocabulary
from h2q.engine.projections import PlaneEmbedding
from h2q.geometry.rotation import rotation
from h2q.sources import Source
from h2q.text.tokenizer import MAX_TOKENIZER_BYTES


class CrystalWeights:
    """Weights of the base and the first `groups` refinement groups, in the original basis."""

    def __init__(self, crystal: Crystal, groups: int | None = None) -> None:
        self._crystal, self._groups = crystal, groups

    def norm(self, name: str) -> FloatArray:
        return self._crystal.raw(name)

    def rows(self, tensor: TensorSpec) -> RowReader:
        tiers = {p.name: tuple(self._crystal.planes(p.name, self._groups)) for p in parts(tensor)}
        return PlaneEmbedding(tiers, rotation(self._crystal.rotation_seed, tensor.shape[1]))


class SourceWeights:
    """Weights of an original."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def norm(self, name: str) -> FloatArray:
        return self._source.tensor(name)

    def rows(self, tensor: TensorSpec) -> RowReader:
        weights = np.asarray(self._source.tensor(tensor.name), np.float32)
        return lambda ids: weights[ids]


def export_crystal(
    crystal: Crystal,
    target: Path,
    kind: str = "f16",
    groups: int | None = None,
    overwrite: bool = False,
    progress: ProgressListener = silent,
) -> Exported:
    """Write the base and the first `groups` refinement groups (None: all) as a GGUF file of `kind`
    (a key of WEIGHT_TYPES).

    Raises UsageError when there are not so many groups, the type is unknown or the target may not
    be replaced, TextError when the tokenizer has no form in GGUF, QualityError when a weight is too
    large for the type, CrystalError when a shard is damaged, ResourceError when the disk is full.
    """
    if groups is not None and not 0 <= groups <= len(crystal.rank):
        raise UsageError(
            f"The crystal has no {groups:,} refinement groups.",
            where=crystal.path.name,
            fix=f"Choose 0 (the base alone) to {len(crystal.rank):,}.",
        )
    chosen = weight_type(kind)
    require_free(target, overwrite)
    model = Exportable(
        name=crystal.path.name.removesuffix(".crystal"),
        spec=crystal.spec,
        weights=CrystalWeights(crystal, groups),
        vocabulary=vocabulary(_text(crystal.tokenizer_path), crystal.spec),
        chat_template=crystal.chat_template(),
    )
    return write_gguf(target, model, chosen, progress)


def export_source(
    source: Source,
    target: Path,
    name: str,
    kind: str = "f16",
    overwrite: bool = False,
    progress: ProgressListener = silent,
) -> Exported:
    """Write an original as a GGUF file. Raises as export_crystal does, and SourceError."""
    chosen = weight_type(kind)
    require_free(target, overwrite)
    model = Exportable(
        name=name,
        spec=source.spec,
        weights=SourceWeights(source),
        vocabulary=vocabulary(source.tokenizer_json(), source.spec),
        chat_template=source.chat_template(),
    )
    return write_gguf(target, model, chosen, progress)


def _text(path: Path) -> str:
    try:
        return read_bounded(path, MAX_TOKENIZER_BYTES, TextError).decode("utf-8")
    except UnicodeDecodeError as error:
        raise TextError("The file is not UTF-8 text.", where=path.name) from error

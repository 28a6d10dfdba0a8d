"""Out again: any prefix of a crystal, or an original, as a GGUF file that other engines run.

A crystal's matrices are decoded (levels times scales, summed over the planes) and rotated back, a
strip of rows at a time; what the file rounds to its own type is all that differs from the crystal's
weights.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from h2q import kernels
from h2q.core.architecture import TensorSpec, parts
from h2q.core.errors import TextError, UsageError
from h2q.core.events import ProgressListener, silent
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
from h2q.geometry.rotation import rotation
from h2q.sources import Source
from h2q.text.tokenizer import MAX_TOKENIZER_BYTES

TEMPLATE = "chat_template.jinja"
MAX_TEMPLATE_BYTES = 16 << 20


class CrystalWeights:
    """Weights of the base and the first `groups` refinement groups, in the original basis."""

    def __init__(self, crystal: Crystal, groups: int | None = None) -> None:
        self._crystal, self._groups = crystal, groups

    def norm(self, name: str) -> FloatArray:
        return self._crystal.raw(name)

    def rows(self, tensor: TensorSpec) -> RowReader:
        stacks = [self._crystal.planes(part.name, self._groups) for part in parts(tensor)]
        ends = np.cumsum([stack[0].spec.rows for stack in stacks])
        turn = rotation(self._crystal.rotation_seed, tensor.shape[1])

        def read(ids: npt.NDArray[np.int64]) -> FloatArray:
            rows = np.empty((len(ids), turn.width), np.float32)
            owner = np.searchsorted(ends, ids, side="right")
            for index, stack in enumerate(stacks):
                if len(chosen := np.flatnonzero(owner == index)):
                    begin = ends[index] - stack[0].spec.rows
                    rows[chosen] = kernels.gather_rows(stack, ids[chosen] - begin)
            return kernels.unrotate(rows, turn)

        return read


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
    large for the type, ResourceError when the disk is full.
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
        chat_template=_template(crystal.path / TEMPLATE),
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


def _template(path: Path) -> str | None:
    return _text(path, MAX_TEMPLATE_BYTES) if path.is_file() else None


def _text(path: Path, limit: int = MAX_TOKENIZER_BYTES) -> str:
    try:
        if path.stat().st_size > limit:
            raise TextError(f"The file is larger than {limit:,} bytes.", where=path.name)
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise TextError(f"The file cannot be read: {error.strerror}.", where=path.name) from error
    except UnicodeDecodeError as error:
        raise TextError("The file is not UTF-8 text.", where=path.name) from error

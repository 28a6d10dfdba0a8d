"""The files of one GGUF model: a single file, or every shard of a split one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from h2q.core.errors import SourceError, shown
from h2q.core.gguf_header import GGUFHeader, GGUFTensor, read_gguf_header
from h2q.sources.gguf_metadata import Metadata

NAME = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
COUNT, NUMBER, TENSORS = "split.count", "split.no", "split.tensors.count"


@dataclass(frozen=True)
class GGUFModel:
    """Metadata of the first file, and of every tensor its file and place."""

    metadata: Metadata
    tensors: dict[str, tuple[Path, GGUFTensor]]


def open_shards(path: Path) -> GGUFModel:
    """Any shard of a split model opens the whole. Raises SourceError when one is missing, of
    another model, or out of order.
    """
    header = read_gguf_header(path, SourceError)
    count = Metadata(header.values, path.name).integer(COUNT)
    files = [(path, header)] if count in (None, 0, 1) else _siblings(path, count)
    tensors: dict[str, tuple[Path, GGUFTensor]] = {}
    for file, found in files:
        for name, tensor in found.tensors.items():
            if name in tensors:
                raise SourceError(f"The tensor {shown(name)} is in two shards.", where=file.name)
            tensors[name] = file, tensor
    metadata = Metadata(files[0][1].values, files[0][0].name)
    claimed = metadata.integer(TENSORS)
    if len(files) > 1 and claimed not in (None, len(tensors)):
        raise SourceError(
            f"The shards hold {len(tensors):,} tensors, not the {claimed:,} they claim.",
            where=path.name,
        )
    return GGUFModel(metadata, tensors)


def _siblings(path: Path, count: int) -> list[tuple[Path, GGUFHeader]]:
    name = NAME.fullmatch(path.name)
    if name is None or int(name["count"]) != count:
        raise SourceError(
            f"This is one of {count:,} shards, but its name does not say so.",
            where=path.name,
            fix="Give shards the names they came with, such as model-00001-of-00002.gguf.",
        )
    files = []
    for number in range(1, count + 1):
        file = path.with_name(f"{name['stem']}-{number:05}-of-{count:05}.gguf")
        if not file.is_file():
            raise SourceError(
                f"Shard {number:,} of {count:,} is missing.", where=file.name, fix="Fetch it too."
            )
        header = read_gguf_header(file, SourceError)
        keys = Metadata(header.values, file.name)
        if keys.integer(COUNT) != count or keys.integer(NUMBER) != number - 1:
            raise SourceError(
                f"The file does not call itself shard {number:,} of {count:,}.",
                where=file.name,
                fix="Shards were mixed up or renamed; fetch them again.",
            )
        files.append((file, header))
    return files

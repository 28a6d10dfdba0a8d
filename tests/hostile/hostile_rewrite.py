"""Writing a crystal's content again, for tests and the processes they kill."""

from __future__ import annotations

from pathlib import Path

from h2q.crystal import CrystalWriter, open_crystal


def rewrite(crystal: Path, target: Path, overwrite: bool = False) -> None:
    """Write a crystal's content again, somewhere else."""
    opened = open_crystal(crystal)
    with CrystalWriter(target, opened.spec, opened.rotation_seed, overwrite) as writer:
        for name in opened.entries(0):
            if name.endswith("norm.weight"):
                writer.add_raw(name, opened.raw(name))
        for name in opened.manifest.bits:
            writer.add_planes(name, opened.planes(name))
        writer.rank([list(group) for group in opened.rank])
        writer.tokenizer(opened.tokenizer_path.read_text(encoding="utf-8"))
        writer.certificate({"format": 1})
        writer.commit()

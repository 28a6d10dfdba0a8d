"""Builds Ollama stores for tests in their real layout."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

IMAGE = "application/vnd.ollama.image."
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
GGUF = b"GGUF" + bytes(range(200))


@dataclass
class Store:
    """A store in `root`; blobs are written as models name them."""

    root: Path
    separator: str = "-"
    config: dict[str, Any] = field(default_factory=lambda: {"model_format": "gguf"})

    def blob(self, data: bytes, kind: str = "") -> dict[str, Any]:
        """Writes a blob and returns its entry for a manifest."""
        digest = hashlib.sha256(data).hexdigest()
        path = self.root / "blobs" / f"sha256{self.separator}{digest}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        media = kind if "/" in kind else IMAGE + kind
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(data)}

    def manifest(self, layers: list[dict[str, Any]]) -> dict[str, Any]:
        """A manifest of these layers under this store's config."""
        config = self.blob(json.dumps(self.config).encode(), CONFIG_TYPE)
        return {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": config,
            "layers": layers,
        }

    def write(self, name: str, manifest: dict[str, Any] | bytes) -> Path:
        """Puts a manifest at host/namespace/model/tag."""
        path = self.root / "manifests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
        path.write_bytes(text)
        return path

    def add(self, name: str, weights: bytes = GGUF, **texts: str | bytes) -> Path:
        """A whole model: its weights and text layers by kind; returns its manifest's path."""
        layers = [self.blob(weights, "model")]
        for kind, text in texts.items():
            layers.append(self.blob(text if isinstance(text, bytes) else text.encode(), kind))
        return self.write(name, self.manifest(layers))

    def files(self) -> dict[str, tuple[int, int, bytes]]:
        """Everything in the store: mode, modification time, bytes."""
        return {
            str(path.relative_to(self.root)): (
                path.stat().st_mode,
                path.stat().st_mtime_ns,
                path.read_bytes() if path.is_file() else b"",
            )
            for path in sorted(self.root.rglob("*"))
        }

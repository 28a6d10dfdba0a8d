"""A model of an Ollama store as its manifest describes it; what this version cannot run is refused.

{"config": {digest, size}, "layers": [{mediaType, digest, size}, ...]}
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from h2q.core.errors import SourceError
from h2q.core.events import Progress, ProgressListener, silent
from h2q.core.model_name import OllamaName
from h2q.core.safetensors_header import parse_json
from h2q.sources.ollama_files import find_blob, pull_again, read_blob, read_manifest

HASHED_BYTES = 4 << 20
IMAGE = "application/vnd.ollama.image."
TEXTS = frozenset({"template", "prompt", "system", "params", "messages", "license"})
IGNORED = frozenset({"embed", "draft"})  # obsolete; only makes drafts faster, never other text
GGUF_ONLY = "This version reads models that are one GGUF file of text to text."
UNSUPPORTED = {
    "adapter": "is an adapter on top of another model",
    "projector": "reads pictures or sound through a projector",
    "tensor": "is stored as single tensors and not as one GGUF file",
    "json": "is stored as single tensors and not as one GGUF file",
}

Value = bool | int | float | str | tuple[str, ...]


@dataclass(frozen=True)
class Parameter:
    """A generation setting that comes with a model, as `temperature` or `stop`."""

    name: str
    value: Value


@dataclass(frozen=True)
class Message:
    """A turn of a conversation that a model begins with."""

    role: str
    content: str


@dataclass(frozen=True)
class OllamaModel:
    """A model as its manifest describes it. `path` is the GGUF file, `digest` its sha256 in hex;
    the template is in Go's language; `renderer` and `parser` name built-in formats that replace it.
    """

    name: OllamaName
    path: Path
    digest: str
    size: int
    template: str | None
    system: str | None
    parameters: tuple[Parameter, ...]
    messages: tuple[Message, ...]
    license: tuple[str, ...]
    renderer: str | None
    parser: str | None

    def verify(self, progress: ProgressListener = silent) -> None:
        """Reads the whole GGUF file and compares its sha256 with its name. Raises SourceError."""
        found, done = hashlib.sha256(), 0
        try:
            with self.path.open("rb") as file:
                while part := file.read(HASHED_BYTES):
                    found.update(part)
                    done += len(part)
                    progress(Progress("check the stored model", done, self.size, "bytes"))
        except OSError as error:
            raise SourceError(
                f"The store cannot be read: {error.strerror}.", where=str(self.name)
            ) from error
        if found.hexdigest() != self.digest:
            raise SourceError(
                "The stored model is damaged: its checksum is not the one it is named by.",
                where=str(self.name),
                fix=pull_again(str(self.name)),
            )


def read_model(store: Path, path: Path) -> OllamaModel:
    """The model of the manifest at `path`. Raises SourceError."""
    name = OllamaName(*path.parts[-4:])
    manifest = read_manifest(store, path, str(name))
    layers = manifest.get("layers")
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        raise SourceError("The manifest has no list of layers.", where=str(name))
    config = _config(store, manifest.get("config"), name)
    texts: dict[str, list[str]] = {}
    models: list[dict[str, Any]] = []
    for layer in layers:
        kind = require_kind(str(layer.get("mediaType")), str(name))
        if kind == "model":
            models.append(layer)
        elif kind in TEXTS:
            data = read_blob(store, layer, str(name))
            texts.setdefault(kind, []).append(_text(data, kind, name))
    if len(models) != 1:
        raise SourceError(
            f"The model has {len(models)} files of weights.", where=str(name), fix=GGUF_ONLY
        )
    blob, digest, size = find_blob(store, models[0], str(name))
    template = [*texts.get("prompt", []), *texts.get("template", [])]
    return OllamaModel(
        name=name,
        path=blob,
        digest=digest,
        size=size,
        template=template[-1] if template else None,
        system=texts["system"][-1] if "system" in texts else None,
        parameters=_parameters(texts["params"][-1], name) if "params" in texts else (),
        messages=_messages(texts["messages"][-1], name) if "messages" in texts else (),
        license=tuple(texts.get("license", ())),
        renderer=_name(config, "renderer"),
        parser=_name(config, "parser"),
    )


def require_kind(media: str, where: str) -> str:
    """What a layer of this media type is. Raises SourceError for what this version cannot use."""
    kind = media.removeprefix(IMAGE) if media.startswith(IMAGE) else ""
    if kind in UNSUPPORTED:
        raise SourceError(f"The model {UNSUPPORTED[kind]}.", where=where, fix=GGUF_ONLY)
    if kind not in TEXTS and kind not in IGNORED and kind != "model":
        raise SourceError(
            f"The layer type {media[:80]!r} is not known to this version.", where=where
        )
    return kind


def _config(store: Path, entry: object, name: OllamaName) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise SourceError("The manifest has no config.", where=str(name))
    config = parse_json(read_blob(store, entry, str(name)), str(name), SourceError)
    if config.get("remote_host") or config.get("remote_model"):
        raise SourceError("The model runs elsewhere; its weights are not here.", where=str(name))
    if config.get("model_format", "gguf") not in ("gguf", ""):
        raise SourceError(
            f"The model is stored as {str(config['model_format'])[:40]!r}.",
            where=str(name),
            fix=GGUF_ONLY,
        )
    return config


def _text(data: bytes, kind: str, name: OllamaName) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SourceError(f"The {kind} layer is not UTF-8 text.", where=str(name)) from error


def _name(config: dict[str, Any], key: str) -> str | None:
    value = config.get(key)
    return value if isinstance(value, str) and value else None


def _parameters(text: str, name: OllamaName) -> tuple[Parameter, ...]:
    found = []
    for key, value in parse_json(text.encode(), str(name), SourceError).items():
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            found.append(Parameter(key, tuple(value)))
        elif isinstance(value, (bool, int, str)) or (
            isinstance(value, float) and math.isfinite(value)
        ):
            found.append(Parameter(key, value))
        else:
            raise SourceError(f"The parameter {key[:40]!r} is malformed.", where=str(name))
    return tuple(found)


def _messages(text: str, name: OllamaName) -> tuple[Message, ...]:
    rows = parse_json(f'{{"messages": {text}}}'.encode(), str(name), SourceError)["messages"]
    if not isinstance(rows, list) or not all(_is_message(row) for row in rows):
        raise SourceError("The messages are malformed.", where=str(name))
    return tuple(Message(row["role"], row["content"]) for row in rows)


def _is_message(row: object) -> bool:
    return isinstance(row, dict) and all(isinstance(row.get(k), str) for k in ("role", "content"))

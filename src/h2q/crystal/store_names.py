"""The manifest of a name: which files its crystal consists of, and what a Modelfile added to it.

names/<host>/<namespace>/<model>/<tag>    one JSON object with a checksum over itself
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from h2q.core.architecture import coded, tensors
from h2q.core.asks import Message
from h2q.core.cards import ModelCard
from h2q.core.errors import CrystalError, SourceError, UsageError
from h2q.core.files import read_bounded
from h2q.core.model_name import FORM, OllamaName, parse_name
from h2q.core.safetensors_header import parse_json
from h2q.crystal.manifest import Manifest

FORMAT, VERSION = "h2q-name", 1
MAX_BYTES = 8 << 20
MAX_FILES = 10_002  # shards of a crystal and what belongs to them
FILE = re.compile(
    r"crystal\.json|certificate\.json|tokenizer\.json|chat_template\.jinja"
    r"|base\.safetensors|refine-\d{2,4}\.safetensors"
)
HEX = re.compile(r"[0-9a-f]{64}")
ROLES = ("system", "user", "assistant")
Named = str | OllamaName
FACTS = ("parameters", "context_length", "embedding_length")


class OtherVersionError(CrystalError):
    """Sound for all we know, but not for us to read: it stays where it is."""


@dataclass(frozen=True)
class StoredFile:
    """A file of a crystal: its plain name, sha256 in hex, bytes."""

    name: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Details:
    """What a name adds to a crystal. `template`: a chat template, Jinja or Go's, instead of the
    crystal's own; `parameters`: sampling options; `origin`: where the crystal was grown from.
    """

    template: str | None = None
    system: str | None = None
    parameters: tuple[tuple[str, Any], ...] = ()
    messages: tuple[tuple[str, str], ...] = ()
    license: tuple[str, ...] = ()
    origin: Mapping[str, str] = field(default_factory=dict)
    capabilities: tuple[str, ...] = ("completion",)


@dataclass(frozen=True)
class StoredModel:
    """An installed model. `facts`: of its crystal (family, parameters, bits, context_length,
    embedding_length); `modified`: seconds since 1970.
    """

    name: OllamaName
    files: tuple[StoredFile, ...]
    facts: Mapping[str, Any]
    details: Details
    modified: float

    @property
    def fingerprint(self) -> str:
        """sha256 in hex over names and checksums of the crystal's files."""
        rows = "".join(f"{file.sha256}  {file.name}\n" for file in self.files)
        return hashlib.sha256(rows.encode()).hexdigest()

    @property
    def digest(self) -> str:
        """sha256 in hex of all that the model consists of, whatever its name."""
        return hashlib.sha256(_canonical(self._body())).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of the crystal's files."""
        return sum(file.bytes for file in self.files)

    def card(self, template: str | None) -> ModelCard:
        """What is told about it; `template`: the crystal's own."""
        details, facts = self.details, self.facts
        return ModelCard(
            name=str(self.name),
            digest=self.digest,
            size=self.size,
            modified=self.modified,
            family=facts["family"],
            parameters=facts["parameters"],
            bits=facts["bits"],
            context_length=facts["context_length"],
            embedding_length=facts["embedding_length"],
            capabilities=details.capabilities,
            template=details.template if details.template is not None else template or "",
            system=details.system or "",
            options=details.parameters,
            messages=tuple(Message(role, text) for role, text in details.messages),  # type: ignore[arg-type]
            license="\n".join(details.license),
            source=" ".join(filter(None, map(details.origin.get, ("source", "precision")))),
        )

    def to_bytes(self) -> bytes:
        """The file's content. Raises UsageError when it is larger than a manifest may be."""
        body = {"name": str(self.name), "modified": self.modified, **self._body()}
        body["sha256"] = hashlib.sha256(_canonical(body)).hexdigest()
        data = json.dumps(body, indent=1).encode() + b"\n"
        if len(data) > MAX_BYTES:
            raise UsageError(
                f"Template, system text, messages and licenses exceed {MAX_BYTES:,} bytes.",
                where=str(self.name),
            )
        return data

    def _body(self) -> dict[str, Any]:
        details = self.details
        return {
            "format": FORMAT,
            "version": VERSION,
            "files": [[file.name, file.sha256, file.bytes] for file in self.files],
            "facts": dict(self.facts),
            "template": details.template,
            "system": details.system,
            "parameters": [[key, _plain(value)] for key, value in details.parameters],
            "messages": [list(row) for row in details.messages],
            "license": list(details.license),
            "origin": dict(details.origin),
            "capabilities": list(details.capabilities),
        }


def store_name(text: Named) -> OllamaName:
    """The installed name that a person or a client means: `llama3.2`, `hf:org/name`,
    `ollama:name`. Raises UsageError.
    """
    if isinstance(text, OllamaName):
        return text
    for prefix, host in (("hf:", "hf.co/"), ("ollama:", "")):
        if text.startswith(prefix):
            text = host + text.removeprefix(prefix).replace("@", ":")
    try:
        return parse_name(text)
    except SourceError as error:
        raise UsageError("invalid model name", where=text[:80], fix=FORM) from error


def read_name(path: Path, name: OllamaName) -> StoredModel:
    """The model of a manifest. Raises CrystalError when it is damaged or of another version."""
    where = str(name)
    document = parse_json(read_bounded(path, MAX_BYTES, CrystalError), where, CrystalError)
    stated = document.pop("sha256", None)
    if document.get("format") != FORMAT:
        raise CrystalError("The manifest of a name is none.", where=where)
    if document.get("version") != VERSION:
        raise OtherVersionError(
            "The name was written by another version of h2q.", where=where, fix="Update h2q."
        )
    if stated != hashlib.sha256(_canonical(document)).hexdigest():
        raise CrystalError("The checksum of a name's manifest is wrong.", where=where)
    try:
        return StoredModel(
            name=name,
            files=_files(document["files"]),
            facts=_facts(document["facts"]),
            details=Details(
                template=_maybe(document["template"]),
                system=_maybe(document["system"]),
                parameters=tuple((_text(key), _tuple(v)) for key, v in document["parameters"]),
                messages=tuple((_role(role), _text(text)) for role, text in document["messages"]),
                license=tuple(map(_text, document["license"])),
                origin={_text(k): _text(v) for k, v in document["origin"].items()},
                capabilities=tuple(map(_text, document["capabilities"])),
            ),
            modified=float(document["modified"]),
        )
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise CrystalError("The manifest of a name is malformed.", where=where) from error


def facts(manifest: Manifest) -> dict[str, Any]:
    """What a list of models tells about a crystal."""
    spec, weight = manifest.spec, dict[tuple[int, ...], int]()
    for part in coded(spec):
        bits = manifest.bits[part.name]
        weight[bits] = weight.get(bits, 0) + math.prod(part.shape)
    most = max(weight, key=lambda bits: weight[bits])
    return {
        "family": spec.family,
        "parameters": sum(math.prod(tensor.shape) for tensor in tensors(spec)),
        "bits": "+".join(map(str, most)) + (" bits" if most != (1,) else " bit"),
        "context_length": spec.max_position_embeddings,
        "embedding_length": spec.hidden_size,
    }


def _canonical(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _maybe(value: Any) -> str | None:
    return None if value is None else _text(value)


def _role(value: Any) -> str:
    if value not in ROLES:
        raise ValueError
    return str(value)


def _files(rows: Any) -> tuple[StoredFile, ...]:
    if not isinstance(rows, list) or not 0 < len(rows) <= MAX_FILES:
        raise ValueError
    files = tuple(StoredFile(_text(name), _text(digest), size) for name, digest, size in rows)
    for file in files:
        # A name here becomes part of a path.
        if not FILE.fullmatch(file.name) or not HEX.fullmatch(file.sha256):
            raise ValueError
        if isinstance(file.bytes, bool) or not isinstance(file.bytes, int) or file.bytes < 0:
            raise ValueError
    if len({file.name for file in files}) != len(files):
        raise ValueError
    return files


def _facts(table: Any) -> dict[str, Any]:
    if not all(type(table[key]) is int for key in FACTS):
        raise TypeError
    return {"family": _text(table["family"]), "bits": _text(table["bits"])} | {
        key: table[key] for key in FACTS
    }

"""Names of models as Ollama writes them: [host/][namespace/]model[:tag], each part checked before
it becomes part of a path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from h2q.core.errors import SourceError

DEFAULT_HOST, DEFAULT_NAMESPACE, DEFAULT_TAG = "registry.ollama.ai", "library", "latest"
# The first character is never a dot, so no part is `.` or `..`; none holds a slash.
PARTS = {
    "host": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}"),
    "namespace": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}"),
    "model": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"),
    "tag": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"),
}
FORM = "A name is [host/][namespace/]model[:tag], as in llama3.2 or hf.co/org/model:Q4_K_M."


@dataclass(frozen=True)
class OllamaName:
    """A full name. Raises SourceError when a part has a character or a length that no name has."""

    host: str
    namespace: str
    model: str
    tag: str

    def __post_init__(self) -> None:
        for part, pattern in PARTS.items():
            value = getattr(self, part)
            if not pattern.fullmatch(value):
                raise SourceError(f"The {part} {value[:80]!r} is not a name.", fix=FORM)

    @property
    def parts(self) -> tuple[str, str, str, str]:
        """As they are nested in the store."""
        return self.host, self.namespace, self.model, self.tag

    def __str__(self) -> str:
        """Short form: without the default host and namespace, always with the tag."""
        name = f"{self.model}:{self.tag}"
        if self.host == DEFAULT_HOST:
            return name if self.namespace == DEFAULT_NAMESPACE else f"{self.namespace}/{name}"
        return f"{self.host}/{self.namespace}/{name}"


def parse_name(text: str) -> OllamaName:
    """A name as a person types it, defaults filled in. Raises SourceError."""
    colon, slash = text.rfind(":"), text.rfind("/")
    rest, tag = (text[:colon], text[colon + 1 :]) if colon > slash else (text, DEFAULT_TAG)
    parts = rest.split("/")
    if len(parts) > 3:
        raise SourceError(f"{text[:80]!r} has too many parts.", fix=FORM)
    defaults = (DEFAULT_HOST, DEFAULT_NAMESPACE)
    host, namespace, model = (*defaults[: 3 - len(parts)], *parts)
    return OllamaName(host, namespace, model, tag)

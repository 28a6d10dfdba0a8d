"""What answers of OpenAI's endpoints have in common: marks, reasons, counts, log-probabilities."""

from __future__ import annotations

import secrets
import string
from collections.abc import Iterable
from typing import Any

from h2q.core.events import Part, TokenEvent, Usage

FINGERPRINT = "fp_h2q"
LETTERS = string.ascii_lowercase + string.digits
REASONS = {"stop": "stop", "length": "length", "context": "length"}


def mark(prefix: str, letters: int = 24) -> str:
    """A name that nothing else has."""
    return prefix + "".join(secrets.choice(LETTERS) for _ in range(letters))


def call_of(part: Part, index: int) -> dict[str, Any]:
    """A call as chat completions tell it."""
    function = {"name": part.name, "arguments": part.text}
    return {"id": mark("call_", 8), "index": index, "type": "function", "function": function}


def reasons(event: TokenEvent) -> bool:
    """Whether a token is of the reasoning alone."""
    return bool(event.parts) and all(part.kind == "reasoning" for part in event.parts)


def usage_of(usage: Usage, reasoning: int) -> dict[str, Any]:
    """Counts of tokens; those of the reasoning are among the completion's."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.tokens,
        "total_tokens": usage.prompt_tokens + usage.tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def logprobs_of(events: Iterable[TokenEvent], top: int) -> list[dict[str, Any]]:
    """Log-probabilities of the tokens that are not reasoning, each with `top` alternatives."""
    return [_logprob(event, top) for event in events if event.token >= 0 and not reasons(event)]


def _logprob(event: TokenEvent, top: int) -> dict[str, Any]:
    found = _token(event.piece or event.text, event.logprob)
    found["top_logprobs"] = [_token(a.text, a.logprob) for a in event.alternatives[:top]]
    return found


def _token(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": max(logprob, -9999.0), "bytes": list(text.encode())}

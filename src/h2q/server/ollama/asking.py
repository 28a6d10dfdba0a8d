"""What generate and chat have in common on the way to an ask: thinking, format, images."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from h2q.core.asks import Effort, Form
from h2q.server.refusal import Refusal

if TYPE_CHECKING:
    from h2q.core.cards import ModelCard
    from h2q.server.ollama.shapes import Answered

EFFORTS = ("low", "medium", "high", "max")
MAX_TOP_LOGPROBS = 20


def thinking(card: ModelCard, name: str, think: Any) -> bool | Effort | None:
    """Models that can think do so unless told not to. Raises Refusal (400)."""
    able = "thinking" in card.capabilities
    if think is None:
        return True if able else None
    if not isinstance(think, bool) and think not in EFFORTS:
        raise Refusal(
            400,
            f'invalid think value: {json.dumps(think)[:80]} (must be "high", "medium", "low", '
            '"max", true, or false)',
        )
    if think and not able:
        raise Refusal(400, f'"{name}" does not support thinking')
    return think if able else None


def form(wanted: Any) -> Form | None:
    """The form that `format` asks for. Raises Refusal (400)."""
    if wanted is None or wanted == "":
        return None
    if wanted == "json":
        return Form("json")
    if isinstance(wanted, dict):
        return Form("schema", json.dumps(wanted, ensure_ascii=False))
    shown = json.dumps(wanted)[:80]
    raise Refusal(400, f'invalid format: {shown}; expected "json" or a valid JSON Schema object')


def alternatives(body: Answered) -> int:
    """How many alternatives to compute; one at least where any log-probability is wanted."""
    if not 0 <= body.top_logprobs <= MAX_TOP_LOGPROBS:
        raise Refusal(400, f"top_logprobs must be between 0 and {MAX_TOP_LOGPROBS}")
    return max(1, body.top_logprobs) if body.logprobs else 0


def check(card: ModelCard, name: str, body: Answered, images: Iterable[str], verb: str) -> None:
    """Refuse (400) what the model cannot do."""
    for image in images:
        try:
            base64.b64decode(image, validate=True)
        except (ValueError, binascii.Error):
            raise Refusal(400, "illegal base64 data in images") from None
        raise Refusal(400, f'"{name}" does not support image input')
    if "completion" not in card.capabilities:
        raise Refusal(400, f'"{name}" does not support {verb}')
    if body.debug_render_only:
        raise Refusal(400, "_debug_render_only is not supported")

"""What a name says on top of its crystal: from an Ollama model, from a recipe, and from what the
model's own files can do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from h2q.core.errors import TextError, UsageError
from h2q.crystal.store_names import ROLES, Details
from h2q.orchestrator.house import Recipe
from h2q.orchestrator.parameters import checked_parameters

if TYPE_CHECKING:
    from h2q.sources.ollama_model import OllamaModel

TOOLS = re.compile(r"\btools\b|\.Tools\b")
THINKING = re.compile(
    r"\.(?:Think|IsThinkSet|ThinkLevel)\b|enable_thinking|reasoning_effort|</think>|\[THINK\]|reasoning_content"
)
ABLE: Mapping[str, re.Pattern[str]] = {"tools": TOOLS, "thinking": THINKING}  # by signs of it


def from_ollama(model: OllamaModel, own: str | None) -> tuple[Details, str]:
    """Of a model in Ollama's store or registry, and a sentence where its template was not taken
    over. own: the template of its GGUF file, which stays where Ollama's cannot be carried over or
    can do less.
    """
    template, why = None, ""
    if model.template and model.template.strip():
        try:
            template = checked_template(model.template)
        except TextError as error:
            if own is None:
                raise
            why = f"keeping the template of the model's file: {error.what}"
    if template is not None and own is not None and _able(own) > _able(template):
        template = None
    parameters = dict[str, Any]()
    for one in model.parameters:
        try:
            parameters.update(checked_parameters({one.name: one.value}))
        except UsageError:
            continue  # of another version of Ollama
    messages = ((m.role, m.content) for m in model.messages if m.role in ROLES)
    details = Details(
        template=template,
        system=model.system,
        parameters=tuple(parameters.items()),
        messages=tuple(messages),
        license=model.license,
    )
    return details, why


def with_recipe(details: Details, recipe: Recipe) -> Details:
    """The recipe's words over what was there. Raises UsageError, TextError."""
    parameters = dict(details.parameters)
    parameters.update(checked_parameters(dict(recipe.parameters)))
    if any(role not in ROLES for role, _ in recipe.messages):
        raise UsageError('message role must be one of "system", "user", or "assistant"')
    template = details.template
    if recipe.template is not None:
        template = checked_template(recipe.template)
    return replace(
        details,
        template=template,
        system=details.system if recipe.system is None else recipe.system,
        parameters=tuple(parameters.items()),
        messages=recipe.messages or details.messages,
        license=recipe.license or details.license,
    )


def on_top(details: Details, recipe: Recipe) -> Details:
    """The recipe's words over those of a model that is installed, whose crystal stays as it is.
    With another template it can do other things. Raises UsageError, TextError.
    """
    if recipe.quantize:
        raise UsageError(
            "quantization is only supported for F16, BF16 and F32 models",
            fix="Create from the model that the crystal was grown from.",
        )
    told = with_recipe(details, recipe)
    if recipe.template is None:
        return told
    able = _able(recipe.template)
    kept = [name for name in details.capabilities if name not in ABLE or name in able]
    new = [name for name in ABLE if name in able and name not in kept]
    return replace(told, capabilities=(*kept, *new))


def checked_template(text: str) -> str:
    """The chat template as it is, Jinja or Go's, once it is known to be one that can be rendered.
    Raises TextError.
    """
    from h2q.text.go_template import go_to_jinja, is_go
    from h2q.text.template import ChatTemplate

    ChatTemplate(go_to_jinja(text) if is_go(text) else text)
    return text


def capabilities(template: str | None, tokenizer: str) -> tuple[str, ...]:
    """What a model can do, by its template and the text of its tokenizer.json."""
    from h2q.text.infill import infill_tokens
    from h2q.text.tokenizer import Tokenizer

    able = _able(template or "")
    found = ["completion", *(name for name in ABLE if name in able)]
    if infill_tokens(Tokenizer.from_json(tokenizer)) is not None:
        found.append("insert")
    return tuple(found)


def _able(template: str) -> frozenset[str]:
    return frozenset(name for name, sign in ABLE.items() if sign.search(template))

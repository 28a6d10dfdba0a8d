"""Chat templates against `apply_chat_template` of Hugging Face transformers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chat_templates import CONVERSATION, TEMPLATES, TOOLS
from h2q.text import ChatTemplate

ODD = [
    "{{ messages | tojson }}{{ tools | tojson(indent=2) }}",
    "{{ messages | tojson(ensure_ascii=true, sort_keys=true, separators=(',', ':')) }}",
    "{% for m in messages %}\n  {% if loop.first %}\n"
    "  a\n  {% endif %}\n {{ m.role }}\n{% endfor %}\n\n",
    "{% for m in messages %}{{ loop.index }}{{ loop.cycle('x', 'y') }}{% endfor %}",
    "{{ messages[0] | dictsort }}{{ messages | map(attribute='role') | unique | list }}",
    "{% for r, g in messages | groupby('role') %}{{ r }}{{ g | length }}{% endfor %}",
    "{{ messages | selectattr('tool_calls', 'defined') | list | length }}{{ tools[9] is defined }}",
    "{{ 'a\\nb\\n\\nc' | indent(4) }}{{ 'a\\nb' | indent('> ', true) }}{{ 'a,b'.split(',') }}",
    "{{ [1, 2, 3] | batch(2) | list }}{{ [3, 1] | sort | join('-') }}{{ {'a': [1, none, true]} }}",
    "{% set x %} a {% endset %}[{{ x | trim }}]{{ x ~ 1 ~ none }}{{ messages[1:3] | length }}",
    "{% macro m(a, b=2) %}{{ a }}{{ b }}{{ varargs }}{% endmacro %}{{ m(1) }}{{ m(1, 3, 4) }}",
    "{{ 'ab' * 3 }}{{ 7 // 2 }}{{ 7 / 2 }}{{ 2 ** 8 }}{{ -3 % 5 }}{{ [1] + [2] }}{{ 'a' + 'b' }}",
    "{% if messages[0].content is string and tools is iterable %}yes{% endif %}{{ '' or 'no' }}",
    "{{ messages | join(', ', attribute='role') }}{{ 'a' in 'abc' }}{{ '%' ~ 3 | round(1) }}",
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """A tokenizer with nothing but its special tokens: only the text matters."""
    peer = pytest.importorskip("transformers", reason="transformers is not installed")
    from tokenizers import Tokenizer, models

    bare = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1}, unk_token="<s>"))
    return peer.PreTrainedTokenizerFast(tokenizer_object=bare, bos_token="<s>", eos_token="</s>")


@pytest.mark.parametrize("text", [*TEMPLATES.values(), *ODD])
@pytest.mark.parametrize("prompt", [False, True])
def test_the_same_text(tokenizer: Any, text: str, prompt: bool) -> None:
    for messages in (CONVERSATION, CONVERSATION[:2]):
        expected = tokenizer.apply_chat_template(
            json.loads(json.dumps(messages)),
            tools=TOOLS,
            chat_template=text,
            tokenize=False,
            add_generation_prompt=prompt,
        )
        found = ChatTemplate(text).render(
            messages, TOOLS, prompt, bos_token="<s>", eos_token="</s>"
        )
        assert found == expected

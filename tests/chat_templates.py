"""Small chat templates in the manner of the common dialects, written for these tests."""

from __future__ import annotations

from typing import Any

CALL = {"name": "get_weather", "arguments": {"city": "Köln"}}
CONVERSATION: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " What is the weather? "},
    {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": CALL}]},
    {"role": "tool", "name": "get_weather", "content": "rain & 4 °C"},
    {"role": "user", "content": "Thanks."},
]
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather of a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]
CHATML = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
    {{- 'Functions:\\n<tools>' }}
    {%- for tool in tools %}
        {{- '\\n' ~ (tool | tojson) }}
    {%- endfor %}
    {{- '\\n</tools><|im_end|>\\n' }}
{%- endif %}
{%- set state = namespace(last=messages | length - 1) %}
{%- for message in messages %}
    {%- if message.role == 'system' and tools %}{% continue %}{%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.content is string %}{{- message.content | trim }}{%- endif %}
    {%- for call in message.tool_calls or [] %}
        {%- if call.function is defined %}{%- set call = call.function %}{%- endif %}
        {{- '\\n<tool_call>\\n{"name": "' ~ call.name ~ '", "arguments": ' }}
        {{- call.arguments if call.arguments is string else call.arguments | tojson }}
        {{- '}\\n</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""
LLAMA = """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = '' %}
{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' ~ system }}
{%- if tools is not none %}
    {%- for tool in tools %}
        {{- tool | tojson(indent=4) }}
        {{- '\\n\\n' }}
    {%- endfor %}
{%- endif %}
{{- '<|eot_id|>' }}
{%- for message in messages %}
    {%- if not (message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
        {{- message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if message.tool_calls | length != 1 %}
            {{- raise_exception('one call at a time') }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '{"name": "' + call.name + '", "parameters": ' }}
        {{- call.arguments | tojson + '}<|eot_id|>' }}
    {%- else %}
        {{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' + message.content | tojson }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
MISTRAL = """{{ bos_token }}
{%- set rest = messages | rejectattr('role', 'equalto', 'system') | list %}
{%- for message in rest %}
    {%- if message['role'] == 'user' %}
        {%- if loop.last and tools %}
            {{- '[AVAILABLE_TOOLS] ' + (tools | map(attribute='function') | list | tojson) }}
            {{- '[/AVAILABLE_TOOLS]' }}
        {%- endif %}
        {{- '[INST] ' + message['content'] + '[/INST]' }}
    {%- elif message.tool_calls is defined %}
        {{- '[TOOL_CALLS] [' }}
        {%- for call in message.tool_calls %}
            {{- call.function | tojson }}
            {%- if not loop.last %}{{- ', ' }}{%- endif %}
        {%- endfor %}
        {{- ']' + eos_token }}
    {%- elif message['role'] == 'tool' %}
        {{- '[TOOL_RESULTS] ' + {'content': message.content | string} | tojson }}
        {{- '[/TOOL_RESULTS]' }}
    {%- else %}
        {{- ' ' + message['content'] | trim + eos_token }}
    {%- endif %}
{%- endfor %}
"""
REASONING = """{%- macro said(message) -%}
    {%- set text = message.content or '' -%}
    {%- if '</think>' in text -%}{%- set text = text.split('</think>')[-1] -%}{%- endif -%}
    {{ text | trim }}
    {%- for call in message.tool_calls or [] %} {{ call.function.name }}{% endfor -%}
{%- endmacro -%}
{{ bos_token }}
{% for message in messages %}
    {% if message.role == 'assistant' %}
{% generation %}<A>{{ said(message) }}{{ eos_token }}{% endgeneration %}

    {% else %}
<{{ message.role | capitalize }}>{{ said(message) }}
    {% endif %}
{% endfor %}
{% if add_generation_prompt %}<A><think>
{% endif %}
"""
HARMONY = """{%- macro type_of(spec, needed) -%}
    {%- if spec.enum -%}{{ '"' ~ spec.enum | join('" | "') ~ '"' }}
    {%- elif spec.type == 'array' -%}{{ type_of(spec['items'], []) ~ '[]' }}
    {%- elif spec.type == 'object' and spec.properties is mapping -%}
        {{- '{' }}
        {%- for name, inner in spec.properties.items() %}
            {{- '\n' ~ name ~ ('' if name in (needed or []) else '?') ~ ': ' }}
            {{- type_of(inner, inner.required or []) ~ ',' }}
        {%- endfor %}
        {{- '\n}' }}
    {%- else -%}{{ spec.type | default('any') }}{%- endif -%}
{%- endmacro -%}
{%- set effort = reasoning_effort | default('medium') %}
{{- '<|start|>system<|message|>Today is ' + strftime_now('%Y-%m-%d') + '. Effort: ' + effort }}
{{- '<|end|>' }}
{%- set state = namespace(called=none) %}
{%- if messages[0].role in ['system', 'developer'] or tools %}
    {{- '<|start|>developer<|message|>' }}
    {%- if messages[0].role in ['system', 'developer'] %}{{- messages[0].content }}{%- endif %}
    {%- for tool in tools or [] %}
        {{- '\n// ' + tool.function.description + '\ntype ' + tool.function.name + ' = (_: ' }}
        {{- type_of(tool.function.parameters, tool.function.parameters.required) + ') => any;' }}
    {%- endfor %}
    {{- '<|end|>' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {{- '<|start|>user<|message|>' + message.content + '<|end|>' }}
    {%- elif message.role == 'assistant' and message.tool_calls %}
        {%- set state.called = message.tool_calls[0].function %}
        {{- '<|start|>assistant to=functions.' + state.called.name }}
        {{- '<|channel|>commentary json<|message|>' + state.called.arguments | tojson }}
        {{- '<|call|>' }}
    {%- elif message.role == 'assistant' %}
        {{- '<|start|>assistant<|channel|>final<|message|>' + message.content + '<|end|>' }}
    {%- elif message.role == 'tool' %}
        {%- if state.called is none %}{{- raise_exception('nothing was called') }}{%- endif %}
        {{- '<|start|>functions.' + state.called.name + ' to=assistant<|channel|>commentary' }}
        {{- '<|message|>' + message.content | tojson + '<|end|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant' }}{%- endif %}
"""
TEMPLATES = {
    "chatml": CHATML,
    "llama": LLAMA,
    "mistral": MISTRAL,
    "reasoning": REASONING,
    "harmony": HARMONY,
}

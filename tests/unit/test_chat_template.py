"""Chat templates that write a conversation, and those that want more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import chat_template
from bot.chat_template import why_not

# As Microsoft publishes them.
PHI_3 = (
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') %}{{'<|user|>' + '\n' + "
    "message['content'] + '<|end|>' + '\n' + '<|assistant|>' + '\n'}}{% elif (message['role'] == 'assistant') %}"
    "{{message['content'] + '<|end|>' + '\n'}}{% endif %}{% endfor %}"
)
PHI_35 = (
    "{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}{{'<|system|>\n' + "
    "message['content'] + '<|end|>\n'}}{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + "
    "'<|end|>\n'}}{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
PHI_4 = (
    "{% for message in messages %}{% if (message['role'] == 'system') %}{{'<|im_start|>system<|im_sep|>' + "
    "message['content'] + '<|im_end|>'}}{% elif (message['role'] == 'user') %}{{'<|im_start|>user<|im_sep|>' + "
    "message['content'] + '<|im_end|>'}}{% elif (message['role'] == 'assistant') %}"
    "{{'<|im_start|>assistant<|im_sep|>' + message['content'] + '<|im_end|>'}}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"
)
PHI_4_MINI = (
    "{% for message in messages %}{% if message['role'] == 'system' and 'tools' in message and message['tools'] is "
    "not none %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|tool|>' + message['tools'] + '<|/tool|>' + "
    "'<|end|>' }}{% else %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}"
)
ELABORATE = (
    "{%- set ns = namespace(found=false) -%}{%- for m in messages if m.role not in ['tool'] %}"
    "{%- if loop.index0 % 2 -%}{{ raise_exception('Roles must alternate.') }}{%- endif %}"
    "{%- if m.tool_calls is defined %}{% break %}{% endif %}"
    "{% generation %}{{ m.content.split('</think>')[-1].lstrip('\\n') | trim }}{% endgeneration %}{%- endfor %}"
    "{% macro call(tool) %}{{ tool.function | tojson(indent=2) }}{% endmacro %}{{ strftime_now('%d %b %Y') }}"
    "Literal __init__ is only text."
)


@pytest.mark.parametrize("template", [PHI_3, PHI_35, PHI_4, PHI_4_MINI, ELABORATE, "", "plain"])
def test_a_conversation_is_nothing_to_refuse(template: str) -> None:
    assert why_not(template) is None


def test_the_tiny_model_s_own_templates_are_nothing_to_refuse(tiny_phi: Path) -> None:
    config = json.loads((tiny_phi / "tokenizer_config.json").read_text())
    found = [*chat_template.in_config(config["chat_template"]), (tiny_phi / "chat_template.jinja").read_text()]
    assert [why_not(template) for template in found] == [None, None]


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ ''.__class__ }}", "reaches into Python ('__class__')"),
        ("{{ x['__class__'] }}", "reaches into Python ('__class__')"),
        ("{{ x['__cl' ~ 'ass__'] }}", "reaches into Python ('__cl')"),
        ("{% if false %}{{ lipsum.__globals__ }}{% endif %}", "reaches into Python ('__globals__')"),
        ("{{ (x | attr('y')) }}", "reaches into Python ('attr')"),
        ("{{ x | map(attribute='__init__') | list }}", "reaches into Python ('__init__')"),
        ("{{ '{0.__class__}'.format(x) }}", "reaches into Python"),
        ("{{ int.mro() }}", "reaches into Python ('mro')"),
        ("{{ x.f.gi_frame.f_back }}", "reaches into Python"),
        ("{{ __import__('os') }}", "reaches into Python ('__import__')"),
        ("{{ x._y\u202e }}", "not valid Jinja"),
        ("{% include '/etc/passwd' %}", "reads other files"),
        ("{% import 'x' as y %}", "reads other files"),
        ("{% extends 'x' %}", "reads other files"),
        ("{{ 9 ** 9 ** 9 }}", "computes powers"),
        ("{% for %}", "not valid Jinja (line 1)"),
        ("{{ " + "(" * 3000 + ")" * 3000 + " }}", "not valid Jinja"),
        ("{{ " + "9" * 10_000 + " }}", "not valid Jinja"),
        ("x" * (chat_template.MAX_TEMPLATE + 1), "longer than"),
        (None, "not a text"),
        (["{{ x }}"], "not a text"),
    ],
)
def test_what_is_more_than_a_conversation_is_refused_with_its_reason(template: object, says: str) -> None:
    reason = why_not(template)
    assert reason is not None
    assert says in reason
    assert reason.isprintable()
    assert reason.endswith(".")


def test_every_template_of_a_list_or_table_is_looked_at() -> None:
    assert list(chat_template.in_config([{"name": "a", "template": "x"}, {"name": "b"}, 5])) == ["x", None, 5]
    assert list(chat_template.in_config({"a": "x", "b": [1]})) == ["x", [1]]
    assert list(chat_template.in_config(None)) == []


_PIECES = (
    *(
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        " if ",
        " for x in y ",
        "endif",
        "(",
        ")",
        "[",
        "'",
        "|",
        "x",
        ".",
        "1",
        "**",
    ),
    *("__class__", "include", "generation", "endgeneration", "\n", "raw"),
)


@given(st.text(max_size=200) | st.lists(st.sampled_from(_PIECES), max_size=40).map("".join))
def test_any_text_is_judged_in_a_sentence(text: str) -> None:
    reason = why_not(text)
    assert reason is None or (reason.isprintable() and reason.startswith("Its chat template") and len(reason) < 200)


@pytest.mark.parametrize("within", ["''.__class__", "x['__base__']", "x|attr('a')", "y.__init__.__globals__", "9**9"])
@pytest.mark.parametrize(
    "around",
    ["{% if x %}{{ @ }}{% endif %}", "{{ [1, [@]] }}", "{{ f(y=@) }}", "{% set z = @ %}", "{{ a if @ else b }}"],
)
def test_it_is_found_wherever_it_stands(around: str, within: str) -> None:
    assert why_not(around.replace("@", within)) is not None


def test_judging_does_not_render() -> None:
    assert why_not("{% for i in range(10 ** 12) %}x{% endfor %}") is not None
    assert why_not("{% for i in range(99999999999) %}{{ 'x' * 99999999999 }}{% endfor %}") is None

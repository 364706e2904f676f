"""A source's chat template is rendered, or given up."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from converters import chat
from converters.base import ConverterError


class Templated:
    """What of a transformers tokenizer renders a template: the same sandbox."""

    def __init__(self, template: str) -> None:
        self._template = ImmutableSandboxedEnvironment().from_string(template)

    def apply_chat_template(self, messages: Any, *, tokenize: bool, add_generation_prompt: bool) -> str:
        return self._template.render(messages=messages, add_generation_prompt=add_generation_prompt)


TURN = [{"role": "user", "content": "Hello"}]


def test_a_conversation_is_written_with_and_without_a_question() -> None:
    asking = Templated("{{ messages[0].content }}{% if add_generation_prompt %}?{% endif %}")
    assert (chat.render(asking, TURN, ask=True), chat.render(asking, TURN, ask=False)) == ("Hello?", "Hello")


def test_a_template_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "SECONDS", 0.3)
    loop = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(ConverterError, match="does not come to an end"):
        chat.render(Templated(loop), TURN, ask=True)
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0, 0)


def test_a_template_that_writes_too_much_is_given_up() -> None:
    with pytest.raises(ConverterError, match="does not come to an end"):
        chat.render(Templated("{{ 'x' * 1000001 }}"), TURN, ask=True)
    assert len(chat.render(Templated("{{ 'x' * 1000000 }}"), TURN, ask=True)) == chat.LONGEST

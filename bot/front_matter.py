"""The YAML at the head of a model card, which anybody may have written."""

from __future__ import annotations

from typing import Any

import yaml

# PyYAML's constructors look things up and match patterns without asking first: `!!bool maybe`, `!!int ""`,
# `!!timestamp never`.
_RAISED = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, ArithmeticError, RecursionError)
MOST_BRACKETS = 5000  # a parser of YAML takes the square of their depth


class Unreadable(ValueError):
    """The front matter is no YAML, or none that is read here."""


class _PlainLoader(yaml.SafeLoader):
    """Safe loading without aliases: nested, they and merges of them grow a small card without bound."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases are not read")
        return super().compose_node(parent, index)


def load(text: str) -> object:
    """What the YAML says.

    Raises:
        Unreadable: it cannot be read, or uses aliases.
    """
    if text.count("[") + text.count("{") > MOST_BRACKETS:
        raise Unreadable("too many brackets")
    try:
        return yaml.load(text, Loader=_PlainLoader)  # noqa: S506 - a SafeLoader
    except _RAISED as error:
        raise Unreadable(type(error).__name__) from error

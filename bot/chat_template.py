"""What is wrong with a chat template, seen without rendering it.

A template is a program in Jinja that somebody else wrote, and it goes along with what is published: in a GGUF's
metadata, or as a file. Whoever loads the model renders it, and not every program does that in a sandbox. So one that
reaches into Python is refused, in whichever branch it does. A conversation needs nothing of the kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

FILE, PROCESSOR_FILE = "chat_template.jinja", "chat_template.json"
MAX_TEMPLATE = 256 * 1024  # characters; the longest with tools and reasoning have 20 thousand

# In a text: `__class__`, and most of the pieces that it might be put together from.
_UNDERSCORES = "__"
# What leads from a harmless object to the interpreter, beside names with underscores (jinja2.sandbox has the same).
_LEADING_OUT = frozenset({
    "mro", "func_globals", "func_code", "gi_frame", "gi_code", "cr_frame", "cr_code", "ag_frame", "ag_code",
    "tb_frame", "f_globals", "f_locals", "f_builtins", "f_back",
})  # fmt: skip
_OTHER_FILES = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)


class _Generation(Extension):
    """The block with which transformers marks what the assistant says."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


# As transformers sets it up. Nothing is ever compiled or rendered here.
_JINJA = Environment(extensions=[_Generation, "jinja2.ext.loopcontrols"], autoescape=False)  # noqa: S701


def in_config(value: object) -> Iterator[object]:
    """The templates that a `chat_template` field holds: one, or several with names."""
    if isinstance(value, list):
        for item in value:
            yield item.get("template") if isinstance(item, Mapping) else item
    elif isinstance(value, Mapping):
        yield from value.values()
    elif value is not None:
        yield value


def why_not(template: object) -> str | None:
    """What is wrong with one template, as a sentence; None where it only writes a conversation."""
    if not isinstance(template, str):
        return "Its chat template is not a text."
    if len(template) > MAX_TEMPLATE:
        return f"Its chat template is longer than {MAX_TEMPLATE} characters."
    try:
        found = next(_findings(_JINJA.parse(template)), None)
    except TemplateSyntaxError as error:
        return f"Its chat template is not valid Jinja (line {error.lineno})."
    except (ValueError, RecursionError):
        return "Its chat template is not valid Jinja."
    return found and f"Its chat template {found}; a conversation needs nothing of the kind, so it is not passed on."


def _findings(tree: nodes.Template) -> Iterator[str]:
    for node in tree.find_all(nodes.Node):
        if isinstance(node, _OTHER_FILES):
            yield "reads other files"
        if isinstance(node, nodes.Pow):
            yield "computes powers, which may take without end"
        if (name := _reached_for(node)) is not None:
            yield f"reaches into Python ({name[:40]!a})"


def _reached_for(node: nodes.Node) -> str | None:
    """The name by which a piece of a template leaves the conversation."""
    if isinstance(node, nodes.Getattr) and (node.attr.startswith("_") or node.attr in _LEADING_OUT):
        return node.attr
    if isinstance(node, nodes.Name) and node.name.startswith("__"):
        return node.name
    if isinstance(node, nodes.Filter) and node.name == "attr":
        return "attr"
    if isinstance(node, nodes.Const) and isinstance(node.value, str):
        return node.value if _UNDERSCORES in node.value or node.value in _LEADING_OUT else None
    return None

"""Commands to copy, each with a button that does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from bot.ui.language import say
from bot.ui.markup import EMPTY, tag

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bot.recipes import Snippet

# Beyond this machine and HTTPS a browser has no clipboard for pages; there the text is selected instead.
COPY = """
element.addEventListener('click', async event => {
  const button = event.target.closest('button[data-copied]');
  if (!button) return;
  const code = button.closest('figure').querySelector('code');
  try { await navigator.clipboard.writeText(code.textContent); }
  catch { getSelection().selectAllChildren(code); return; }
  const before = button.textContent;
  button.textContent = button.dataset.copied;
  setTimeout(() => { button.textContent = before; }, 2000);
});
"""


def snippets(given: Iterable[Snippet], language: str) -> Markup:
    """Every way to get a variant, as text to copy."""
    return EMPTY.join(_snippet(one, language) for one in given)


def _snippet(one: Snippet, language: str) -> Markup:
    text = "\n".join(filter(None, (one.install, one.code.strip("\n"))))
    button = tag(
        "button",
        say(language, "builds.copy"),
        type="button",
        cls="copy",
        data_copied=say(language, "builds.copied"),
        aria_label=f"{say(language, 'builds.copy')}: {one.title}",
    )
    head = tag("figcaption", tag("span", one.title), button)
    return tag("figure", head, tag("pre", tag("code", text), cls="snippet", tabindex="0"), cls="way")

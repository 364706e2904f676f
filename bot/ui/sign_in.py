"""The door: signing in with Hugging Face, and out again. Gradio does the OAuth; this has the visitor's words."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import gradio as gr

from bot.errors import PhimillError
from bot.ui.access import can_sign_in
from bot.ui.asking import asked
from bot.ui.language import LANGUAGES, say
from bot.ui.markup import EMPTY, PLAIN, note

if TYPE_CHECKING:
    from bot.desk import Desk
    from bot.visitor import Visitor

# Gradio's own script knows one spelling of "sign in", and drops the page that one was on.
GO = """
(words) => {
  const way = %s.includes(words) ? '/login/huggingface' : '/logout';
  const here = encodeURIComponent(window.location.pathname + window.location.search);
  window.location.assign(way + '?_target_url=' + here);
}
"""


def sign_in_button() -> gr.LoginButton | None:
    """The button, where people can sign in. It must be made outside of the page, or Gradio gives it a script."""
    if not can_sign_in():
        return None
    return gr.LoginButton(say("en", "sign_in.enter"), size="sm", scale=0, min_width=220, elem_id="sign-in")


def place_sign_in(desk: Desk, page: gr.Blocks, button: gr.LoginButton | None) -> None:
    """Put the button where we are on the page, and greet whoever comes."""
    if button is None:
        return
    with gr.Row(elem_classes="mill-door"):
        greeting = gr.HTML(**PLAIN)
        button.render()
    ways_in = json.dumps([say(code, "sign_in.enter") for code in LANGUAGES])
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
    button.click(None, button, None, js=GO % ways_in, api_visibility="private")
    page.load(asked(desk, _greet), None, [button, greeting], **quiet)


def _greet(desk: Desk, who: Visitor) -> tuple[Any, str]:
    """What the button says, and who is signed in. Builds of theirs that waited for them go on."""
    if who.name is None:
        return gr.update(value=say(who.language, "sign_in.enter")), str(EMPTY)
    with suppress(PhimillError):  # a Hub that does not answer: they are greeted all the same
        desk.welcome(who)
    said = note(say(who.language, "sign_in.greeting", name=who.name))
    return gr.update(value=say(who.language, "sign_in.leave")), str(said)

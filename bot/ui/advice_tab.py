"""Which one is for me: three questions, and the variant that fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr
from markupsafe import Markup

from bot.devices import devices, parse_memory
from bot.errors import PhimillError
from bot.fitting import DEFAULT_CONTEXT
from bot.ui import words
from bot.ui.asking import asked
from bot.ui.language import label, say
from bot.ui.markup import EMPTY, PLAIN, complaint, grid, note, row, tag
from bot.ui.snippet_view import COPY, snippets

if TYPE_CHECKING:
    from bot.advisor import Advice, Choice
    from bot.desk import Desk
    from bot.visitor import Visitor

CONTEXTS = (2048, 4096, 8192, 16384, 32768, 65536, 131072)  # tokens


def advice_tab(desk: Desk) -> None:
    """Fill the tab."""
    kinds = [(kind.title, kind.id) for kind in devices().values()]
    repo = gr.Textbox(label=label("advice.repo"), placeholder="microsoft/Phi-4-mini-instruct", max_length=200)
    with gr.Row():
        device = gr.Dropdown(kinds, value=kinds[0][1], label=label("advice.device"))
        memory = gr.Textbox(label=label("advice.memory"), placeholder=label("advice.memory_usual"), max_length=20)
        context = gr.Dropdown(
            [(f"{count:,}", count) for count in CONTEXTS], value=DEFAULT_CONTEXT, label=label("advice.context")
        )
    ask = gr.Button(label("advice.ask"), variant="primary")
    answer = gr.HTML(js_on_load=COPY, **PLAIN)
    seen: dict[str, Any] = {
        "show_progress_on": answer,
        "api_visibility": "private",
        "concurrency_limit": 2,
        "trigger_mode": "always_last",
    }
    gr.on([ask.click, repo.submit], asked(desk, _answer), [repo, device, memory, context], answer, **seen)


def _answer(desk: Desk, who: Visitor, repo: str, device: str, memory: str, context: int) -> str:
    try:
        size = parse_memory(memory) if memory.strip() else None
        advice = desk.advise(who, repo, device, size, context)
    except PhimillError as error:
        return str(complaint(error))
    return str(shown(advice, who.language))


def shown(advice: Advice, language: str) -> Markup:
    """The answer: what to take and why, the figures, and how to get it."""
    tokens = say(language, "advice.tokens", count=f"{advice.context:,}")
    memory, usable = words.size(advice.memory), words.size(advice.usable)
    title = devices()[advice.device].title
    asked = say(language, "advice.asked", device=title, memory=memory, usable=usable, tokens=tokens)
    pick = advice.pick
    said = (tag("strong", say(language, "advice.from", title=pick.title, backend=pick.backend)), " ") if pick else ()
    parts = [
        tag("h2", f"{advice.repo}@{advice.sha[:7]}"),
        tag("div", asked, cls="quiet"),
        note(*said, advice.why, kind="good" if pick else "bad"),
        _figures({"pick": pick, "runner_up": advice.runner_up, "smallest": advice.smallest}, language),
        *map(note, (*advice.notes, *(pick.caveats if pick else ()))),
        snippets(pick.snippets, language) if pick else EMPTY,
    ]
    return tag("div", *parts, cls="facts")


def _figures(named: dict[str, Choice | None], language: str) -> Markup:
    columns = ("variant", "weights", "cache", "runtime", "needs", "left", "kl", "where")
    heads = ["", *(say(language, f"advice.head_{column}") for column in columns)]
    rows = [_figure(name, choice, language) for name, choice in named.items() if choice is not None]
    return grid(heads, rows) if rows else EMPTY


def _figure(name: str, choice: Choice, language: str) -> Markup:
    needs = choice.needs
    left = words.size(choice.left) if choice.left >= 0 else f"-{words.size(-choice.left)}"
    sizes = [words.size(count) for count in (needs.weights, needs.cache, needs.runtime, needs.total)]
    figures = [tag("span", text, cls="number") for text in (*sizes, left, words.nats(choice.kl_mean))]
    where = f"{choice.repo}@{choice.tag}" if choice.published else say(language, "advice.unpublished")
    return row(say(language, f"advice.{name}"), choice.recipe, *figures, where)

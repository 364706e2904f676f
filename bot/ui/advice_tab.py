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
from bot.ui.markup import EMPTY, PLAIN, complaint, grid, note, row, tag

if TYPE_CHECKING:
    from bot.advisor import Advice, Choice
    from bot.desk import Desk
    from bot.visitor import Visitor

CONTEXTS = (2048, 4096, 8192, 16384, 32768, 65536, 131072)  # tokens


def advice_tab(desk: Desk) -> None:
    """Fill the tab."""
    kinds = [(kind.title, kind.id) for kind in devices().values()]
    repo = gr.Textbox(label="Model to run", placeholder="microsoft/Phi-4-mini-instruct", max_length=200)
    with gr.Row():
        device = gr.Dropdown(kinds, value=kinds[0][1], label="It is to run on")
        memory = gr.Textbox(label="With this much memory", placeholder="what a usual one has: 8GB", max_length=20)
        context = gr.Dropdown(
            [(f"{count:,} tokens", count) for count in CONTEXTS],
            value=DEFAULT_CONTEXT,
            label="Prompt and answer together",
        )
    ask = gr.Button("Which one?", variant="primary")
    answer = gr.HTML(**PLAIN)
    seen: dict[str, Any] = {"show_progress_on": answer, "api_visibility": "private", "concurrency_limit": 2}
    gr.on([ask.click, repo.submit], asked(desk, _answer), [repo, device, memory, context], answer, **seen)


def _answer(desk: Desk, who: Visitor, repo: str, device: str, memory: str, context: int) -> str:
    try:
        size = parse_memory(memory) if memory.strip() else None
        advice = desk.advise(who, repo, device, size, context)
    except PhimillError as error:
        return str(complaint(error))
    return str(shown(advice))


def shown(advice: Advice) -> Markup:
    """The answer: what to take and why, the figures, and how to get it."""
    asked = (
        f"{devices()[advice.device].title} with {words.size(advice.memory)}, {words.size(advice.usable)} of it for a "
        f"model; {advice.context:,} tokens"
    )
    pick = advice.pick
    said = (tag("strong", pick.title), " from ", pick.backend, ". ") if pick else ()
    parts = [
        tag("h3", f"{advice.repo}@{advice.sha[:7]}"),
        tag("div", asked, cls="quiet"),
        note(*said, advice.why, kind="good" if pick else "bad"),
        _figures({"Take": pick, "Runner-up": advice.runner_up, "Smallest": advice.smallest}),
        *map(note, (*advice.notes, *(pick.caveats if pick else ()))),
        _snippets(pick) if pick else EMPTY,
    ]
    return tag("div", *parts, cls="facts")


def _figures(named: dict[str, Choice | None]) -> Markup:
    heads = ("", "Variant", "Weights", "KV cache", "Runtime", "Needs", "Left over", "Mean KL", "Where")
    rows = [_figure(name, choice) for name, choice in named.items() if choice is not None]
    return grid(heads, rows) if rows else EMPTY


def _figure(name: str, choice: Choice) -> Markup:
    needs = choice.needs
    left = words.size(choice.left) if choice.left >= 0 else f"-{words.size(-choice.left)}"
    sizes = [words.size(count) for count in (needs.weights, needs.cache, needs.runtime, needs.total)]
    figures = [tag("span", text, cls="number") for text in (*sizes, left, words.nats(choice.kl_mean))]
    return row(
        name, choice.recipe, *figures, f"{choice.repo}@{choice.tag}" if choice.published else "not published yet"
    )


def _snippets(choice: Choice) -> Markup:
    """Every way to get it, as text to copy."""
    parts = []
    for snippet in choice.snippets:
        text = "\n".join(filter(None, (snippet.install, snippet.code)))
        parts.append(tag("div", tag("h3", snippet.title), tag("pre", tag("code", text), cls="snippet", tabindex="0")))
    return EMPTY.join(parts)

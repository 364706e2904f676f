"""Pages that people can sign in to, over a real mill: `python sign_in_server.py PORT OTHER_PORT`.

The first is the whole page; the second the door and the least form that asks the desk for a build, for programs too.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI

from bot.api import create_app
from bot.desk import Desk
from bot.errors import PhimillError
from bot.mill import Mill
from bot.ui.asking import asked
from bot.ui.sign_in import place_sign_in, sign_in_button
from bot.visitor import Visitor


def form(desk: Desk) -> FastAPI:
    door = sign_in_button()
    with gr.Blocks(analytics_enabled=False) as page:
        place_sign_in(desk, page, door)
        repo, target = gr.Textbox(label="Repo"), gr.Textbox(label="To")
        answer = gr.Textbox(label="Answer", interactive=True)
        gr.Button("Convert").click(asked(desk, _convert), [repo, target], answer, api_name="convert")
        gr.Button("Look").click(asked(desk, _look), [], answer, api_name="look")
    app: FastAPI = gr.mount_gradio_app(FastAPI(), page, path="/", ssr_mode=False)
    return app


def _convert(desk: Desk, who: Visitor, repo: str, target: str) -> str:
    try:
        plan = desk.plan(who, repo, ["gguf/int4"], target or None, private=True)
        return " ".join(build.id for build in desk.submit(who, plan))
    except PhimillError as error:
        return str(error)


def _look(desk: Desk, who: Visitor) -> str:
    return " ".join(build.id for build in desk.builds(who))


async def _serve(*apps: Any) -> None:
    configs = [
        uvicorn.Config(app, port=int(port), log_level="warning") for app, port in zip(apps, sys.argv[1:], strict=True)
    ]
    await asyncio.gather(*(uvicorn.Server(config).serve() for config in configs))


if __name__ == "__main__":
    mill = Mill()
    asyncio.run(_serve(create_app(mill), form(Desk(mill))))

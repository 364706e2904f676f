"""For programs: how to call this very server from Python, with curl, and from an agent."""

from __future__ import annotations

import json

import gradio as gr

from bot.ui.language import label

EXAMPLE = "microsoft/Phi-4-mini-instruct"
PYTHON = """from gradio_client import Client  # pip install gradio_client

client = Client("{url}")
report = client.predict(repo="{repo}", api_name="/check")
advice = client.predict(repo="{repo}", device="laptop", memory="16GB", api_name="/advise")
builds = client.predict(limit=5, api_name="/status")["builds"]
begun = client.predict(repo="{repo}", recipes=["gguf/int4"], api_name="/convert")
"""
CURL = """curl -s {url}/gradio_api/run/check \\
  -H 'Content-Type: application/json' -d '{{"data": ["{repo}"]}}'
"""


def programs_tab(page: gr.Blocks) -> None:
    """Fill the tab. The server's address is the one that the visitor's browser uses."""
    gr.Markdown(label("programs.intro"))
    # Without a language: Gradio's colours for one are too pale to read.
    blocks = [
        gr.Code(label=label(f"programs.{name}"), interactive=False, lines=1, wrap_lines=True)
        for name in ("python", "curl", "agent")
    ]
    gr.Markdown(label("programs.token"))
    page.load(None, None, blocks, js=_FILL % tuple(map(json.dumps, snippets("ADDRESS"))))


def snippets(url: str) -> tuple[str, str, str]:
    """For Python, curl and an agent, of a server at `url`."""
    agent = {"phimill": {"url": f"{url}/gradio_api/mcp/", "headers": {"Authorization": "Bearer hf_..."}}}
    values = {"url": url, "repo": EXAMPLE}
    return PYTHON.format(**values), CURL.format(**values), json.dumps({"mcpServers": agent}, indent=2)


_FILL = """() => {
  const here = new URL('.', location.href).href.replace(/\\/$/, '');
  return [%s, %s, %s].map(text => text.replaceAll('ADDRESS', here));
}"""

"""An embedded Hub: the Hugging Face Hub's protocol on one machine.

A stock client needs nothing but `HF_ENDPOINT` and `HF_TOKEN`. Models, datasets and Spaces are kept as records
in SQLite and content-addressed files under one root. There are no pull requests, no discussions and no git.
"""

from __future__ import annotations

from bot.localhub.app import create_app
from bot.localhub.config import HubConfig
from bot.localhub.database import HubTooNewError
from bot.localhub.hub import HubInUseError
from bot.localhub.server import RunningHub, serve

__all__ = ["HubConfig", "HubInUseError", "HubTooNewError", "RunningHub", "create_app", "serve"]

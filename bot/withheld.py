"""No child is given a token: not even the ones that libraries start while they are imported.

Importing dbos runs `file` on the interpreter, and matplotlib without its font cache runs `fc-list`. Both would get
this process's whole environment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

NAMES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


@contextmanager
def token_withheld() -> Iterator[None]:
    """Take the token out of the environment while inside. For imports, before any thread asks for it."""
    kept = {name: os.environ.pop(name) for name in NAMES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)

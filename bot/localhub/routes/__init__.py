"""The HTTP calls, one module per subject. Each lists what it serves in `routes()`."""

from __future__ import annotations

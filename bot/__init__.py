"""The mill: it knows the Hub and the jobs, and never imports a backend."""

from __future__ import annotations

# Also where nothing is installed: a Space runs from a folder. `pyproject.toml` says the same.
VERSION = "0.1.0"

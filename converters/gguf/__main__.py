"""Entry: `python -m converters.gguf`."""

from __future__ import annotations

import sys

from converters.serve import serve

sys.exit(serve("gguf", "converters.gguf.backend"))

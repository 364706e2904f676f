"""Entry: `python -m converters.mlx`."""

from __future__ import annotations

import sys

from converters.serve import serve

sys.exit(serve("mlx", "converters.mlx.backend"))

"""Entry: `python -m converters.onnx`."""

from __future__ import annotations

import sys

from converters.serve import serve

sys.exit(serve("onnx", "converters.onnx.backend"))

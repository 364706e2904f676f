"""Entry: `python -m converters.openvino`."""

from __future__ import annotations

import sys

from converters.serve import serve

sys.exit(serve("openvino", "converters.openvino.backend"))

"""Entry: `python -m converters.reference`."""

from __future__ import annotations

import sys

from converters.base import ReferenceRequest
from converters.serve import serve

sys.exit(serve("reference", "converters.reference.evaluate", ReferenceRequest))

"""Browser-style workers for Python: named background workers with typed messages and replies."""

from __future__ import annotations

from pytoweb._core import VERSION as __version__

__all__ = ["__version__"]

"""Browser-style workers for Python: named background workers with typed messages and replies."""

from __future__ import annotations

try:
    from pytoweb._core import VERSION as __version__
except ImportError as error:
    if "subinterpreter" not in str(error):
        raise
    raise ImportError(
        "pytoweb cannot be used in a sub-interpreter, because its native module belongs to the main one: "
        "import it there (for mod_wsgi: WSGIApplicationGroup %{GLOBAL})"
    ) from error

__all__ = ["__version__"]

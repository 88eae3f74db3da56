"""The file of a report: a page that needs nothing but itself, with the data in it."""

from __future__ import annotations

import html
import json
import pkgutil
import re

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from typing import Any

__all__ = ["page"]

#: The files that the page is made of.
FILES = "_report_files"
#: Those of its script, in their order: each one knows those before it.
SCRIPTS = ("base.js", "stream.js", "charts.js", "tables.js")

#: What could end the element of the data, or begin a comment in it. What is not ASCII is escaped anyway.
_ESCAPED = {ord("<"): "\\u003c"}


def page(data: dict[str, Any]) -> str:
    """The page that shows the data of `_report_data.build`."""
    script = "\n".join(_file(name) for name in SCRIPTS)
    filled = {
        # What is no text (half a surrogate pair, say) is a question mark here, and an escape in the data.
        "title": html.escape(data["title"].encode("utf-8", "replace").decode("utf-8")),
        "style": _file("page.css"),
        "data": json.dumps(data, separators=(",", ":"), allow_nan=False).translate(_ESCAPED),
        "script": f'(() => {{\n"use strict";\n{script}}})();',
    }
    # In one pass: what is filled in may look like a place to fill in.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: filled[found.group(1)], _file("page.html"))


def _file(name: str) -> str:
    found = pkgutil.get_data("pytoweb", f"{FILES}/{name}")
    assert found is not None
    return found.decode("utf-8")

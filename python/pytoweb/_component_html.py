"""HTML text that is known to be safe, and the one way to put values into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape as _escape_text
from string import Formatter
from typing import Any

__all__ = ["Markup", "escape", "html"]


class Markup(str):
    """Text that is HTML already and is not escaped again.

    `html()` returns it. Call `Markup(text)` yourself only on text that no user has a part in.
    What string methods and `+` give is an ordinary str, which `html()` escapes: join pieces by
    giving `html()` a list of them instead. `__html__` is how template libraries know safe text too.
    """

    __slots__ = ()

    def __html__(self) -> str:
        """Returns the text itself."""
        return self


def escape(value: object) -> Markup:
    """Returns a value as HTML that is safe between tags and in a quoted attribute.

    Args:
        value: None gives nothing; what has `__html__` (Markup, a Component) gives that; a list or
            tuple gives its items one after the other; anything else its `str()` with `& < > " '` escaped.

    Returns:
        The HTML text.
    """
    if value is None:
        return Markup()
    # Asked of the type: a class given by mistake has the method too, but cannot be rendered.
    render = getattr(type(value), "__html__", None)
    if render is not None:
        return Markup(render(value))
    if isinstance(value, (list, tuple)):
        return Markup("".join(map(escape, value)))
    return Markup(_escape_text(str(value), quote=True))


class _EscapingFormatter(Formatter):
    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if key not in kwargs:
            raise KeyError(f"the template needs a value named {key!r}; literal braces are {{{{ and }}}}")
        return kwargs[str(key)]

    def format_field(self, value: Any, format_spec: str) -> str:
        return escape(format(value, format_spec) if format_spec else value)


_formatter = _EscapingFormatter()


def html(template: str, /, **values: object) -> Markup:
    """Returns the template with every value escaped.

    Escaping makes a value safe between tags and inside a quoted attribute. It does not make it safe
    as a URL (`javascript:`), as an unquoted attribute, or inside `<script>` and `<style>`.

    Args:
        template: Trusted HTML with `{name}` fields as in `str.format`, literal braces doubled. Write
            it out: an f-string would put values in before they can be escaped.
        values: One per name; see `escape` for what each kind of value gives.

    Returns:
        The HTML text, which may be given to `html()` again.

    Raises:
        KeyError: A field of the template has no value.
        ValueError: The template is not well formed.
    """
    return Markup(_formatter.vformat(template, (), values))

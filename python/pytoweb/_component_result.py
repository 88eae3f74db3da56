"""``AsyncResult``: what a component's state holds of a function that runs in a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pytoweb._component_html import Markup, html

if TYPE_CHECKING:
    from typing import Literal, NoReturn

    from pytoweb._progress import Progress

    Status = Literal["loading", "ok", "failed"]

T = TypeVar("T")

__all__ = ["AsyncResult"]


class AsyncResult(Generic[T]):
    """How far a function is that ``Component.run`` has started, and what came of it.

    It cannot be changed; two are equal that say the same. Put into `html`, it is the result, or a progress
    bar, or the error, every text escaped: see `Component.render`.

    Attributes:
        status: ``"loading"`` from the start of the function on, then ``"ok"`` or ``"failed"``.
        result: What the function returned; None unless ``ok``.
        error: What it raised, or why it never ran or was given up; None unless ``failed``.
        progress: Its last ``current_worker().progress(...)`` that is known, or None.
        previous: The result of the run before, while this one is loading or when it failed; else None.
    """

    __slots__ = ("error", "previous", "progress", "result", "status")

    status: Status
    result: T | None
    error: BaseException | None
    progress: Progress | None
    previous: T | None

    def __init__(
        self,
        status: Status,
        result: T | None = None,
        error: BaseException | None = None,
        progress: Progress | None = None,
        previous: T | None = None,
    ) -> None:
        """Makes one by hand: for a first state, or for the test of a `render`.

        Args:
            status: ``"loading"``, ``"ok"`` or ``"failed"``.
            result: As the attribute.
            error: As the attribute.
            progress: As the attribute.
            previous: As the attribute.

        Raises:
            ValueError: There is no such status.
        """
        if status not in ("loading", "ok", "failed"):
            raise ValueError(f"the status must be 'loading', 'ok' or 'failed', not {status!r}")
        values = (status, result, error, progress, previous)
        for name, value in zip(("status", "result", "error", "progress", "previous"), values):
            object.__setattr__(self, name, value)

    @property
    def loading(self) -> bool:
        """Whether the function is queued or runs."""
        return self.status == "loading"

    @property
    def ok(self) -> bool:
        """Whether it returned."""
        return self.status == "ok"

    @property
    def failed(self) -> bool:
        """Whether it raised, was cancelled, or was given up."""
        return self.status == "failed"

    @property
    def latest(self) -> T | None:
        """The newest result that there is: ``result`` if it is ok, else ``previous``."""
        return self.result if self.status == "ok" else self.previous

    def __html__(self) -> str:
        """Returns it as HTML: what is known, then the progress or the error.

        The latest result, as `escape` gives it; while loading also a ``<progress>`` with the text of the last
        report, and after a failure ``<em role="alert">`` with the name of the exception's class and its text.
        """
        if self.status == "ok":
            return html("{result}", result=self.result)
        state = _bar(self.progress) if self.status == "loading" else _alert(self.error)
        return html("{previous}{state}", previous=self.previous, state=state)

    def _fields(self) -> tuple[Any, ...]:
        return self.status, self.result, self.error, self.progress, self.previous

    def __eq__(self, other: object) -> bool:
        return self._fields() == other._fields() if isinstance(other, AsyncResult) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._fields())

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"an AsyncResult cannot be changed: {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"an AsyncResult cannot be changed: {name!r}")

    def __reduce__(self) -> tuple[type[AsyncResult[Any]], tuple[Any, ...]]:
        return AsyncResult, self._fields()

    def __repr__(self) -> str:
        said = [repr(self.status)]
        said += [
            f"{name}={value!r}"
            for name in ("result", "error", "progress", "previous")
            if (value := getattr(self, name)) is not None
        ]
        return f"AsyncResult({', '.join(said)})"


def _bar(progress: Progress | None) -> Markup:
    if progress is None:
        return html("<progress></progress>")
    if not progress.total:
        return html("<progress>{text}</progress>", text=progress.text)
    return html(
        '<progress max="{total}" value="{done}">{text}</progress>',
        total=progress.total,
        done=progress.done,
        text=progress.text,
    )


def _alert(error: BaseException | None) -> Markup:
    text = str(error or "")
    name = type(error).__name__
    return html('<em role="alert">{text}</em>', text=f"{name}: {text}" if text else name)


AsyncResult.__module__ = "pytoweb.components"

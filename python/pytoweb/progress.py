"""Progress bars for futures: of `tqdm <https://tqdm.github.io>`_ and of `rich <https://rich.readthedocs.io>`_.

    with tqdm() as bar:
        pages = track(worker.ask("convert", path), bar).result()

A bar is whatever has the methods of one: neither library is imported here, nor needed.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from pytoweb._progress import Progress
    from pytoweb.futures import WorkerFuture

T = TypeVar("T")

__all__ = ["Tracked", "track"]


class Tracked(Generic[T]):
    """A future whose progress a bar shows; made by ``track``.

    The bar is drawn as the handler reports, and once more by ``result()`` and ``await``, so that it shows the
    last report before the code goes on that waits.

    Attributes:
        future: the future.
    """

    __slots__ = ("_drawn", "_lock", "_show", "future")

    def __init__(self, future: WorkerFuture[T], show: Callable[[Progress], object]) -> None:
        """Has ``show`` called with each report, and with the last one by the code that waits."""
        self.future = future
        self._show = show
        self._lock = threading.Lock()
        self._drawn: Progress | None = None
        future.on_progress(self._draw)

    def _draw(self, _: object = None) -> None:
        # On the line and by the code that waits: always the latest, so neither draws an older one over it.
        with self._lock:
            latest = self.future.progress
            if latest is not None and latest != self._drawn:
                self._drawn = latest
                self._show(latest)

    def result(self, timeout: float | None = None) -> T:
        """Waits as ``future.result(timeout)`` does, draws the last report, and returns the result.

        Args:
            timeout: seconds to wait at most, None for as long as it takes.

        Returns:
            What the handler returned.

        Raises:
            BaseException: what ``future.result(timeout)`` raises.
        """
        try:
            return self.future.result(timeout)
        finally:
            self._draw()

    def __await__(self) -> Generator[Any, None, T]:
        """Waits as ``await future`` does, without blocking the event loop, and draws the last report."""
        try:
            return (yield from self.future.__await__())
        finally:
            self._draw()

    def __repr__(self) -> str:
        """Tells the state of the future."""
        return f"<Tracked: {self.future!r}>"


def track(future: WorkerFuture[T], bar: Any, description: str | None = None) -> Tracked[T]:
    """Shows the progress of the handler of ``future`` in a bar, at most 20 times a second.

    It returns at once. The bar is drawn where handlers of ``future.on_progress`` are called: on the event
    loop that runs here, else on the reply thread. Opening and closing it is the caller's.

    Args:
        future: what ``ask`` or ``submit`` returned.
        bar: a ``tqdm``, which is set to what is done, the total and the text; or a
            ``rich.progress.Progress``, which gets a new task.
        description: what stands beside the bar until the handler reports a text.

    Returns:
        The future with its bar: ``track(future, bar).result()``.

    Raises:
        TypeError: ``bar`` is neither, or ``future`` is none of these.
    """
    if not callable(getattr(future, "on_progress", None)):
        raise TypeError(
            f"track() shows the future of an ask or a submit, not {type(future).__name__}: call it for each"
        )
    if callable(getattr(bar, "add_task", None)) and callable(getattr(bar, "update", None)):
        show = _of_rich(bar, description)
    elif hasattr(bar, "n") and callable(getattr(bar, "refresh", None)):
        show = _of_tqdm(bar, description)
    else:
        raise TypeError(
            f"a bar must be a tqdm or a rich.progress.Progress, not {type(bar).__name__}: it has neither "
            "`n` and `refresh` nor `add_task` and `update`"
        )
    return Tracked(future, show)


def _of_rich(bar: Any, description: str | None) -> Callable[[Progress], object]:
    task = bar.add_task(description or "", total=None)

    def show(progress: Progress) -> None:
        fields = {"completed": progress.done}
        if progress.total is not None:
            fields["total"] = progress.total
        if progress.text is not None:
            fields["description"] = progress.text  # type: ignore[assignment]
        bar.update(task, **fields)

    return show


def _of_tqdm(bar: Any, description: str | None) -> Callable[[Progress], object]:
    if description is not None:
        bar.set_description_str(description)

    def show(progress: Progress) -> None:
        bar.n = progress.done
        if progress.total is not None:
            bar.total = progress.total
        if progress.text is not None:
            bar.set_description_str(progress.text, refresh=False)
        bar.refresh()

    return show

"""The end of the interpreter, and ``os.fork()``.

Messages that are queued when the program ends are finished first, as ``ThreadPoolExecutor`` does it; Ctrl-C
breaks that off.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
import warnings
import weakref

from pytoweb._core import load_errors, wait_for_threads
from pytoweb._leaving import Leaving, everything_of

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any, Protocol

    from pytoweb._core import Threads
    from pytoweb._internals import Internals
    from pytoweb._runtime import PoolRuntime

    class Root(Protocol):
        """A worker of its own, or a pool."""

        @property
        def _pytoweb(self) -> Internals: ...
        def _pytoweb_begin_exit(self) -> None: ...
        def _pytoweb_finish_exit(self) -> None: ...
        def _pytoweb_break_exit(self) -> None: ...
        def _pytoweb_has_threads(self) -> bool: ...
        def _pytoweb_has_started(self) -> bool: ...
        def _pytoweb_unlock(self) -> None: ...
        def _pytoweb_start_afresh(self) -> None: ...


#: Seconds that running handlers get to notice that no caller waits for them, and to end once they are
#: interrupted.
ASKED_SECONDS = 0.1
INTERRUPTED_SECONDS = 0.5
#: What a shell reports of a program that Ctrl-C ended.
INTERRUPTED_EXIT_CODE = 130

#: Handlers are interrupted because the program ends: what they raise now is no news.
broken_off = False

#: The main thread is over, and what is queued is being finished.
ending = False

_roots: weakref.WeakSet[Root] = weakref.WeakSet()


def no_more(what: str, ended: str) -> str:
    """Why a worker or a pool takes nothing more, and what to do."""
    if ending:
        return f"{what} takes nothing more, because the program is ending: post before the main thread ends"
    return f"{what} {ended}; make a new one to go on"


#: Each is called with each root that is made.
_on_register: tuple[Callable[[Root], None], ...] = ()


def register(root: Root) -> None:
    """Has ``root`` finished at the end of the interpreter."""
    _roots.add(root)
    for callback in _on_register:
        callback(root)


def roots() -> list[Root]:
    """The workers of their own and the pools of this process, in no order."""
    while True:
        try:
            return list(_roots)
        except RuntimeError:
            # Another thread has made one meanwhile.
            continue


def on_register(callback: Callable[[Any], None]) -> None:
    """Has ``callback`` called with each worker of its own and each pool, those included that there are."""
    global _on_register
    _on_register = (*_on_register, callback)
    for root in roots():
        callback(root)


def off_register(callback: Callable[[Any], None]) -> None:
    """Has ``callback`` called no more."""
    global _on_register
    _on_register = tuple(other for other in _on_register if other != callback)


#: Threads whose worker or pool was collected while they had work, until they end.
_orphans: dict[PoolRuntime, Threads] = {}
#: Those of them whose owner had given up waiting.
_abandoned: set[PoolRuntime] = set()


def adopt(runtime: PoolRuntime, threads: Threads, *, given_up: bool) -> None:
    """Has threads waited for at the end of the interpreter, although their worker or pool is gone.

    Args:
        runtime: what surrounds them.
        threads: the threads.
        given_up: their owner did not wait for them any more, so the end does not either.
    """
    if not runtime.ended.is_set():
        _orphans[runtime] = threads
        if given_up:
            _abandoned.add(runtime)
        # They may have ended in between, and then no other thread takes them out.
        if runtime.ended.is_set():
            forget(runtime)


def forget(runtime: PoolRuntime) -> None:
    """The threads of ``runtime`` have ended."""
    _orphans.pop(runtime, None)
    _abandoned.discard(runtime)


class _FirstInterrupt:
    """Raises ``KeyboardInterrupt`` at the first Ctrl-C and no more.

    An impatient second one would raise where nothing can catch it: in the short time that `_break_off` takes.
    """

    def __init__(self) -> None:
        self._seen = False
        self._before: Any = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not self._seen:
            self._seen = True
            raise KeyboardInterrupt

    def __enter__(self) -> None:
        # A program's own handler stays. Only the main thread may, which an embedded one may not end on.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            with contextlib.suppress(ValueError):
                self._before = signal.signal(signal.SIGINT, self)

    def __exit__(self, *exc_info: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)


#: Called when the main thread is over, before what is queued is finished.
_at_end: list[Callable[[], None]] = []


def call_at_end(function: Callable[[], None]) -> None:
    """Has ``function`` called when the main thread is over, before what is queued is finished."""
    _at_end.append(function)


#: Called once what was queued is finished, with False where Ctrl-C has broken that off.
_when_finished: list[Callable[[bool], None]] = []


def call_when_finished(function: Callable[[bool], None]) -> None:
    """Has ``function`` called once what was queued at the end of the program is finished.

    It is called with True; with False where Ctrl-C has broken that off, and the process ends within a second.
    """
    _when_finished.append(function)


def _at_exit() -> None:
    global ending
    ending = True
    roots = list(_roots)
    with _FirstInterrupt():
        try:
            for function in _at_end:
                function()
            all_ended = _finish(roots)
            for tell in _when_finished:
                tell(True)
            # They are on their way out, and one that comes back to the interpreter while that is torn down
            # would take the process down with it.
            wait_for_threads(INTERRUPTED_SECONDS if all_ended else ASKED_SECONDS)
        except KeyboardInterrupt:
            _break_off(roots)


def _finish(roots: list[Root]) -> bool:
    """Finishes what is queued, and waits for the threads.

    Returns:
        Whether those that were given up have ended too.
    """
    for root in roots:
        root._pytoweb_begin_exit()
    with Leaving(
        "the program ends",
        lambda: (one for root in roots if not root._pytoweb.given_up for one in everything_of(root)),
        interrupted=getattr(sys, "last_type", None) is KeyboardInterrupt,
        breaks=isinstance(signal.getsignal(signal.SIGINT), _FirstInterrupt),
        ends_program=True,
    ):
        for root in roots:
            root._pytoweb_finish_exit()
    for runtime, threads in list(_orphans.items()):
        if runtime not in _abandoned:
            runtime.ended.wait()
            threads.join()
            runtime.join()
    return _end_given_up([*(root._pytoweb.runtime for root in roots if root._pytoweb.given_up), *_abandoned])


def _break_off(roots: list[Root]) -> None:
    """Ends the process within a second, after Ctrl-C.

    Handlers are asked, then interrupted. One that goes on all the same would take the process down with a
    crash once the interpreter is torn down around it, so that is left out; what other modules registered for
    the exit is run.
    """
    global broken_off
    broken_off = True
    try:
        for root in roots:
            root._pytoweb_break_exit()
        runtimes = [*(root._pytoweb.runtime for root in roots), *_orphans]
        if not _all_ended(runtimes, ASKED_SECONDS):
            for runtime in runtimes:
                runtime.interrupt()
            _all_ended(runtimes, INTERRUPTED_SECONDS)
        for tell in _when_finished:
            tell(False)
        # These may take longer, so Ctrl-C ends them.
        if isinstance(signal.getsignal(signal.SIGINT), _FirstInterrupt):
            signal.signal(signal.SIGINT, lambda number, frame: os._exit(INTERRUPTED_EXIT_CODE))
        atexit._run_exitfuncs()
    except KeyboardInterrupt:
        pass
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(INTERRUPTED_EXIT_CODE)


def _end_given_up(runtimes: list[PoolRuntime]) -> bool:
    """Interrupts handlers that their owner does not wait for any more. Returns whether they have ended.

    One that goes on all the same stands in native code, as a rule, and the process ends around it.
    """
    global broken_off
    # Threads without a handler end by themselves, and are not to be interrupted on their way.
    if _all_ended(runtimes, ASKED_SECONDS):
        return True
    broken_off = True
    for runtime in runtimes:
        runtime.interrupt()
    return _all_ended(runtimes, INTERRUPTED_SECONDS)


def _all_ended(runtimes: list[PoolRuntime], seconds: float) -> bool:
    end = time.monotonic() + seconds
    return all(runtime.ended.wait(max(0.0, end - time.monotonic())) for runtime in runtimes)


#: Called in a forked child: each replaces locks that another thread of the parent may have held.
_unlocks: list[Callable[[], None]] = []
#: Called in a forked child, once its workers and pools can be used.
_begins: list[Callable[[], None]] = []
#: Between the two halves of a fork: what has started nothing, and so starts afresh in the child.
_fresh: list[Root] = []


def unlock_after_fork(unlock: Callable[[], None]) -> None:
    """Has ``unlock`` called in every forked child; it replaces locks of its module."""
    _unlocks.append(unlock)


def call_after_fork(function: Callable[[], None]) -> None:
    """Has ``function`` called in every forked child, once its workers and pools can be used."""
    _begins.append(function)


def _before_fork() -> None:
    roots = list(_roots)
    _fresh[:] = [root for root in roots if not root._pytoweb_has_started()]
    if any(root._pytoweb_has_threads() for root in roots):
        warnings.warn(
            "os.fork() while workers run: the child has none of their threads, and each of their handles "
            "raises ForkedProcessError there",
            RuntimeWarning,
            stacklevel=2,
        )


def _after_fork_in_parent() -> None:
    _fresh.clear()


def _after_fork_in_child() -> None:
    global _roots
    roots, fresh = list(_roots), list(_fresh)
    _roots = weakref.WeakSet()
    _orphans.clear()
    _abandoned.clear()
    _fresh.clear()
    for unlock in _unlocks:
        unlock()
    for root in roots:
        root._pytoweb_unlock()
    for root in fresh:
        root._pytoweb_start_afresh()
        _roots.add(root)
    for begin in _begins:
        begin()


# At the very end of the interpreter nothing can be imported any more, and a handle may still be asked for
# something.
load_errors()

# The threading module's own hook runs before it waits for its threads, so handlers may still use them, and in
# the reverse order of registration, so before that of concurrent.futures.
getattr(threading, "_register_atexit", atexit.register)(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
    )

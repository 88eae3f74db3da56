"""Subclasses of workers and pools: every name but ``_pytoweb`` is theirs, here and in the child."""

from __future__ import annotations

import pytest

from pytoweb.workers import PythonWorker, WorkerDecorators, WorkerPool

WAIT = 20.0

worker_method = WorkerDecorators.worker_method

NAMES = [
    f"_{name}"
    for name in (
        *(
            "backend",
            "broken",
            "call",
            "close",
            "configure",
            "default",
            "handlers",
            "has_coroutines",
            "inner",
        ),
        *("internals", "lane", "lock", "marked", "name", "on_start", "pack", "packed", "pool"),
        *("processes", "release", "replies", "runtime", "self", "shut_down", "size", "start", "start_number"),
        *("state", "stats", "stop", "submit", "terminate", "threads", "workers", "_private"),
    )
]
"""What we have, had or might have, and what users like."""


class Hoarder:
    """Sets all of them."""

    def hoard(self):
        for name in NAMES:
            setattr(self, name, f"my {name}")
        self._Hoarder__private = "my mangled one"

    def seen(self, _=None):
        assert self._Hoarder__private == "my mangled one"
        return {name: getattr(self, name) for name in NAMES}


class HoardingWorker(Hoarder, PythonWorker):
    """A worker whose attributes have such names, from before the set-up on."""

    def __init__(self, name, **options):
        self.hoard()
        super().__init__(name, **options)
        self.hoard()

    @worker_method("seen")
    def on_seen(self, data):
        return self.seen(data)


class HoardingPool(Hoarder, WorkerPool):
    """A pool like that."""

    def __init__(self, size, **options):
        super().__init__(size, **options)
        self.hoard()
        self.on_message("seen", self.seen)


def test_a_worker_s_attributes_of_any_name_are_its_own(worker, backend):
    one = worker("hoarding", cls=HoardingWorker, backend=backend)
    one.start()
    assert one.ask("seen").result(WAIT) == {name: f"my {name}" for name in NAMES}
    assert (one.name, one.backend, one.state, one.pool) == ("hoarding", backend, "running", None)
    one.run_until_idle(WAIT)
    assert one.stats().completed == 1
    one.stop()
    assert one.state == "stopped"
    assert one.seen()["_threads"] == "my _threads"


def test_a_pool_s_attributes_of_any_name_are_its_own(backend):
    with HoardingPool(1, backend=backend, name="hoarding") as one:
        assert one.ask("seen").result(WAIT) == {name: f"my {name}" for name in NAMES}
        assert (one.size, one.backend, dict(one.workers)) == (1, backend, {})
        assert one.submit(abs, -1).result(WAIT) == 1


def _method(name):
    def method(self, *args, **kwargs):
        return f"my {name}"

    method.__name__ = name
    return method


Busy = type("Busy", (PythonWorker,), {name: _method(name) for name in NAMES})
BusyPool = type("BusyPool", (WorkerPool,), {name: _method(name) for name in NAMES})


def test_methods_of_any_name_are_the_subclass_s(worker, backend):
    one = worker("busy", cls=Busy, backend=backend)
    one.on_message("call", one._close)
    with one:
        assert one.ask("call").result(WAIT) == "my _close"
    with BusyPool(1, backend=backend) as pool:
        assert pool.submit(abs, -2).result(WAIT) == 2


class Slotted(PythonWorker):
    """Keeps some of its state in slots, and says no to later changes."""

    __slots__ = ("_lock", "number", "unset")

    def __init__(self, name, **options):
        super().__init__(name, **options)
        self.number = 3
        self._lock = "a slot"
        self.text = "in the dict"
        self.closed = True

    def __setattr__(self, name, value):
        if getattr(self, "closed", False):
            raise AttributeError(f"no {name} any more")
        super().__setattr__(name, value)

    def __getattr__(self, name):
        if name == "closed":
            raise AttributeError(name)
        return f"no {name} here"

    @worker_method("look")
    def look(self, _):
        return self.number, self._lock, self.text, self.unset, self.absent, self.name


def test_slots_and_attribute_hooks_of_a_subclass(worker, backend):
    one = worker("slotted", cls=Slotted, backend=backend)
    with one:
        assert one.ask("look").result(WAIT) == (
            *(3, "a slot", "in the dict", "no unset here", "no absent here", "slotted"),
        )
        with pytest.raises(AttributeError, match="any more"):
            one.number = 4

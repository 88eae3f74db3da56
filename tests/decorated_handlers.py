"""A module whose handlers are decorated where they are defined; the tests import it, and children do."""

from __future__ import annotations

import functools

from pytoweb.workers import PythonWorker, WorkerDecorators

store = {}
opened = []

worker = PythonWorker("decorated", backend="process")


def logged(function):
    @functools.wraps(function)
    def wrapper(*args):
        opened.append("wrapped")
        return function(*args)

    return wrapper


@worker.on_start
def open_store():
    opened.append(len(opened))


@worker.around
def surrounded():
    store["surrounded"] = store.get("surrounded", 0) + 1
    yield


@worker.on_message("put")
def put(item):
    key, value = item
    store[key] = value


@worker.on_message("get")
def get(key):
    return store.get(key), double(21), opened, __name__, store.get("surrounded")


@logged
@worker.on_message("inner")
def inner(data):
    return data, opened


@worker.on_message("outer")
@logged
def outer(data):
    return data, opened


@worker.on_message("of the worker")
@WorkerDecorators.worker_method("of the worker")
def of_the_worker(self, data):
    return self.name, data, store.get("surrounded")


def double(number):
    """Defined after the handlers that use it."""
    return 2 * number

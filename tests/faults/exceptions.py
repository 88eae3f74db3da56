"""What handlers raise: what is no `Exception`, and what resists being told of."""

from __future__ import annotations

import asyncio
from typing import Any

import process_handlers as handlers

from .hostile import HOSTILE, OUTSIDERS, raise_hostile, raise_outsider, raise_outsider_later
from .row import Trial, row

LIMIT = 5.0
"""Seconds within which a failure must be known."""


@row("base-exceptions", 120)
def base_exceptions(trial: Trial) -> None:
    """`SystemExit` and its like, on both backends, by each way in."""
    other = dead = untold = 0
    for backend in ("thread", "process"):
        worker = trial.worker(
            "outsiders", [raise_outsider, raise_outsider_later, handlers.echo, handlers.pid], backend=backend
        ).start()
        pool = trial.pool(1, backend=backend)
        pid = trial.outcome(worker.ask("pid")).value
        for name, kind in list(OUTSIDERS.items()) * trial.count(10, least=2):
            for way in ("ask", "coroutine", "submit", "post", "await"):
                told = len(worker.errors)
                if way == "submit":
                    error = trial.outcome(pool.submit(raise_outsider, name), LIMIT).error
                elif way == "post":
                    worker.post_message("raise_outsider", name)
                    worker.run_until_idle(LIMIT)
                    error = worker.errors.all[-1][1] if len(worker.errors) > told else None
                elif way == "await":
                    error = asyncio.run(caught(worker.ask("raise_outsider", name)))
                else:
                    posted = "raise_outsider" if way == "ask" else "raise_outsider_later"
                    error = trial.outcome(worker.ask(posted, name), LIMIT).error
                wrong = type(error) is not kind or getattr(error, "code", 3) != 3
                other += wrong
                if wrong:
                    trial.logged.append(f"{backend}, {way}, {name}: {error!r}")
                worker.run_until_idle(LIMIT)
                untold += way != "submit" and len(worker.errors) != told + 1
                same = trial.outcome(worker.ask("pid"), LIMIT).value == pid
                dead += not same or trial.outcome(pool.submit(pow, 2, 2), LIMIT).value != 4
                trial.injected += 1
    trial.exactly("other types", other)
    trial.exactly("not told once to on_error", untold)
    trial.exactly("worker did not live", dead)


async def caught(future: Any) -> BaseException | None:
    """What awaiting a future raises."""
    try:
        await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(swallow(future))), LIMIT)
    except asyncio.TimeoutError as late:
        return late
    return future.exception(0)


async def swallow(future: Any) -> None:
    """Awaits a future. What is no `Exception` would end the event loop, which is the loop's right."""
    try:
        await future
    except BaseException:
        return


@row("hostile-exceptions", 120)
def hostile_exceptions(trial: Trial) -> None:
    """Exceptions whose methods raise, lie, or leave, and which cannot be pickled or unpickled."""
    from pytoweb.workers import HandlerError

    worker = trial.worker("hostile", [raise_hostile, handlers.echo, handlers.pid]).start()
    pool = trial.pool(1)
    pid = trial.outcome(worker.ask("pid")).value
    unclear = dead = 0
    for name, (shown, text) in list(HOSTILE.items()) * trial.count(10, least=1):
        for way in ("ask", "submit", "post"):
            if way == "submit":
                error = trial.outcome(pool.submit(raise_hostile, name), LIMIT).error
            elif way == "ask":
                error = trial.outcome(worker.ask("raise_hostile", name), LIMIT).error
            else:
                told = len(worker.errors)
                worker.post_message("raise_hostile", name)
                worker.run_until_idle(LIMIT)
                error = worker.errors.all[-1][1] if len(worker.errors) > told else None
            clear = is_clear(error, HandlerError, shown, text)
            unclear += not clear
            if not clear:
                trial.logged.append(f"{way}, {name}: {type(error)} {safe_text(error)}")
            same = trial.outcome(worker.ask("pid"), LIMIT).value == pid
            dead += not same or trial.outcome(pool.submit(pow, 2, 2), LIMIT).value != 4
            trial.injected += 1
    trial.exactly("unclear errors", unclear)
    trial.exactly("worker did not live", dead)


def is_clear(error: Any, handler_error: type, shown: str, text: str) -> bool:
    """Whether an error is of the type raised, or says which that was and with which words."""
    if type(error).__name__ == shown:
        return True
    return type(error) is handler_error and shown in str(error) and text in str(error)


def safe_text(error: Any) -> str:
    """The text of an exception that may not have one."""
    try:
        return str(error)[:200]
    except BaseException as raised:
        return f"<str() raised {type(raised).__name__}>"

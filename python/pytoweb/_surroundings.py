"""Where workers cannot run, said at the first call instead of by a hang."""

from __future__ import annotations

import sys

#: The modules that replace threads by greenlets, and what tells whether they have.
_PATCHERS = (
    ("gevent", "gevent.monkey", "is_module_patched", "threading"),
    ("eventlet", "eventlet.patcher", "is_monkey_patched", "thread"),
)


def refuse_greenlets() -> None:
    """Refuses to run beside a ``threading`` module that starts greenlets instead of threads.

    Raises:
        RuntimeError: it is patched; names what patched it.
    """
    for name, module, question, what in _PATCHERS:
        patcher = sys.modules.get(module)
        if patcher is not None and getattr(patcher, question, lambda _: False)(what):
            raise RuntimeError(
                f"{name} has replaced the threads of Python by greenlets, and workers need threads: their "
                "replies would never come. Leave threads unpatched (gevent.monkey.patch_all(thread=False), "
                "eventlet.monkey_patch(thread=False)), or run the workers in another program"
            )

"""``expose``: has the running program looked at from outside, by ``python -m pytoweb top``."""

from __future__ import annotations

import os
import sys

from pytoweb import _exit
from pytoweb._checks import named_by_themselves

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from typing import Any

__all__ = ["VARIABLE", "Exposing"]

#: The environment variable by which a program is exposed from its first worker or pool on.
VARIABLE = "PYTOWEB_EXPOSE"


@named_by_themselves
class Exposing:
    """What workers and pools have for the view from outside."""

    __slots__ = ()

    def expose(self) -> str:
        """Opens a Unix socket for ``python -m pytoweb top``, which shows this program; again it does nothing.

        Only the user of this process can open it: the directory is the user's own
        (``$XDG_RUNTIME_DIR/pytoweb``, else ``pytoweb-<uid>`` where temporary files are), with mode 0700, and
        the file ``<pid>.sock`` in it has mode 0600. The view shows all workers and pools of the program:
        numbers, the last failures, and the stacks of handlers that run, which include file names and lines of
        code. It can change nothing. One thread answers, which sleeps while there is no view. The file is
        removed at the end of the program. The environment variable ``PYTOWEB_EXPOSE=1`` does the same from
        the first worker or pool on, in forked children too.

        Returns:
            The path of the socket.

        Raises:
            OSError: the directory belongs to another user or is a link, or the socket cannot be made.
            NotImplementedError: this platform has no Unix sockets.
        """
        # Refuses what is not set up: here, and in a child process, whose host is the program.
        self._pytoweb_state()  # type: ignore[attr-defined]
        from pytoweb import _expose

        return _expose.open_socket()


def _begin(_root: object = None) -> None:
    child: Any = sys.modules.get("pytoweb._child")
    if child is not None and child.is_child:
        # Its host is the program.
        return
    if _root is not None or _exit.roots():
        from pytoweb import _expose

        if not _expose.open_or_warn():
            # Once is enough.
            _exit.off_register(_begin)


if os.environ.get(VARIABLE, "0") not in ("", "0"):
    _exit.on_register(_begin)
    _exit.call_after_fork(_begin)

"""What a child process does about signals and about the terminal: both are its host's."""

from __future__ import annotations

import contextlib
import os
import signal
import threading

#: What a terminal sends to a group of processes, and a service manager to all processes of a service. A child
#: has a group of its own, but kill(1) can aim there; and a host that is told to end finishes its queues.
HOST_SIGNALS = ("SIGINT", "SIGQUIT", "SIGHUP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGTERM")


def leave_to_host() -> None:
    """Has signals that are meant for the host go past this process, and lets go of the terminal."""
    for number in _numbers():
        # Not SIG_IGN, which the programs that a handler starts would inherit.
        signal.signal(number, _go_past)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_hold, after_in_parent=_go_on, after_in_child=_take_back)
    _leave_terminal()


def _numbers() -> list[signal.Signals]:
    return [getattr(signal, name) for name in HOST_SIGNALS if hasattr(signal, name)]


def _go_past(number: int, frame: object) -> None:
    """What this process does about a signal that is for the host."""


class _Forking(threading.local):
    """A thread that forks."""

    def __init__(self) -> None:
        #: Its signal mask before that.
        self.mask: set[int] = set()


_forking = _Forking()


def _hold() -> None:
    # One that is sent to the new process at once waits until that has taken its signals back.
    _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _numbers())


def _go_on() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _forking.mask)


def _take_back() -> None:
    """A process that a handler forks is ended by the usual signals: `multiprocessing` relies on it."""
    for number in _numbers():
        if signal.getsignal(number) is _go_past:
            usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, usual)
    _go_on()


def _leave_terminal() -> None:
    """Gives the controlling terminal up, for this process and what it starts.

    In its background they would be stopped, for ever, when they read from it, change its modes, or write
    while ``stty tostop`` is set. Without one, opening it is an error.
    """
    import fcntl
    import termios

    with contextlib.suppress(OSError):
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
        try:
            fcntl.ioctl(terminal, termios.TIOCNOTTY)
        finally:
            os.close(terminal)

"""What a child process runs: its host's interpreter, or its host's own program if that is frozen."""

from __future__ import annotations

import os
import sys

from pytoweb._imported import imported

__all__ = ["EXECUTABLE_VARIABLE", "ORIGINAL_DIRECTORY", "command", "directory", "freeze_support"]

#: The environment variable that names the interpreter of the children.
EXECUTABLE_VARIABLE = "PYTOWEB_PYTHON"

#: What the children of a frozen program are started with.
FROZEN_ARGUMENT = "--pytoweb-child"

#: What a child runs. The directory that ``-c`` begins ``sys.path`` with goes, and only the package itself is
#: looked for where the host has it: so neither hides a module of the standard library.
PROGRAM = (
    "import sys; path = sys.path[:] = [entry for entry in sys.path if entry]; import __future__; "
    "sys.path[:] = [{package!r}]; import pytoweb; sys.path[:] = path; from pytoweb._child import main; main()"
)


def directory() -> str | None:
    """The current directory, if it still exists."""
    try:
        return os.getcwd()
    except OSError:
        # It was removed.
        return None


#: The current directory when this package was imported: what an empty entry of ``sys.path`` meant by then.
ORIGINAL_DIRECTORY = directory()

#: `freeze_support` was called.
_supported = False


def freeze_support() -> None:
    """Lets a frozen program (PyInstaller, cx_Freeze) have process workers; in any other it does nothing.

    To be called first thing in the main module, under ``if __name__ == "__main__":``. A child of such a
    program is the program itself, started once more, and becomes a child in this call, which does not return
    then. It calls ``multiprocessing.freeze_support()`` as well.
    """
    global _supported
    if not _is_frozen():
        return
    _supported = True
    import multiprocessing

    multiprocessing.freeze_support()
    if sys.argv[1:2] == [FROZEN_ARGUMENT]:
        from pytoweb import _child

        _child.main()
        sys.exit()


def _is_frozen() -> bool:
    return bool(getattr(sys, "frozen", False))


def command() -> list[str]:
    """What a child is started with.

    Raises:
        RuntimeError: there is no interpreter to start, or it cannot be told from another program.
    """
    executable = os.environ.get(EXECUTABLE_VARIABLE) or _chosen_for_multiprocessing()
    if executable is None:
        if _is_frozen():
            if not _supported:
                raise RuntimeError(
                    "this program is frozen, and a process worker would start it once more: call "
                    "pytoweb.workers.freeze_support() first thing in its main module, under  "
                    f'if __name__ == "__main__":  (or name an interpreter by {EXECUTABLE_VARIABLE})'
                )
            return [sys.executable, FROZEN_ARGUMENT]
        executable = _own()
    import subprocess

    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return [executable, *flags, "-c", PROGRAM.format(package=package)]


def _chosen_for_multiprocessing() -> str | None:
    """What ``multiprocessing.set_executable`` was given."""
    spawn = imported("multiprocessing.spawn")
    if spawn is None:
        return None
    chosen = os.fsdecode(spawn.get_executable() or "")
    return chosen if chosen and chosen != sys.executable else None


def _own() -> str:
    """The interpreter that runs here, or one of the same version beside its library."""
    executable = sys.executable or ""
    if os.path.basename(executable).lower().startswith(("python", "pypy")):
        return executable
    # A program that embeds Python. Started with the arguments of an interpreter, it would do what it likes.
    name = "python{}.{}".format(*sys.version_info)
    for prefix in (sys.prefix, sys.exec_prefix, sys.base_exec_prefix):
        beside = os.path.join(prefix, "bin", name)
        if os.access(beside, os.X_OK):
            return beside
    raise RuntimeError(
        f"no interpreter is known for the child processes: sys.executable is {executable!r}, which does not "
        f"look like a Python, and there is no {name} in {os.path.join(sys.prefix, 'bin')!r}; name one by the "
        f"environment variable {EXECUTABLE_VARIABLE}, or by multiprocessing.set_executable()"
    )

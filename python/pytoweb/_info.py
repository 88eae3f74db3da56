"""``python -m pytoweb info``: what a bug report should say of the machine and the installation."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys

import pytoweb
from pytoweb._cpus import usable_cpus
from pytoweb._process import TRANSPORT_VARIABLE, checked_transport

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["collect", "main"]

#: By extra, what it installs.
EXTRAS = {"otel": "opentelemetry-api", "process": "cloudpickle", "top": "rich"}

#: Where control groups are, in both of their versions.
CGROUPS = "/sys/fs/cgroup"
#: Limits of the first version that are none are a number near the largest one.
NO_LIMIT = 1 << 60


def main(as_json: bool) -> int:
    """Prints it. Returns the exit code."""
    facts = collect()
    if as_json:
        print(json.dumps(facts, indent=2))
        return 0
    lines = list(_lines(facts))
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        print(f"{name:<{width}}  {value}")
    return 0


def collect() -> dict[str, Any]:
    """All facts by name; sizes in bytes. None is unknown, or no limit."""
    return {
        "pytoweb": pytoweb.__version__,
        "python": {
            "version": platform.python_version(),
            "implementation": platform.python_implementation(),
            "build": " ".join(sys.version.split()),
            "gil": getattr(sys, "_is_gil_enabled", lambda: True)(),
            "virtual_environment": sys.prefix != sys.base_prefix,
        },
        "platform": {
            "system": platform.platform(),
            "machine": platform.machine(),
            "libc": " ".join(part for part in platform.libc_ver() if part) or None,
        },
        "cores": {
            "all": os.cpu_count(),
            "affinity": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
            "cgroup": _cgroup_cpus(),
            "pool_size": usable_cpus(),
        },
        "memory": {"all": _physical_memory(), "cgroup": _cgroup_memory(), **_limits("RLIMIT_AS")},
        "limits": {**_limits("RLIMIT_NOFILE"), **_limits("RLIMIT_NPROC")},
        "processes": {
            "transport": _transport(),
            "shared_memory": _shared_memory(),
        },
        "extras": {extra: _version(package) for extra, package in EXTRAS.items()},
        "environment": {
            name: value for name, value in sorted(os.environ.items()) if name.startswith("PYTOWEB_")
        },
    }


def _lines(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        if isinstance(value, dict):
            for part, each in value.items():
                yield f"{name}.{part}", _shown(each, is_size=name == "memory")
        else:
            yield name, _shown(value)
    if not facts["environment"]:
        yield "environment", "no PYTOWEB_* variables"


def _shown(value: object, is_size: bool = False) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if is_size and isinstance(value, int):
        return f"{value / (1 << 20):,.0f} MiB"
    return str(value)


def _transport() -> str:
    try:
        return checked_transport(None)
    except ValueError as error:
        return f"{TRANSPORT_VARIABLE}: {error}"


def _shared_memory() -> str:
    """Whether the memory that host and children share can be had."""
    if not hasattr(os, "memfd_create"):
        return "not on this platform"
    try:
        file = os.memfd_create("pytoweb-info")
        try:
            os.ftruncate(file, 1 << 20)
        finally:
            os.close(file)
    except OSError as error:
        return f"no: {error}"
    return "yes"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _limits(name: str) -> dict[str, int | None]:
    """A limit of this process, as the shell's `ulimit` has it."""
    try:
        import resource
    except ImportError:
        return {name.lower(): None}
    soft = resource.getrlimit(getattr(resource, name))[0] if hasattr(resource, name) else -1
    return {name.lower(): None if soft == resource.RLIM_INFINITY or soft < 0 else soft}


def _physical_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return None


def _groups(controller: str) -> Iterator[str]:
    """The control groups that this process is in, of both versions, the innermost first."""
    for line in (_read("/proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        base = os.path.join(CGROUPS, controllers) if controllers else CGROUPS
        # In a container the path may be that of the host, and its own group is the root.
        while True:
            yield os.path.join(base, group.strip("/")).rstrip("/")
            if group in ("", "/"):
                break
            group = os.path.dirname(group)


def _cgroup_cpus() -> float | None:
    """CPUs that the control groups leave, by their quota."""
    found = []
    for group in _groups("cpu"):
        quota, _, period = (_read(f"{group}/cpu.max") or "").partition(" ")
        if not quota:
            quota = _read(f"{group}/cpu.cfs_quota_us") or ""
            period = _read(f"{group}/cpu.cfs_period_us") or ""
        if quota.isdigit() and period.isdigit() and int(period):
            found.append(int(quota) / int(period))
    return min(found, default=None)


def _cgroup_memory() -> int | None:
    """Bytes that the control groups leave."""
    found = []
    for group in _groups("memory"):
        limit = _read(f"{group}/memory.max") or _read(f"{group}/memory.limit_in_bytes") or ""
        if limit.isdigit() and int(limit) < NO_LIMIT:
            found.append(int(limit))
    return min(found, default=None)

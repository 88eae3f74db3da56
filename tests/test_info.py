"""``python -m pytoweb info``: what a bug report should say."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest

import pytoweb
from pytoweb import _info
from pytoweb.__main__ import main

WAIT = 20.0


def run_pytoweb(*arguments, **variables):
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTOWEB_")}
    return subprocess.run(
        [sys.executable, "-m", "pytoweb", *arguments],
        capture_output=True, text=True, timeout=WAIT, env={**env, **variables}, check=False,
    )  # fmt: skip


def test_it_prints_facts_a_line_each():
    done = run_pytoweb("info", PYTOWEB_TRANSPORT="socket")
    assert (done.returncode, done.stderr) == (0, "")
    facts = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert facts["pytoweb"] == pytoweb.__version__
    assert facts["python.version"] == platform.python_version()
    assert facts["processes.transport"] == "socket"
    assert facts["environment.PYTOWEB_TRANSPORT"] == "socket"


def test_it_prints_json():
    done = run_pytoweb("info", "--json", PYTOWEB_TRANSPORT="fibre")
    assert (done.returncode, done.stderr) == (0, "")
    facts = json.loads(done.stdout)
    assert set(facts) == {
        "pytoweb", "python", "platform", "cores", "memory", "limits", "processes", "extras", "environment",
    }  # fmt: skip
    assert facts["cores"]["pool_size"] >= 1
    assert facts["processes"]["transport"].startswith("PYTOWEB_TRANSPORT: unknown transport 'fibre'")
    assert set(facts["extras"]) == {"otel", "process", "top"}
    assert facts["environment"] == {"PYTOWEB_TRANSPORT": "fibre"}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs CPU affinity")
def test_it_tells_the_cores_that_the_process_may_use(monkeypatch):
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        cores = _info.collect()["cores"]
    finally:
        os.sched_setaffinity(0, before)
    assert (cores["affinity"], cores["pool_size"]) == (1, 1)


FILES = {
    "the second version": {
        "/proc/self/cgroup": "0::/outer/inner",
        "/sys/fs/cgroup/outer/inner/cpu.max": "max 100000",
        "/sys/fs/cgroup/outer/inner/memory.max": "3000",
        "/sys/fs/cgroup/outer/cpu.max": "150000 100000",
        "/sys/fs/cgroup/outer/memory.max": "2000",
        "/sys/fs/cgroup/memory.max": "max",
    },
    "the first version": {
        "/proc/self/cgroup": "4:memory:/of/the/host\n3:cpu,cpuacct:/",
        "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "150000",
        "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes": "2000",
    },
    "no limit": {
        "/proc/self/cgroup": "4:memory:/\n3:cpu:/\n0::/",
        "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
        "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        "/sys/fs/cgroup/cpu.max": "max 100000",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
    },
    "no control groups": {},
}


@pytest.mark.parametrize("case", list(FILES))
def test_it_tells_the_limits_of_control_groups(monkeypatch, case):
    monkeypatch.setattr(_info, "_read", FILES[case].get)
    limits = (None, None) if case.startswith("no ") else (1.5, 2000)
    facts = _info.collect()
    assert (facts["cores"]["cgroup"], facts["memory"]["cgroup"]) == limits


def test_what_is_not_there_is_told_so(monkeypatch, capsys):
    monkeypatch.setattr(_info, "_version", lambda package: None)
    monkeypatch.setattr(_info, "_cgroup_memory", lambda: 512 << 20)
    for name in [name for name in os.environ if name.startswith("PYTOWEB_")]:
        monkeypatch.delenv(name)
    assert main(["info"]) == 0
    printed = capsys.readouterr().out
    lines = dict(line.split(maxsplit=1) for line in printed.splitlines())
    assert lines["extras.top"] == "-"
    assert lines["memory.cgroup"] == "512 MiB"
    assert lines["environment"] == "no PYTOWEB_* variables"


@pytest.mark.parametrize("arguments", [(), ("nonsense",), ("info", "--nonsense")])
def test_wrong_arguments_are_explained(arguments):
    done = run_pytoweb(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: python -m pytoweb")


def test_it_can_be_interrupted(monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(_info, "collect", interrupt)
    assert main(["info"]) == 130


def test_a_reader_that_goes_away_is_no_error():
    read, written = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytoweb", "info"],
            stdout=written, stderr=subprocess.PIPE, text=True, timeout=WAIT, check=False,
        )  # fmt: skip
    finally:
        os.close(written)
    assert (done.returncode, done.stderr) == (1, "")

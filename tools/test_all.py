"""Runs the Python tests on every supported CPython at hand, each with a wheel built for it.

Interpreters are looked for on PATH (python3.9 to python3.14) and, where pyenv is installed, among
its versions. Each gets an environment and a cargo target directory of its own, so that a second run
compiles nothing. What is tested is the installed wheel, not the checkout. Arguments go to pytest.

Exits with 1 if the tests fail on one of them, or if only the version of the running one is at hand.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
RUNNING = "{}.{}".format(*sys.version_info[:2])
#: Test files that run at the same time.
JOBS = os.environ.get("JOBS") or "4"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or "target")


def runs(python: str, version: str) -> bool:
    """Tells whether a command starts a CPython of that version: a pyenv shim may exist and not run."""
    code = "import sys; print(sys.implementation.name, '%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    return done.returncode == 0 and done.stdout.split() == ["cpython", version]


def candidates(version: str) -> list[str]:
    """Returns what may be a version's interpreter: this one, the one on PATH, then pyenv's, newest first."""
    found = [sys.executable if version == RUNNING else "", shutil.which(f"python{version}") or ""]
    if shutil.which("pyenv"):
        done = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=False, timeout=60)
        installed = Path(done.stdout.strip(), "versions").glob(f"{version}.*/bin/python")
        found += map(str, sorted(installed, key=lambda path: path.stat().st_ctime, reverse=True))
    return [python for python in found if python]


def check(python: str, version: str, arguments: list[str]) -> None:
    """Builds the wheel for one interpreter, installs it and runs the tests.

    Raises:
        subprocess.CalledProcessError: One of the steps failed; it has said why.
    """
    venv, target = Path(".venvs", version), TARGET / f"python{version}"
    inner, wheels = venv / "bin" / "python", target / "wheels"

    def step(*command: object) -> None:
        environment = {**os.environ, "VIRTUAL_ENV": str(ROOT / venv), "PYO3_PYTHON": str(ROOT / inner)}
        subprocess.run([str(part) for part in command], check=True, cwd=ROOT, env=environment)

    step("tools/setup.sh", venv, python)
    shutil.rmtree(ROOT / wheels, ignore_errors=True)
    step(venv / "bin" / "maturin", "build", "--release", "-i", inner, "--target-dir", target, "--out", wheels)
    (wheel,) = (ROOT / wheels).glob("*.whl")
    step(inner, "-m", "pip", "install", "--quiet", f"{wheel}[demo,test]")
    step(inner, "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", wheel)
    step("tools/test_python.sh", inner, JOBS, "-p", "no:cacheprovider", *arguments)
    if not arguments:
        step(inner, "-m", "pytest", "-p", "no:cacheprovider", "-m", "extra")


def main() -> int:
    """Tests each interpreter found and prints a table of the outcomes."""
    outcomes = {}
    for version in VERSIONS:
        python = next((one for one in candidates(version) if runs(one, version)), None)
        if python is None:
            outcomes[version] = "not found"
            continue
        print(f"test-all: Python {version}", flush=True)
        started = time.monotonic()
        try:
            check(python, version, sys.argv[1:])
            outcomes[version] = "passed"
        except subprocess.CalledProcessError as error:
            outcomes[version] = f"FAILED: {Path(error.cmd[0]).name} {' '.join(error.cmd[1:3])}"
        outcomes[version] += f" ({time.monotonic() - started:.0f} s)"
    print("\n".join(f"Python {version:6}{outcome}" for version, outcome in outcomes.items()))
    tested = {version for version, outcome in outcomes.items() if outcome != "not found"}
    if not tested - {RUNNING}:
        print("test-all: no other interpreter than the default one was found", file=sys.stderr)
        return 1
    return int(any(outcome.startswith("FAILED") for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())

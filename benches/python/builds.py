"""The two builds that ``cost_of_numbers.py`` compares: as users get it, and without the numbers.

The second one is built with a flag of the compiler that nothing else sets, below ``target/without-numbers``:
an unpacked wheel, which ``PYTHONPATH`` puts before what is installed, and the Rust rows.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import rust_rows

ROOT = Path(__file__).resolve().parent.parent.parent
FLAGS = "--cfg pytoweb_without_numbers"
BUILD_SECONDS = 1_800
CHECK_SECONDS = 60

CHECK = """
import json
from pytoweb import _core
from pytoweb.workers import PythonWorker, WorkerPool

with PythonWorker("check") as worker, WorkerPool(1, backend="process") as children:
    worker.on_message("work", lambda data: data)
    worker.ask("work").result()
    counted = worker.stats().completed
    there = children.submit(eval, "__import__('pytoweb._core')._core.__file__").result()
print(json.dumps([counted, _core.__file__, there]))
"""
"""Says whether a message was counted, and which extension was loaded here and in a child."""


class WrongBuild(Exception):
    """What was built is not what is to be measured."""


def _target() -> Path:
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target")


@dataclass(frozen=True)
class Build:
    """One of the two."""

    has_numbers: bool

    @property
    def _flags(self) -> str:
        return "" if self.has_numbers else FLAGS

    @property
    def _directory(self) -> Path:
        return _target() if self.has_numbers else _target() / "without-numbers"

    @property
    def _package(self) -> Path:
        return self._directory / "python"

    @property
    def rust(self) -> Path:
        """The target directory of the Rust rows."""
        return rust_rows.TARGET if self.has_numbers else self._directory / "rust"

    def environment(self) -> dict[str, str]:
        """That of an interpreter which imports this build: the installed one is the one with numbers."""
        path = os.environ.get("PYTHONPATH", "")
        if self.has_numbers:
            return dict(os.environ)
        return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(self._package), path]))}

    def make(self, *, python: bool, rust: bool) -> None:
        """Builds what is asked for; the compiler's messages go to standard error.

        Raises:
            subprocess.CalledProcessError: The build failed.
            WrongBuild: It does not do what it is for.
        """
        if python and not self.has_numbers:
            self._make_package()
        if python:
            self._check()
        if rust:
            rust_rows.build(self.rust, self._flags)

    def _make_package(self) -> None:
        wheels = self._directory / "wheels"
        shutil.rmtree(wheels, ignore_errors=True)
        maturin = [sys.executable, "-m", "maturin", "build", "--profile", "release"]
        subprocess.run(
            [*maturin, "--compatibility", "linux", "--interpreter", sys.executable, "--out", str(wheels)],
            cwd=ROOT,
            env={**rust_rows.with_flags(FLAGS), "CARGO_TARGET_DIR": str(self._directory)},
            check=True,
            timeout=BUILD_SECONDS,
            stdout=subprocess.DEVNULL,
        )
        (wheel,) = wheels.glob("*.whl")
        shutil.rmtree(self._package, ignore_errors=True)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(self._package)

    def _check(self) -> None:
        command = [sys.executable, "-c", CHECK]
        printed = subprocess.run(
            command,
            env=self.environment(),
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            timeout=CHECK_SECONDS,
        ).stdout
        counted, here, in_child = json.loads(printed)
        is_own = Path(here).is_relative_to(self._package) != self.has_numbers
        if bool(counted) != self.has_numbers or here != in_child or not is_own:
            raise WrongBuild(f"numbers: {self.has_numbers}; counted {counted}, {here}, in a child {in_child}")

    def instructions(self) -> Path:
        """Builds the program whose instructions are counted, and returns its path.

        Raises:
            subprocess.CalledProcessError: The build failed.
        """
        bench = ["cargo", "bench", "-p", "pytoweb-workers", "--bench", "instructions", "--no-run"]
        printed = subprocess.run(
            [*bench, "--target-dir", str(self._directory), "--message-format=json-render-diagnostics"],
            cwd=ROOT,
            env=rust_rows.with_flags(self._flags),
            check=True,
            timeout=BUILD_SECONDS,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
        made = (json.loads(line) for line in printed.splitlines() if line.startswith("{"))
        names = [part["executable"] for part in made if part.get("target", {}).get("name") == "instructions"]
        return Path(names[-1])


WITH = Build(has_numbers=True)
WITHOUT = Build(has_numbers=False)

# The front door: `make help` lists the targets, CONTRIBUTING.md says when to use which.
#
# Every target does its own set-up. One release build of the extension serves run, bench and the
# Python tests: it is compiled once, and what is tested is what users get. Python sources are
# installed in place, so that only a change of Rust code makes a rebuild. While you change Rust code,
# PROFILE=quick builds it in seconds instead; the next target without it builds the release again.

.DEFAULT_GOAL := help
# Cargo and pip use every core and lock their directories: targets side by side would only wait.
.NOTPARALLEL:

VENV := .venv
PY := $(VENV)/bin/python
# The interpreter .venv is made with; empty: keep .venv as it is, or make it with python3.
PYTHON ?=
# The tree that `make run` analyses; empty: the interpreter's standard library.
DIR =
# The page to write that shows what the workers of `make run` did, and when: REPORT=run.html
REPORT =
# The Chromium of `make test-browser` and `make pictures`; empty: the first one on PATH.
BROWSER =
# More arguments for the program that run, bench, faults or test-python starts.
ARGS =
# The Cargo profile of the extension: release, or quick.
PROFILE = release
# Python tests side by side, 0 for one after the other: most wait for a child process or for an interpreter
# of their own, so more of them than there are cores have work to do.
JOBS = 4
# How often `make stress` repeats the tests, on all cores and again on one.
REPEAT = 20
# Which Python tests it leaves out: those about output and documents, where threads only do the work,
# and the fault run, which measures times and is long.
STRESS = $(foreach name,analyze cli docs examples faults guide typing,--ignore-glob='tests/test_$(name)*')
# How many times a thread may be interrupted in an interleaving that loom explores.
LOOM_MAX_PREEMPTIONS ?= 3
# How many times as many random cases `make fuzz` tries as `make test`.
FUZZ = 100
# What `make semver` compares with: a commit or the tag of a release.
BASE = $(shell git describe --tags --abbrev=0 --match 'v*' 2>/dev/null)
# The oldest Rust that the crates promise to compile with.
MSRV = $(shell sed -n 's/^rust-version = "\(.*\)"$$/\1/p' Cargo.toml)

comma := ,

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
# In CI a Cargo.lock that does not fit is an error, not something to mend.
LOCKED := $(if $(CI),--locked)

# One value for every cargo command, for every target: PyO3 is rebuilt when either differs. The second
# keeps cargo from linking to a libpython that not every machine has.
export PYO3_PYTHON := $(CURDIR)/$(PY)
export PYO3_BUILD_EXTENSION_MODULE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export LOOM_MAX_PREEMPTIONS
# maturin refuses to choose between two active environments.
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
unexport CONDA_PREFIX
# The tests start hundreds of interpreters, and each would compile all sources again.
unexport PYTHONDONTWRITEBYTECODE

# What the extension is built from. Directories are in the list because their age tells of a file removed.
NOT_BUILT := -name tests -o -name models -o -name models.rs -o -name benches -o -name examples
SOURCES := Cargo.toml Cargo.lock pyproject.toml \
	$(shell find crates \( $(NOT_BUILT) \) -prune -o \( -type d -o -name '*.rs' -o -name Cargo.toml \) -print)

.PHONY: help run test test-rust test-python test-socket test-browser test-all loom miri tsan fuzz msrv stress \
	bench bench-numbers faults fuzz-rust lint map pictures deny semver wheels fmt doc clean FORCE

help: ## list the targets
	@echo "make TARGET [VARIABLE=value ...]"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 16
	@echo "PYTHON=... names the interpreter for $(VENV); ARGS=... goes to the program of run, bench, faults, test-python"

# The recipe runs every time and leaves the file alone when the environment still fits.
$(VENV)/.python: FORCE
	@tools/setup.sh $(VENV) "$(PYTHON)"

# Names the profile of what is installed; written when that is not PROFILE.
$(VENV)/.profile: $(VENV)/.python FORCE
	@[ "$$(cat $@ 2>/dev/null)" = "$(PROFILE)" ] || echo "$(PROFILE)" >$@

# The extras are looked up only when pyproject.toml has changed: a changed line of Rust is not to wait for that.
$(VENV)/.installed: $(VENV)/.python $(VENV)/.profile $(SOURCES)
	$(VENV)/bin/maturin develop --profile $(PROFILE) $(LOCKED) $(if $(filter pyproject.toml,$?),--extras demo$(comma)test)
	@touch $@

$(VENV)/.lint: $(VENV)/.python pyproject.toml | $(VENV)/.installed
	$(VENV)/bin/maturin develop --profile $(PROFILE) $(LOCKED) --extras lint
	@touch $@

run: $(VENV)/.installed ## analyse a source tree in background workers (DIR=..., default: the standard library; REPORT=run.html)
	@$(PY) demo $(if $(DIR),"$(DIR)") $(if $(REPORT),--report "$(REPORT)") $(ARGS)

test: test-rust loom test-python ## everything that must pass, Rust and Python

test-rust: $(VENV)/.python ## the tests and the documentation examples of all crates (ARGS=... goes to cargo test)
	cargo test --workspace $(LOCKED) $(ARGS)
	$(if $(ARGS),,cargo test -p pytoweb-workers --all-features --lib --test tracing --test spans --test metrics --test examples $(LOCKED))
	$(if $(ARGS),,cargo test -p pytoweb-workers --all-features --doc $(LOCKED) -- observability metrics)

test-python: $(VENV)/.installed ## the Python tests, JOBS (4) at a time (ARGS=... goes to pytest)
	@tools/test_python.sh $(PY) $(JOBS) $(ARGS)

# What a platform without shared memory gets: the same contract over a socket pair.
test-socket: $(VENV)/.installed ## the tests of process workers over the socket transport
	PYTOWEB_TRANSPORT=socket $(PY) -m pytest -n $(JOBS) --dist loadfile -m "not extra" tests/test_contract.py $(wildcard tests/test_process_*.py) $(ARGS)

test-browser: $(VENV)/.installed ## the report in a real browser (a Chromium on PATH, or BROWSER=path)
	@PYTOWEB_BROWSER="$$(tools/browser.sh $(BROWSER))" && export PYTOWEB_BROWSER && \
		$(PY) -m pytest -m browser tests/test_report_browser.py $(ARGS)

test-all: test-socket ## and the Python tests on every CPython from 3.9 to 3.14 at hand, each with its own wheel
	JOBS=$(JOBS) $(PY) tools/test_all.py $(ARGS)

# Another cfg and another profile: a target directory of its own keeps both builds warm. Optimised,
# because loom runs each test thousands of times; without the link-time optimisation that only costs here.
loom: $(VENV)/.python ## the concurrent protocols, every interleaving up to LOOM_MAX_PREEMPTIONS (3)
	RUSTFLAGS="$(RUSTFLAGS) --cfg pytoweb_loom" CARGO_TARGET_DIR="$(TARGET_DIR)/loom" \
	CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true \
	cargo test -p pytoweb-engine -p pytoweb-process --lib --release $(LOCKED)

miri: $(VENV)/.python ## the unsafe code of the engine and the Rust API under miri (needs a nightly toolchain)
	@tools/toolchain.sh nightly miri rust-src
	CARGO_TARGET_DIR="$(TARGET_DIR)/miri" cargo +nightly miri test -p pytoweb-engine --test miri
	CARGO_TARGET_DIR="$(TARGET_DIR)/miri" cargo +nightly miri test -p pytoweb-workers --lib -- inline:: noted:: payload::

# The engine alone: the bells of the process crate synchronise by fences, which the sanitizer does not know. The standard
# library is built as well, so that it sees what happens in there. The tests that are skipped bound the time
# and the memory of a quantity, of which the sanitizer takes several times as much, or recurse deeper than it can follow.
tsan: $(VENV)/.python ## the tests of the engine under the thread sanitizer (needs a nightly toolchain)
	@tools/toolchain.sh nightly rust-src
	RUSTFLAGS="$(RUSTFLAGS) -Zsanitizer=thread" CARGO_TARGET_DIR="$(TARGET_DIR)/tsan" TSAN_OPTIONS="halt_on_error=1" \
	cargo +nightly test -Zbuild-std --target "$$(rustc -vV | sed -n 's/^host: //p')" -p pytoweb-engine --lib --tests \
		--no-fail-fast $(LOCKED) $(ARGS) -- --skip ten_thousand_workers --skip memory --skip stacks_are_as_large

fuzz-rust: export PYTOWEB_FUZZ = $(FUZZ)
fuzz-rust: export CARGO_TARGET_DIR = $(TARGET_DIR)/fuzz
fuzz-rust: export CARGO_PROFILE_RELEASE_LTO = off
fuzz-rust: export CARGO_PROFILE_RELEASE_CODEGEN_UNITS = 16
fuzz-rust: export CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS = true
fuzz-rust: export CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS = true
fuzz-rust: $(VENV)/.python ## the half of fuzz that needs no Python
	cargo test -p pytoweb-process --release --lib --test frames $(LOCKED) -- ring:: stream:: hostile:: come_back credit::
	cargo test -p pytoweb-engine --release --lib $(LOCKED) -- planned:: plain_queue workers_run_in_turn stream::
	cargo test -p pytoweb-engine --release --test deliveries $(LOCKED) -- mixes:: model::
	cargo test -p pytoweb-workers --release --test stream_model $(LOCKED)

# The wheel is the one of the tests, so its build must not see what is exported for those above.
fuzz: fuzz-rust ## hostile frames and rings, random orders and streams, FUZZ (100) times as many cases as in make test
	PYTOWEB_FUZZ=$(FUZZ) $(MAKE) test-python ARGS=tests/test_stream_model.py

msrv: $(VENV)/.python ## all crates and their tests compile with the oldest Rust that Cargo.toml promises
	@tools/toolchain.sh "$(MSRV)"
	CARGO_TARGET_DIR="$(TARGET_DIR)/msrv" cargo "+$(MSRV)" check --workspace --all-targets $(LOCKED)
	CARGO_TARGET_DIR="$(TARGET_DIR)/msrv" cargo "+$(MSRV)" check -p pytoweb-workers --all-features --all-targets $(LOCKED)

stress: $(VENV)/.installed ## the concurrency tests REPEAT (20) times on all cores and again on one
	tools/stress.sh $(PY) "$(REPEAT)" $(STRESS)

$(VENV)/.bench: pyproject.toml | $(VENV)/.installed
	$(VENV)/bin/maturin develop --profile $(PROFILE) $(LOCKED) --extras bench
	@touch $@

bench: PROFILE = release
bench: $(VENV)/.installed $(VENV)/.bench ## side by side with the peers, on all cores and again on one
	$(PY) benches/run.py $(ARGS)
	$(PY) benches/run.py --pin 0 $(ARGS)

# What is installed has the numbers; the build without them is for this comparison alone.
bench-numbers: PROFILE = release
bench-numbers: $(VENV)/.installed ## what the numbers of workers cost: the rows of bench with and without them (ARGS="--only thread")
	$(PY) benches/cost_of_numbers.py $(ARGS)

# In full, half an hour; the Python tests run each row at a fiftieth of its size.
faults: $(VENV)/.installed ## inject crashes, hangs, floods and shortages, and measure what survives (ARGS="--scale 0.1")
	PYTHONPATH=tests $(PY) -m faults $(ARGS)
	$(if $(ARGS),,PYTOWEB_FUZZ=$(FUZZ) cargo test -p pytoweb-engine --test deliveries $(LOCKED) mixes::)

lint: $(VENV)/.lint ## formatting, lints, types, stubs, documentation and layering, warnings are errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets $(LOCKED) -- -D warnings
	cargo clippy -p pytoweb-workers --all-features --all-targets $(LOCKED) -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --all-features $(LOCKED)
	tools/layers.sh
	$(PY) tools/map.py
	$(PY) tools/names.py
	tools/targets.sh $(LOCKED)
	@if command -v cargo-deny >/dev/null; then cargo deny check bans licenses sources; \
		else echo "cargo-deny is not installed: licences and sources are not checked"; fi
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy python/pytoweb demo $(wildcard examples)
	$(PY) -m mypy.stubtest pytoweb._core --mypy-config-file pyproject.toml

deny: ## licences, sources, bans and advisories of what the crates depend on (needs cargo-deny)
	@tools/subcommand.sh deny
	cargo deny check

semver: ## whether the public API of the crates changed as the version says, against BASE (needs cargo-semver-checks)
	@tools/subcommand.sh semver-checks
	@[ -n "$(BASE)" ] || { echo "semver: there is no release to compare with: make semver BASE=<commit or tag>" >&2; exit 1; }
	cargo semver-checks -p pytoweb-engine -p pytoweb-process -p pytoweb-workers --baseline-rev "$(BASE)"

$(VENV)/.release: pyproject.toml | $(VENV)/.installed
	$(VENV)/bin/maturin develop --profile $(PROFILE) $(LOCKED) --extras release
	@touch $@

wheels: $(VENV)/.release ## wheels of CPython 3.9 to 3.14 for Linux, glibc and musl, and the source distribution, in dist
	tools/wheels.sh $(VENV) $(PROFILE) $(LOCKED)

pictures: $(VENV)/.installed ## the screenshots of the guide, in docs/figures (a Chromium on PATH, or BROWSER=path)
	@browser="$$(tools/browser.sh $(BROWSER))" && PYTHONPATH=tests $(PY) tools/pictures.py "$$browser" $(ARGS)

map: $(VENV)/.python ## draw the map of the modules in ARCHITECTURE.md anew, from their imports
	$(PY) tools/map.py --write

fmt: $(VENV)/.lint ## format Rust and Python, apply the safe fixes
	cargo fmt --all
	$(VENV)/bin/ruff check --fix --exit-zero
	$(VENV)/bin/ruff format

doc: $(VENV)/.python ## the documentation of the crates, in HTML
	cargo doc --workspace --no-deps
	@echo "see $(TARGET_DIR)/doc/pytoweb_workers/index.html"

clean: ## remove everything that was built or installed here
	-cargo clean
	rm -rf $(VENV) .venvs dist python/pytoweb/_core.*.so python/pytoweb/_core.*.pyd \
		.pytest_cache .mypy_cache .ruff_cache .hypothesis
	find python demo tests benches examples tools -name __pycache__ -prune -exec rm -rf {} +

# tidegate, from a clone: `make run` starts it, `make test` proves it. Everything needed is installed into .venv/.
# As root on Debian or Ubuntu, the packages that the tests need are installed too; nobody else's system is touched.

VENV := .venv
STATE := $(CURDIR)/.state
INSTALL := $(VENV)/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt
BACKEND := hatchling editables  # what builds tidegate; installed, so that its version is pinned like all others

# The programs of config/bin, but for heartbeat, which is sh.
PROGRAMS := $(addprefix config/bin/,cert-expiry checksum-audit compress-logs disk-watch sqlite-backup)

# What jobs get for a PATH unless their env says otherwise, and where their python3 must be found.
JOB_PATH := /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# Debian packages of the tests: compilers and headers (systemd-python, stamps), promtool (in prometheus), what injects
# and looks at faults, the reference cron, CPython's own tests and time zones.
PACKAGES := binutils ca-certificates curl fish gcc git groff-base iproute2 libc6-dev libpython3-testsuite \
	libsystemd-dev lintian openssl pkg-config procps prometheus python3 python3-dev python3-venv rpm sqlite3 \
	strace systemd tmux tzdata user-mode-linux util-linux zsh

# The first of these that is new enough.
PYTHONS := python3 python3.13 python3.12 python3.11 python3.14 /usr/bin/python3
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))

.PHONY: help run test check bench bench-full fuzz torture deb rpm constraints clean
.DELETE_ON_ERROR:

help:
	@echo 'make run    start tidegate on the jobs in config/, with its state in .state/; Ctrl-C ends it'
	@echo 'make test   everything that proves it: check, the fast tests, then those that touch the real world'
	@echo 'make check  ruff, mypy and the rules of the house'
	@echo 'make bench  speed and size beside rivals and floors, into tests/bench/RESULTS.md'
	@echo 'make bench-full  the same with more repeats and a finer search, for hours'
	@echo 'make fuzz   100,000 broken configurations'
	@echo 'make torture  a thousand kill -9 during 100,000 runs, every failing system call, 10,000 simulated days, hogs'
	@echo 'make deb    a Debian package, into build/; offline once its wheels are there'
	@echo 'make rpm    an RPM package for the distribution that this is, into build/rpm/'
	@echo 'make clean  remove what the others made: .venv/, .state/, build/ and caches'

# --- installing: a stamp for each set of packages, made again when what it depends on changes ---

$(VENV)/bin/python:
	@found=; for python in $(PYTHON) $(PYTHONS); do \
		if "$$python" -c '$(NEW_ENOUGH)' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo 'tidegate needs Python 3.11 or newer, and none was found. Install one (Debian 12, Ubuntu 24.04 and later:' >&2; \
		echo '"apt install python3 python3-venv"), or say where it is: make PYTHON=/path/to/python3.12' >&2; \
		exit 1; \
	fi; \
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
		if ! packaging/debian-packages python3-venv; then \
			echo "$$found cannot make virtual environments (Debian: apt install python3-venv)" >&2; exit 1; \
		fi; \
	fi; \
	echo "Making $(VENV)/ with $$("$$found" --version)"; \
	"$$found" -m venv --clear $(VENV)

$(VENV)/.runtime: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo 'Installing tidegate into $(VENV)/'
	@$(INSTALL) $(BACKEND)
	@$(INSTALL) --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo 'Installing tidegate and what its tests need into $(VENV)/'
	@$(INSTALL) $(BACKEND)
	@$(INSTALL) --no-build-isolation -e '.[dev]'
	@touch $(VENV)/.runtime $@

$(VENV)/.packages: Makefile packaging/debian-packages | $(VENV)/bin/python
	@packaging/debian-packages $(PACKAGES) || echo 'Tests that need what is missing will say so.' >&2
	@touch $@

# systemd-python compiles against libsystemd. The daemon runs without it; the tests read the journal with it.
$(VENV)/.systemd: pyproject.toml constraints.txt | $(VENV)/.packages
	@if pkg-config --exists libsystemd 2>/dev/null; then \
		$(INSTALL) systemd-python || echo 'systemd-python could not be built; going on without it.' >&2; \
	else \
		echo 'Without systemd-python: no headers of libsystemd (Debian: apt install libsystemd-dev pkg-config gcc).' >&2; \
	fi
	@touch $@

# --- what people call ---

# Jobs see JOB_PATH and nothing of ours; where it holds no python3 (pyenv, Nix), a copy of tidegate.toml lends them that
# of .venv/. exec: the daemon itself gets the terminal's Ctrl-C and make's signals.
run: $(VENV)/.runtime
	@mkdir -p $(STATE)/run $(STATE)/jobs
	@config=config/tidegate.toml; \
	if ! env -i PATH=$(JOB_PATH) python3 -c 'import sqlite3' 2>/dev/null; then \
		config=$(STATE)/tidegate.toml; \
		sed -e 's|"jobs.d/|"$(CURDIR)/config/jobs.d/|' -e 's|"\.\./\.state/|"$(STATE)/|' \
			-e 's|^# env = { PATH.*|env = { PATH = "$(CURDIR)/$(VENV)/bin:$(JOB_PATH)" }|' \
			config/tidegate.toml >$$config; \
		echo "No python3 in $(JOB_PATH): jobs use that of $(VENV)/ ($$config)"; \
	fi; \
	exec env STATE_DIRECTORY=$(STATE) RUNTIME_DIRECTORY=$(STATE)/run $(VENV)/bin/tidegate run --config $$config

check: $(VENV)/.dev
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy --scripts-are-modules $(PROGRAMS)
	$(VENV)/bin/mypy --scripts-are-modules packaging/stage.py packaging/deb.py packaging/pages.py
	$(VENV)/bin/python -m pytest -q tests/test_house.py

test: $(VENV)/.dev $(VENV)/.systemd check
	$(VENV)/bin/python -m pytest -q -m 'not live and not fuzz'
	$(VENV)/bin/python -m pytest -q -m 'live and not fuzz'

bench: $(VENV)/.dev
	$(VENV)/bin/python tests/bench/run.py

bench-full: $(VENV)/.dev
	$(VENV)/bin/python tests/bench/run.py --full

fuzz: $(VENV)/.dev
	$(VENV)/bin/python -m pytest -q -m fuzz

# Three hours: a thousand kills during a hundred thousand runs, and more. SEED=n plays other accidents.
SEED := 1
torture: $(VENV)/.dev $(VENV)/.packages
	$(VENV)/bin/python tests/crash/driver.py --seed $(SEED) --kills 1000 --runs 120000 --quick 90
	$(VENV)/bin/python tests/crash/driver.py --seed $(SEED) --kills 100 --runs 5000 --keeper-kills 100
	TIDEGATE_INJECT=all $(VENV)/bin/python -m pytest -q --timeout 7200 tests/crash/test_inject.py
	$(VENV)/bin/python -m tests.sim.torture --seeds 10000
	$(VENV)/bin/python -m tests.bench.pool.torture --repeats 20

# A package is for the distribution's own python3, so its wheels are made with that one: in an environment of their own,
# and not from pip's cache, where those of another Python may lie, compiled against its libraries.
SYSTEM_PYTHON := /usr/bin/python3
WHEELS := build/wheels
WHEEL := build/wheel-venv/bin/python -m pip wheel -q --disable-pip-version-check -w $(WHEELS)

$(WHEELS)/.made: pyproject.toml constraints.txt
	@packaging/debian-packages binutils gcc libsystemd-dev pkg-config python3-dev python3-venv
	@echo 'Making the wheels of a package in $(WHEELS)/'
	@rm -rf build/wheel-venv $(WHEELS)
	@$(SYSTEM_PYTHON) -m venv build/wheel-venv
	@build/wheel-venv/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt $(BACKEND)
	@$(WHEEL) --use-pep517 --no-cache-dir -c constraints.txt '.[systemd,ics]'
	@touch $@

# REVISION=2 is a later package of the same version.
REVISION := 1
PACKAGED := $(shell find daemon packaging systemd docs config -type f -not -path '*/__pycache__/*') README.md CHANGELOG.md

build/.deb-$(REVISION): $(WHEELS)/.made Makefile $(PACKAGED)
	@rm -f $(WHEELS)/tidegate-*.whl
	@$(WHEEL) --no-index --no-deps --no-build-isolation .
	@build/wheel-venv/bin/python packaging/deb.py --wheels $(WHEELS) --revision $(REVISION)
	@touch $@

deb: build/.deb-$(REVISION)

rpm: $(WHEELS)/.made
	@rm -f $(WHEELS)/tidegate-*.whl
	@$(WHEEL) --no-index --no-deps --no-build-isolation .
	@rpmbuild -bb --quiet --define '_topdir $(CURDIR)/build/rpm' --define 'source $(CURDIR)' packaging/rpm/tidegate.spec
	@find build/rpm/RPMS -name '*.rpm'

# Pin what is newest today, for a maintainer to test and commit. Names and versions only: where they come from is the
# business of whoever installs.
constraints:
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
	python3 -m venv "$$scratch" && \
	"$$scratch/bin/python" -m pip install -qq --disable-pip-version-check $(BACKEND) && \
	"$$scratch/bin/python" -m pip install -qq --disable-pip-version-check '.[dev,systemd]' && \
	"$$scratch/bin/python" -m pip freeze --exclude tidegate | grep -E '^[A-Za-z0-9._-]+==[^ ]+$$' >constraints.txt

clean:
	rm -rf $(VENV) .state build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find daemon tests -name __pycache__ -prune -exec rm -rf {} +

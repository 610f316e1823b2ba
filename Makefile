# `make demo` and `make test` set up everything they need; neither needs root.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.radloop-installed
EXTRAS ?= learn,dev
# Processes the tests run in; what shares a server stays in one.
JOBS ?= 2
FAULTS := tests/faults tests/store/test_kill.py tests/flows/test_resume.py
# Wall-clock limits live in each test; the workers share the cores, so compute stays on one thread.
export OMP_NUM_THREADS ?= 1

.PHONY: help install demo test test-slow test-faults servers lint bench gpu-check clean

help:
	@echo "make install    virtual environment in $(VENV) with pip (about 8 GB, 3 to 6 minutes)"
	@echo "make demo       the whole loop on data the package brings (5 to 8 minutes on two cores)"
	@echo "make test       the tests (11 to 15 minutes on two idle cores after installation)"
	@echo "make test-slow  the heavy tests: kills, simulations, real trainings; goes on where it was stopped"
	@echo "make test-faults  of them the kills and lost disks (32 to 43 minutes on two cores)"
	@echo "make servers    PostgreSQL, Orthanc, Chromium, dcm2niix, strace, SLURM, openssl and dciodvfy from the system's packages; needs root"
	@echo "make lint       ruff, formatting and the law of the layers"
	@echo "make bench      benchmarks beside their peers, into docs/benchmarks.md; goes on where it was stopped"
	@echo "make gpu-check  what this machine's GPUs do, into docs/gpu.md"
	@echo "make clean      virtual environments, caches and demo results"

install: $(STAMP)

# Nothing runs while neither the pins nor the package's own description changed.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v[:2] == (3, 11) else \
	 "radloop needs Python 3.11 (its libraries were tested together on it); %s is %d.%d. Run: make install PYTHON=/path/to/python3.11" % (sys.executable, v[0], v[1]))'
	@echo "Installing radloop into $(VENV): about 8 GB, 3 to 6 minutes, once."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $(STAMP)
	@echo "Installed. The command is $(BIN)/radloop."

demo: install
	@$(BIN)/radloop demo

test: install
	$(BIN)/python -m pytest -m "not slow" -n $(JOBS) --dist loadgroup

# What passed on this code is not run again until a pass has ended well.
test-slow: install
	$(BIN)/python -m pytest --go-on --more-to-come -m slow $(FAULTS) -n $(JOBS) --dist loadfile
	$(BIN)/python -m pytest --go-on -m slow $(FAULTS:%=--ignore=%)

# Kills, torn writes, full disks, lost workers: one pass of docs/faults.md (32 to 43 minutes on two cores).
test-faults: install
	$(BIN)/python -m pytest --go-on -m slow $(FAULTS) -n $(JOBS) --dist loadfile

servers:
	apt-get update
	apt-get install -y --no-install-recommends postgresql orthanc orthanc-dicomweb chromium dcm2niix strace \
	 slurmctld slurmd slurm-client munge iproute2 openssl dicom3tools

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

# Peers live apart: none of them may come near what radloop itself runs on.
.venv-peers/.installed: benchmarks/peers.txt
	@test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	@.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers.txt
	@touch $@

# What ended on this code is not run again. make bench BENCH="--only store,loader" chooses, --fresh repeats.
bench: install .venv-peers/.installed
	$(BIN)/python benchmarks/run_all.py $(BENCH)

gpu-check: install
	$(BIN)/python -m flows.gpu_check

clean:
	rm -rf $(VENV) .venv-peers build dist *.egg-info .pytest_cache .ruff_cache .hypothesis radloop-home
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

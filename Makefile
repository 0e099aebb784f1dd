# `make demo` and `make test` need only Python 3.11 and make; everything else installs itself into .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
DATA   := $(firstword $(wildcard ../shared/data) $(UNABRIDGED_DATA))
export UNABRIDGED_DATA ?= $(abspath $(DATA))

.PHONY: demo test test-all check docs bench bench-geometry bench-training clean

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . --group dev
	touch $@

demo: $(READY)
	$(BIN)/unabridged demo

test: $(READY)
	$(BIN)/python -m pytest -q

test-all: $(READY)
	$(BIN)/python -m pytest -q -m "slow or not slow"

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q
	$(MAKE) --no-print-directory docs

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

BENCH_READY := $(VENV)/.bench-ready
GEOMETRY := whitening whitening_sts gaussian projection sign_codes randomized_svd dimensions
READING := encode_throughput retrieval_qmsum index_memory kill_resume positions probe_verdicts adaptation adaptation_masked
ATTENTION := favor favor_heads attention attention_quality attention_break_even residual residual_compressed
ATTRIBUTION := attribution attribution_lds attribution_projected suspects why
BENCHMARKS := $(READING) $(ATTENTION) $(ATTRIBUTION)

$(BENCH_READY): $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group bench
	touch $@

bench-geometry: $(BENCH_READY)
	for name in $(GEOMETRY); do $(BIN)/python benchmarks/$$name.py || exit 1; done

bench: bench-geometry
	for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py || exit 1; done

# Hours of training; every run leaves a file, so that it can be stopped and taken up again.
bench-training: $(BENCH_READY)
	$(BIN)/python benchmarks/residual_training.py prepare
	$(BIN)/python benchmarks/residual_training.py next
	$(BIN)/python benchmarks/residual_training.py report
	$(BIN)/python benchmarks/residual_adaptation.py
	for task in topics neighbours; do for seed in 0 1 2; do for name in exact favor mean; do \
	  $(BIN)/python benchmarks/favor_training.py --task $$task run $$name $$seed || exit 1; done; done; \
	  $(BIN)/python benchmarks/favor_training.py --task $$task report || exit 1; done
	for step in run report; do $(BIN)/python benchmarks/favor_adaptation.py $$step || exit 1; done

clean:
	rm -rf $(VENV) site build dist .pytest_cache .mypy_cache .ruff_cache

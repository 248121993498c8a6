# `make` prints this list. Only Python 3.11 or newer and make are needed; everything else lands in .venv/.

.DEFAULT_GOAL := help
.PHONY: help run weather test check peers chaos mutants bench bench-ledger bench-fairness bench-inflight migrate up lock clean
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PORT ?= 8000
TWIN_LOCAL_DIR ?= .local
JOBS ?= 2
TYPE ?= image
export PORT TWIN_LOCAL_DIR
# `make test` starts hundreds of programs: none should compile again what another has.
unexport PYTHONDONTWRITEBYTECODE

NEWEST_FIRST := python3 python3.14 python3.13 python3.12 python3.11
PYTHON ?= $(shell for p in $(NEWEST_FIRST); do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
INSTALLED := .venv/installed
SQL := $(wildcard migrations/*.sql)
# What must also hold on the oldest Postgres we serve: the SQL, without what tries so many orders of events that it takes
# minutes, and finds nothing there that it does not find on the newest.
OLDEST_POSTGRES := 15
MANY_ORDERS := machine interleavings bad_days cancellation
ON_OLDEST := tests/migrations tests/rls tests/statements \
	$(filter-out $(MANY_ORDERS:%=tests/ledger/test_%.py),$(wildcard tests/ledger/test_*.py))

# A file has its database to itself; tests/conftest.py puts the long ones first, whatever number of tests they have.
SIDE_BY_SIDE = -n $(JOBS) --dist loadfile --no-loadscope-reorder

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(INSTALLED) ## the whole product on this machine, until Ctrl-C (PORT=8000, HANDLER=your/worker.py TYPE=image)
	@exec $(BIN)/python -m tests.local $(if $(HANDLER),--handler "$(HANDLER)" --type "$(TYPE)")

weather: $(INSTALLED) ## show or set trouble in the RunPod of `make run` (ORDERS="image slow=5", ORDERS=clear)
	@exec $(BIN)/twin weather $(ORDERS)

test: $(INSTALLED) ## every test; the SQL once more on Postgres 15 when one is installed (JOBS=2)
	@if .ci/chromium; then only=; else only='not browser'; echo "Going on without the browser tests."; fi; set -x; \
		$(BIN)/pytest $(SIDE_BY_SIDE) $${only:+-m "$$only"}
	@if $(BIN)/python -m tests.local.postgres $(OLDEST_POSTGRES); then set -x; \
		$(BIN)/pytest $(SIDE_BY_SIDE) --postgres=$(OLDEST_POSTGRES) $(ON_OLDEST); fi

check: $(INSTALLED) ## format, lint, types, import contract, SQL lint
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/squawk $(SQL)

peers: $(INSTALLED) ## worker-vllm's real handler behind the local RunPod (WORKER_VLLM=a clone of runpod-workers/worker-vllm)
	@TWIN_WORKER_VLLM="$(abspath $(WORKER_VLLM))" $(BIN)/pytest tests/local_runpod/peers/check_vllm.py

chaos: $(INSTALLED) ## kill workers and backends at random for longer (TWIN_CHAOS_SEED, _KILLS, _BACKEND_KILLS)
	@TWIN_CHAOS_KILLS=$${TWIN_CHAOS_KILLS:-40} TWIN_CHAOS_BACKEND_KILLS=$${TWIN_CHAOS_BACKEND_KILLS:-3000} \
		$(BIN)/pytest tests/chaos

mutants: $(INSTALLED) ## take away each guard of the ledger and name the test that misses it (MUTANTS="draw judge", JOBS=2)
	@exec $(BIN)/python -m tests.mutants $(MUTANTS)

bench: $(INSTALLED) ## how fast, beside a bare script and pgbench (BENCH_ARGS=--help, --profile, …)
	@exec $(BIN)/python -m tests.bench $(BENCH_ARGS)

bench-ledger: $(INSTALLED) ## how fast the money is, beside pgbench and pgledger (BENCH_ARGS=--help, --quick, …)
	@exec $(BIN)/python -m tests.bench.ledger $(BENCH_ARGS)

bench-fairness: $(INSTALLED) ## how long one person's crowd keeps others waiting, and what a claim costs
	@exec $(BIN)/python -m tests.bench.fairness

bench-inflight: $(INSTALLED) ## how soon ends are seen with 10,000 jobs in flight (BENCH_ARGS=--help, --quick, …)
	@exec $(BIN)/python -m tests.bench.inflight $(BENCH_ARGS)

migrate: $(INSTALLED) ## bring the database at DATABASE_URL up to date
	@exec $(BIN)/python -m migrations

up: ## the production image with compose.yaml; needs Docker and a filled .env
	docker compose up --build

lock: $(INSTALLED) ## choose versions anew and write both lock files
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv $(PIP_COMPILE) --group dev -o requirements.lock pyproject.toml
	$(BIN)/uv $(PIP_COMPILE) -o requirements-production.lock pyproject.toml

PIP_COMPILE := pip compile --quiet --upgrade --universal --generate-hashes --python-version 3.11 \
	--no-emit-index-url --no-emit-find-links --no-header

clean: ## remove .venv and caches; the data in .local stays
	rm -rf .venv .mypy_cache .ruff_cache .hypothesis .import_linter_cache build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): requirements.lock pyproject.toml
ifeq ($(strip $(PYTHON)),)
	@echo "Python 3.11 or newer is needed; python3 here is $$(python3 --version 2>&1 || echo absent)." >&2; exit 1
endif
	@echo "Installing into .venv with $$($(PYTHON) --version) (once, and when the requirements change) …"
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv || { rm -rf .venv; \
		echo "$(PYTHON) has no venv module; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --no-build-isolation --no-index -e .
	@touch $@

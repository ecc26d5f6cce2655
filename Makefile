# Pointsman: the verbs. `make` alone lists them.
PYTHON ?= python3
PORT ?= 8080
CONSOLE_PORT ?= 8081
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
MEMBERS := $(wildcard libs/*) $(wildcard services/*)
# Workers for pytest; beside each run engines, Envoy and the services.
WORKERS ?= auto
UV_VERSION := 0.13.9
# What carries the calls between the services under test: wire or grpcio.
RPC_TRANSPORT ?= wire
# Where benchmarks leave their figures.
BENCH_DIR ?= .bench
# Trust what the system trusts: company proxies present their own certificates.
export UV_SYSTEM_CERTS := 1
export POINTSMAN_TEST_TRANSPORT := $(RPC_TRANSPORT)

.DEFAULT_GOAL := help
.PHONY: help setup lock proto format check types test test-real contract e2e up down status logs images up-compose down-compose smoke bench bench-wire replay live

help: ## list the verbs
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(VENV)/.ready ## install everything into .venv

$(VENV)/.ready: requirements.lock $(addsuffix /pyproject.toml,$(MEMBERS))
	@test -x $(UV) || { $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=" >&2; exit 1; }; \
	  $(PYTHON) -m venv $(VENV) && $(BIN)/pip install -q --disable-pip-version-check uv==$(UV_VERSION); }
	@echo "installing the locked packages"
	@$(UV) pip sync -q --python $(BIN)/python --require-hashes requirements.lock
	@$(UV) pip install -q --python $(BIN)/python --no-deps $(addprefix -e ,$(MEMBERS))
	@touch $@

lock: ## resolve again and write requirements.lock
	$(UV) lock -q
	$(UV) export -q --all-packages --all-groups --no-emit-workspace --no-header --format requirements-txt -o requirements.lock

proto: setup ## generate the contracts from their .proto files
	$(BIN)/python libs/common/generate_contracts.py

format: setup ## rewrite the code in the house format
	$(BIN)/ruff check -q --fix --select I .
	$(BIN)/ruff format -q .

check: setup ## format, lint, imports, types, contracts unchanged
	$(BIN)/ruff format --check -q .
	$(BIN)/ruff check -q .
	$(BIN)/lint-imports --cache-dir .import_linter_cache
	$(BIN)/mypy
	$(BIN)/basedpyright
	$(BIN)/python libs/common/generate_contracts.py --check

test: setup ## every test: unit, contract and end to end (RPC_TRANSPORT=grpcio: on that transport)
	$(BIN)/pytest -n $(WORKERS)

contract: setup ## what any replacement layer must pass (X_UNDER_TEST=host:port, else our own)
	$(BIN)/pytest tests/contract

test-real: setup ## beside real vLLM engines, where there are any (POINTSMAN_REAL_VLLM, POINTSMAN_REAL_VLLM_MODEL)
	$(BIN)/pytest tests/real -rs

bench: setup ## time the hooks and the edge on this machine; numbers, no verdict
	@for bench in tests/load/bench_*.py; do echo "== $$bench"; $(BIN)/python $$bench; done

bench-wire: setup ## hops and the edge on libs/wire against grpc.aio, in one run: ratios, also in BENCH_DIR
	@mkdir -p $(BENCH_DIR)
	@$(BIN)/python libs/wire/benchmarks/bench_hop.py --json $(BENCH_DIR)/hop.json
	@$(BIN)/python tests/load/bench_edge.py --json $(BENCH_DIR)/edge.json
	@echo "written: $(BENCH_DIR)/hop.json $(BENCH_DIR)/edge.json"

replay: setup ## hold the default policy against its limits in virtual time (TRACES="FILE …", else generated)
	@$(BIN)/pointsman replay --judge $(TRACES)

live: setup ## play a trace in real time and compare with its replay (TRACE=FILE, else generated; LIVE="--load 0.7 …")
	@PYTHONPATH=tests $(BIN)/python tests/load/live_comparison.py $(TRACE) $(LIVE)

e2e: setup ## real Envoy, NATS and Redis with simulated engines
	$(BIN)/pytest -n $(WORKERS) tests/e2e

# Whichever Compose v2 there is: the plugin of the docker command, or a program of its own.
COMPOSE = $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)

up: setup ## the whole stack on this machine (PORT, CONSOLE_PORT; DETACH=1 returns when it is ready)
	@$(BIN)/pointsman up --port $(PORT) --console-port $(CONSOLE_PORT) $(if $(filter-out 0,$(DETACH)),--detach)

down: setup ## stop what `make up` started
	@$(BIN)/pointsman down

status: setup ## the parts of the running stack
	@$(BIN)/pointsman status

logs: setup ## what the parts write, as they write it
	@$(BIN)/pointsman logs --follow

images: ## one image a service
	$(COMPOSE) build

up-compose: ## the same stack as containers
	PORT=$(PORT) CONSOLE_PORT=$(CONSOLE_PORT) $(COMPOSE) up --detach --wait

down-compose: ## stop the containers
	$(COMPOSE) down --volumes

smoke: setup ## ask the running gateway what a client may ask
	@$(BIN)/pointsman smoke --url http://127.0.0.1:$(PORT)

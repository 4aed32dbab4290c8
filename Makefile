# Everything here starts from a fresh checkout: each target sets up .venv as far as it needs.

BIN := .venv/bin

.PHONY: help demo test bench bench-scale lint lock packages reference docs picture clean
.DEFAULT_GOAL := help

help: ## Say what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 13

demo: .venv/.runtime ## See pgstow at work on a PostgreSQL server of its own, in a minute
	@$(BIN)/python -m demo

test: .venv/.development .venv-docs/.complete ## Run all tests
	@tools/system-packages
	@tools/postgresql-versions
	@tools/terraform-providers
	@$(BIN)/python -m pytest -n 3 --dist loadfile

bench: .venv/.development ## Measure pgstow beside what people would use instead
	@tools/system-packages
	@tools/postgresql-versions
	@$(BIN)/python -m benchmarks $(ARGS)

bench-scale: .venv/.development ## Measure pgstow with many tables, large objects and backups
	@tools/system-packages
	@$(BIN)/python -m benchmarks.scale $(ARGS)

packages: .venv/.development ## Make a deb and an rpm in dist/, for this machine's Python and kind of processor
	@PYTHONPATH=. $(BIN)/python tools/packages.py dist

lint: .venv/.development ## Check style, types, and which package may import which
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

lock: .venv/.development ## Pin the newest versions that pyproject.toml allows
	$(BIN)/pip install --quiet uv
	$(COMPILE) pyproject.toml --extra demo --extra notify --extra report --output-file requirements.lock
	$(COMPILE) pyproject.toml --extra demo --extra notify --extra report --extra dev --extra bench --output-file requirements-dev.lock
	$(COMPILE) --group docs --output-file requirements-docs.lock

reference: .venv/.runtime ## Write the generated pages and schemas in docs/ anew, from the command line and the models
	@PYTHONPATH=. $(BIN)/python -m tools.reference

docs: .venv-docs/.complete ## Build the site of docs/ in build/docs
	@.venv-docs/bin/sphinx-build --fail-on-warning --keep-going --nitpicky --quiet -c docs . build/docs
	@echo "Open build/docs/index.html"

picture: .venv/.runtime ## Make docs/pictures/demo.svg and audit.png anew, after a change of the demo or of the audit's page
	@$(BIN)/python tools/picture.py docs/pictures/demo.svg
	@PYTHONPATH=.:tests $(BIN)/python -m tools.audit_picture docs/pictures/audit.png

clean: ## Remove what the other targets made
	rm -rf .venv .venv-docs .postgresql .terraform-tools demo-output dist build

COMPILE = $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
	--no-annotate --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

.venv/.runtime: requirements.lock pyproject.toml tools/venv
	@tools/venv requirements.lock
	@touch $@

.venv/.development: requirements-dev.lock pyproject.toml tools/venv
	@tools/venv requirements-dev.lock
	@touch $@ .venv/.runtime

.venv-docs/.complete: requirements-docs.lock tools/venv
	@tools/venv requirements-docs.lock .venv-docs
	@touch $@

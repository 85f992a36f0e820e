PYTHON ?= python3
BIN := .venv/bin
COVERED := timm_encmixer/ciphers/*,timm_encmixer/models/*,timm_encmixer/checkpoints/*,timm_encmixer/keys.py,timm_encmixer/files/*
WORKFLOWS := $(wildcard .github/workflows/*.yml)

.DEFAULT_GOAL := help
.PHONY: help setup format check types lint site schemas docs pictures ciphers models web test nightly coverage lowest bench demo dist

help:  ## Say what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

setup:  ## Make .venv with everything for development
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -e ".[test,dev,docs]"

format:  ## Rewrite the code in the house style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: types lint site schemas  ## Lint, types, directions of imports, the documents' site, and the repository's own files

types:  # it takes longest, so begins first where `make -j` has several at work
	$(BIN)/mypy $(MYPY_FLAGS)

lint:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

site:
	$(BIN)/python tests/check_site.py

schemas:
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows $(WORKFLOWS)
	$(BIN)/check-jsonschema --builtin-schema custom.github-workflows-require-timeout $(WORKFLOWS)
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms $(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff
	$(BIN)/pre-commit validate-config

docs:  ## Build the site in site/ and check its links, anchors and headings
	$(BIN)/python tests/check_site.py --out site

pictures:  ## Draw the pictures of README and docs
	$(BIN)/python examples/pictures.py
	$(BIN)/python examples/app_screenshots.py
	$(BIN)/python examples/security_figures.py --tables

ciphers:  ## Write what follows from the table of ciphers: the client's copy, tables in the documents
	$(BIN)/python tests/make_ciphers.py

models:  ## Examine all of timm's models; write docs/models.md
	$(BIN)/python tests/families/make_models.py

web:  ## Build the JavaScript client's bundle, and check its types (Node 20, npm)
	cd timm_encmixer/web/client && npm ci --ignore-scripts --no-audit --no-fund && npm run build && npm run check && npm test

test:  ## Run the tests, but for the nightly ones
	$(BIN)/pytest

nightly:  ## Run the nightly tests
	$(BIN)/pytest -m nightly

coverage:  ## Run the tests, and print the lines and branches that they leave out, first of five rooms
	$(BIN)/pytest --cov --cov-branch --cov-report=
	$(BIN)/coverage report --include="$(COVERED)" --skip-covered --show-missing
	$(BIN)/coverage report

lowest:  ## Put the lowest versions that pyproject.toml allows into .venv
	$(BIN)/pip install $(shell $(BIN)/python tests/lowest.py)

bench:  ## Print the benchmarks' ratios
	$(BIN)/python tests/benchmarks/bench_cipher.py
	$(BIN)/python tests/benchmarks/bench_checkpoint.py
	$(BIN)/python tests/benchmarks/bench_help.py
	$(BIN)/python tests/benchmarks/bench_mistakes.py
	$(BIN)/python tests/benchmarks/bench_dedup.py
	$(BIN)/python tests/benchmarks/bench_inference.py
	$(BIN)/python tests/benchmarks/bench_verify.py
	$(BIN)/python tests/benchmarks/bench_audit.py
	$(BIN)/python tests/benchmarks/bench_dataset.py
	$(BIN)/python tests/benchmarks/bench_client.py
	node timm_encmixer/web/client/bench.js
	$(BIN)/python tests/benchmarks/bench_browser.py

demo:  ## The whole story on bundled weights and images
	$(BIN)/encmixer demo

dist:  ## Build sdist and wheel, in dist/, and check what PyPI would say
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

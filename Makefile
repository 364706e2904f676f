# Every target makes its own .venv first. Nothing is installed outside of it.
PYTHON ?= python3
# uv reads UV_FIND_LINKS; a machine that offers wheels to pip offers them to uv as well.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
ifeq ($(strip $(UV_FIND_LINKS)),)
unexport UV_FIND_LINKS
endif

BIN := .venv/bin
READY := .venv/.ready
# Tools whose own dependencies are kept out of the development environment.
SUPPLY := .venv/supply/.ready

.PHONY: demo test check bench docs sbom audit
.DEFAULT_GOAL := demo

# A Hub of its own, a tiny Phi, the bot and the page, offline. ONCE=1 ends after the first round.
demo: $(READY)
	$(BIN)/phimill demo $(if $(ONCE),--once)

# In two processes: half of the time a test waits. A file's tests stay together, as they share what was built for them.
test: $(READY) $(SUPPLY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/docs.py --check
	$(BIN)/python scripts/threats.py
	$(BIN)/python scripts/locks.py
	$(BIN)/python -m pytest --collect-only -qq

bench: $(READY)
	$(BIN)/python -m benchmarks

docs: $(READY)
	$(BIN)/python scripts/docs.py

# What every locked environment holds, as CycloneDX, into dist/sbom.
sbom: $(READY) $(SUPPLY)
	$(BIN)/python scripts/sbom.py

# Asks PyPI whether a locked package has a known vulnerability; AUDIT="-s osv" asks OSV. What cannot be asked for fails.
# By name and version, for pip-audit takes hashes for all packages or for none.
audit: $(SUPPLY)
	for lock in requirements/*.txt converters/*/requirements.txt; do \
		echo "$$lock"; grep -o '^[a-z][^ ;]*==[^ ;]*' "$$lock" \
			| .venv/supply/bin/pip-audit --strict --disable-pip --no-deps $(AUDIT) -r /dev/stdin || exit 1; \
	done

$(SUPPLY): requirements/supply.txt $(READY)
	$(PYTHON) -m venv .venv/supply
	$(BIN)/uv pip install --python .venv/supply/bin/python --require-hashes -r requirements/supply.txt
	touch $(SUPPLY)

$(READY): requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv .venv
	sed -n '/^uv==/,/[^\\]$$/p' requirements/dev.txt > .venv/uv.txt
	$(BIN)/python -m pip install --quiet --require-hashes -r .venv/uv.txt
	$(BIN)/uv pip install --python $(BIN)/python --require-hashes -r requirements/dev.txt
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --no-build-isolation -e .
	touch $(READY)

# Every target makes its own .venv first. Nothing is installed outside of it.
PYTHON ?= python3
# uv reads UV_FIND_LINKS; a machine that offers wheels to pip offers them to uv as well.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
ifeq ($(strip $(UV_FIND_LINKS)),)
unexport UV_FIND_LINKS
endif

BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test check bench docs
.DEFAULT_GOAL := demo

# A Hub of its own, a tiny Phi, the bot and the page, offline. ONCE=1 ends after the first round.
demo: $(READY)
	$(BIN)/phimill demo $(if $(ONCE),--once)

# In two processes: half of the time a test waits. A file's tests stay together, as they share what was built for them.
test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/docs.py --check
	$(BIN)/python scripts/threats.py
	$(BIN)/python -m pytest --collect-only -qq

bench: $(READY)
	$(BIN)/python -m benchmarks

docs: $(READY)
	$(BIN)/python scripts/docs.py

$(READY): requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv .venv
	sed -n '/^uv==/,/[^\\]$$/p' requirements/dev.txt > .venv/uv.txt
	$(BIN)/python -m pip install --quiet --require-hashes -r .venv/uv.txt
	$(BIN)/uv pip install --python $(BIN)/python -r requirements/dev.txt
	$(BIN)/uv pip install --python $(BIN)/python --no-deps -e .
	touch $(READY)

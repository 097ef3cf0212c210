# New here? Run make repro, then make test. Each builds .venv from requirements.lock first.
PYTHON ?= python3
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DVC_NO_ANALYTICS := true
export UV_SYSTEM_CERTS := true

.PHONY: repro test test-long lint bench bench-gpu check-repro record docs offline-plots lock

repro: $(VENV)/installed
	dvc repro
	@echo && cat data/report/verdict.txt && echo "The page: data/report/index.html"

# One process per core. The tests of a file run in one process, because they share its fixtures.
PYTEST := pytest -n auto --dist loadfile --no-loadscope-reorder

test: $(VENV)/installed
	$(PYTEST)

# Long tests, for a release: hundreds of kills, thousands of damaged files, the presets trained in full.
test-long: $(VENV)/installed
	$(PYTEST) -m long

lint: $(VENV)/installed
	ruff format --check .
	ruff check .
	mypy --strict ffdi stages bench
	lint-imports

bench: $(VENV)/installed
	python bench/extraction.py
	python bench/training.py
	python bench/probe.py
	python bench/endtoend.py

# Nine minutes on one GPU. To run it without dvc: PYTHONPATH=. python bench/gpu.py
bench-gpu: $(VENV)/installed
	python bench/gpu.py

check-repro: $(VENV)/installed
	python .ci/check_repro.py $(KEEP)

# For maintainers, before figures are committed: records this machine's type, the test scores and README's table.
record: $(VENV)/installed
	dvc repro
	python .ci/check_repro.py --record

# The table of docs/params.md, from the declarations of the settings.
docs: $(VENV)/installed
	python -m ffdi.params.document

offline-plots: $(VENV)/installed
	python .dvc/plots/offline.py

# uv installs the lock, not pip: it resolves nothing and takes the builds that PyPI has. Bytecode is compiled once here.
# If PYTHONDONTWRITEBYTECODE is set, every stage would otherwise compile torch again: 10 s instead of 3.
$(VENV)/installed: requirements.lock setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 14) else f"ffdi needs Python 3.10 to 3.14, {sys.executable} is {v[0]}.{v[1]}: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' requirements.lock)"
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(VENV)/bin/uv pip install --quiet --compile-bytecode -r requirements.lock
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(VENV)/bin/uv pip install --quiet --no-deps --editable .
	@touch $@

lock: $(VENV)/installed
	uv pip compile --quiet --universal --python-version 3.10 --upgrade --extra pipeline --extra dev setup.cfg -o requirements.lock

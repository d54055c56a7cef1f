# make run    environment, installation, the whole pipeline on the built-in images
# make test   environment, installation, lint, types and tests
# make viz    the pipeline and its results in a browser
# A second call installs nothing. Another Python: make run PYTHON=/path/to/python3.12

UV := uv==0.13.9
STAMP := .venv/.installed
export DO_NOT_TRACK := 1

find_python = for p in $(PYTHON) python3.12 python3.11 python3 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done

.PHONY: run smoke test lint viz lock clean

run: $(STAMP)
	@.venv/bin/kedro run
	@echo
	@echo "Results, in data/08_reporting/:"
	@echo "  sample_grid.png     what each model generates, beside real images"
	@echo "  evaluation.json     how far that is from real images"
	@echo "  stage_samples.png   how the samples developed in training"
	@echo "The models are in data/06_models/. Look at everything with: make viz"

smoke: $(STAMP)
	@.venv/bin/kedro run --env=smoke

test: lint
	@.venv/bin/python -m pytest

lint: $(STAMP)
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

viz: $(STAMP)
	@.venv/bin/kedro viz run

# names and versions for Python 3.11 and later on every platform
lock: $(STAMP)
	@.venv/bin/uv pip compile --universal --python-version 3.11 --extra dev pyproject.toml \
		--no-emit-index-url --no-header --no-annotate --quiet --output-file requirements.lock

clean:
	rm -rf .venv

$(STAMP): requirements.lock pyproject.toml
	@found=$$($(find_python)); \
	if [ -z "$$found" ]; then \
		echo "lct_pipeline needs Python 3.11 or later and found none: install one, or name it with PYTHON=/path/to/python3.12" >&2; \
		exit 1; \
	fi; \
	echo "Installing into .venv with $$found (once, a minute or a few)"; \
	"$$found" -m venv .venv || { echo "$$found cannot make environments; on Debian and Ubuntu install python3-venv" >&2; exit 1; }
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check $(UV)
	@VIRTUAL_ENV=$(CURDIR)/.venv .venv/bin/uv pip install --quiet --requirement requirements.lock
	@VIRTUAL_ENV=$(CURDIR)/.venv .venv/bin/uv pip install --quiet --no-deps --editable .
	@touch $(STAMP)

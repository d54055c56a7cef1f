# make run    environment, installation, the whole pipeline on the built-in images
# make test   environment, installation, lint, types and tests, these in two processes: make test WORKERS=4
# make viz    the pipeline and its results in a browser; of another run or recipe: make viz RUN=name ENV=recipe
# make docs   the documentation, into site/index.html
# make airflow-dags   writes the DAGs of a schedule to airflow_dags/ (docs/schedule.md)
# make test-airflow   runs them in an Airflow of their own: some minutes
# make test-mlflow    runs the tests of MLflow, in an environment of their own
# A second call installs nothing. Another Python: make run PYTHON=/path/to/python3.12
# Another torch, such as the small one for CPUs: make run TORCH=cpu, or whatever uv's --torch-backend takes (cu126,
# auto); later calls keep it, and make run TORCH= makes the environment anew with that of the lock

UV := uv==0.13.9
WORKERS := 2
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' src/lct_pipeline/__init__.py)
STAMPS := $(wildcard .venv/.installed*)
TORCH ?= $(patsubst .venv/.installed-%,%,$(filter-out .venv/.installed,$(STAMPS)))
STAMP := .venv/.installed$(addprefix -,$(TORCH))
# for another torch: the libraries of CUDA that are left out are of the lock's
WITHOUT_CUDA := sed -E '/^(cuda|nvidia|triton)[-=]/d' requirements.lock
AIRFLOW := .venv-airflow/.installed
export DO_NOT_TRACK := 1

# what is typed, and the path of the project, goes to a command as one word, whatever is in it; and scripts of
# .venv, which hold that path, are called as modules
KEDRO := .venv/bin/python -m kedro
QUOTED_PATH := .venv/bin/python -c 'import os, urllib.parse; print(urllib.parse.quote(os.getcwd()))'

find_python = for p in "$$PYTHON" python3.12 python3.11 python3 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done

.PHONY: run smoke test lint viz docs docs-links lock clean airflow-dags test-airflow test-mlflow

run: $(STAMP)
	@$(KEDRO) run

smoke: $(STAMP)
	@$(KEDRO) run --env=smoke

# Each worker has one thread and takes whole files, in the order of tests/conftest.py. Bytecode is written, or each
# process that a test starts would compile the sources again.
test: lint
	@env -u PYTHONDONTWRITEBYTECODE .venv/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: $(STAMP)
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/python -m mypy

viz: $(STAMP)
	@$(KEDRO) viz run $${ENV:+"--env=$$ENV"} $${RUN:+"--params=run_id=$$RUN"}

docs: $(STAMP)
	@.venv/bin/python docs/_generate/parameter_tables.py
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict --quiet
	@echo "The documentation is in site/index.html. With a search: .venv/bin/mkdocs serve"

# asks for every web page that is linked to; needs a network
docs-links: $(STAMP)
	@.venv/bin/python docs/_generate/external_links.py

airflow-dags: $(STAMP)
	@$(KEDRO) airflow create --env=airflow --jinja-file=conf/airflow/dag.j2 --group-by=namespace \
		--pipelines=__default__,train,combine,evaluate --params=project_root="$$($(QUOTED_PATH))",version=$(VERSION)

test-airflow: $(STAMP) $(AIRFLOW)
	@.venv/bin/python -m pytest tests/airflow/running_dags.py --timeout=900 --log-cli-level=INFO

# MLflow asks for older libraries than the project: they stand before those in an environment of its own
test-mlflow: $(STAMP)
	@.venv/bin/uv venv --quiet --allow-existing --python .venv/bin/python .venv-mlflow
	@VIRTUAL_ENV="$$PWD"/.venv-mlflow .venv/bin/uv pip install --quiet --compile-bytecode "mlflow>=3.0"
	@packages='import sysconfig; print(sysconfig.get_path("purelib"))'; \
	.venv/bin/python -c "$$packages" > "$$(.venv-mlflow/bin/python -c "$$packages")/project.pth"
	@.venv-mlflow/bin/python -m pytest tests/runs/test_mlflow.py

# names and versions for Python 3.11 and later on every platform
lock: $(STAMP)
	@.venv/bin/uv pip compile --universal --python-version 3.11 --extra dev pyproject.toml \
		--no-emit-index-url --no-header --no-annotate --quiet --output-file requirements.lock
	@.venv/bin/uv pip compile --universal --python-version 3.11 conf/airflow/requirements.in \
		--no-emit-index-url --no-header --no-annotate --quiet --output-file conf/airflow/requirements.lock

clean:
	rm -rf .venv .venv-airflow .venv-mlflow

$(AIRFLOW): conf/airflow/requirements.lock | $(STAMP)
	@echo "Installing Airflow into .venv-airflow (once)"
	@.venv/bin/uv venv --quiet --allow-existing --python .venv/bin/python .venv-airflow
	@VIRTUAL_ENV="$$PWD"/.venv-airflow .venv/bin/uv pip install --quiet --compile-bytecode --requirement conf/airflow/requirements.lock
	@touch $(AIRFLOW)

$(STAMP): requirements.lock pyproject.toml
	@found=$$($(find_python)); \
	if [ -z "$$found" ]; then \
		echo "lct_pipeline needs Python 3.11 or later and found none: install one, or name it with PYTHON=/path/to/python3.12" >&2; \
		exit 1; \
	fi; \
	echo "Installing into .venv with $$found (once, a minute or a few)"; \
	"$$found" -m venv $(if $(filter-out $(STAMP),$(STAMPS)),--clear) .venv || { echo "$$found cannot make environments; on Debian and Ubuntu install python3-venv" >&2; exit 1; }
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check $(UV)
	@$(if $(TORCH),$(WITHOUT_CUDA) |) VIRTUAL_ENV="$$PWD"/.venv .venv/bin/uv pip install --quiet --compile-bytecode \
		--requirement $(if $(TORCH),- --torch-backend=$(TORCH),requirements.lock)
	@VIRTUAL_ENV="$$PWD"/.venv .venv/bin/uv pip install --quiet --no-deps --editable .
	@touch $(STAMP)

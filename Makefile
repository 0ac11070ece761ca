# `make help` lists what there is. PYTHON names the interpreter that .venv is made with; LOCK the releases that
# are installed in it (`make install LOCK=`: the newest that pyproject.toml allows).
PYTHON = python3
LOCK = requirements-lock.txt
VENV = .venv
RUN = $(VENV)/bin/python
# Stands for an environment that fits the files it was made from.
READY = $(VENV)/.deps-installed
PROTOC_VENV = build/protoc
# Tests often wait for a process that they started.
TEST_PROCESSES = $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
PROTOS = $(wildcard ffn/utils/*.proto ffn/inference/*.proto)

.DEFAULT_GOAL = help
.PHONY: help install demo test test-slow fuzz kill soak compat lint types bench lock \
	licences docs pictures protos clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /make \1: /p' Makefile

$(READY): requirements.txt pyproject.toml $(LOCK)
	$(PYTHON) -m venv $(VENV)
ifdef LOCK
	$(RUN) -m pip install --quiet --require-hashes --requirement $(LOCK)
	$(RUN) -m pip install --quiet --no-deps --no-build-isolation --editable .
else
	$(RUN) -m pip install --quiet --editable '.[dev]'
endif
	touch $@

install: $(READY)  ## sets up .venv with the project and what it needs

demo: $(READY)  ## the four stages on a generated sample, with a report in demo/
	$(RUN) -m ffn.demo --output demo

# Without --max-worker-restart, a process that crashes may leave the others waiting for ever. Bytecode is kept, since hundreds
# of processes are started.
test: $(READY)  ## the fast tests, in a process more than there are processors, up to four
	PYTHONDONTWRITEBYTECODE= TF_FORCE_GPU_ALLOW_GROWTH=true XLA_PYTHON_CLIENT_PREALLOCATE=false \
	$(RUN) -m pytest -n $(TEST_PROCESSES) --maxprocesses 4 --dist loadfile --no-loadscope-reorder \
	--max-worker-restart=0

test-slow: $(READY)  ## the long tests: real data, more schedulers and signals
	$(RUN) -m pytest -m slow

fuzz: $(READY)  ## CASES (2000) mutated files for everything that reads files; SEED (0) chooses others
	$(RUN) -m tests.fuzz --cases $(or $(CASES),2000) --jobs $(or $(JOBS),1) --seed $(or $(SEED),0)

lint: $(READY) types  ## style and types: nothing is changed
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: $(READY)  ## annotations, checked with mypy
	$(RUN) -m mypy

bench: $(READY)  ## the measurements of doc/performance.md
	@set -e; for file in benchmarks/bench_*.py; do \
	  echo "== $$file"; $(RUN) -m benchmarks.$$(basename $$file .py); done

kill: $(READY)  ## every stage killed at random and started again, twenty times (an hour)
	$(RUN) -m benchmarks.kills

soak: $(READY)  ## memory, threads and files over an hour of inference and training
	$(RUN) -m benchmarks.soak

compat: $(READY)  ## the fast tests with the oldest and newest releases, on PYTHONS (3.11 3.12 3.13)
	$(RUN) -m pip install --quiet uv
	$(RUN) -m benchmarks.compat --pythons $(or $(PYTHONS),3.11 3.12 3.13) --versions $(or $(VERSIONS),lowest newest) -- $(TESTS)

# For every Python and platform.
lock: $(READY)  ## requirements-lock.txt: the newest releases that pyproject.toml allows, with hashes
	$(RUN) -m pip install --quiet uv
	$(RUN) -m uv pip compile --quiet --universal --upgrade --generate-hashes --no-annotate --extra dev --python-version 3.11 \
	  --custom-compile-command 'make lock' --output-file requirements-lock.txt pyproject.toml

licences: $(READY)  ## the licence of every package in the environment
	$(RUN) -m pip install --quiet pip-licenses
	$(RUN) -m piplicenses --from=mixed --order=license --format=markdown

docs: $(READY)  ## the manual and the API as HTML in build/docs; warnings are errors
	$(RUN) -m pip install --quiet --editable '.[docs]'
	$(RUN) -m sphinx -W --keep-going -q -b html -d build/doctrees doc build/docs

pictures: demo  ## the pictures in README.md and doc/, from the demo's result
	cp demo/overview.png doc/demo.png
	$(RUN) -m ffn animate --request demo/request.pbtxt --start 70,63,56 \
	  --bounding_box 'start { x:16 y:24 z:30 } size { x:90 y:72 z:56 }' \
	  --max_frames 60 --output doc/flood.gif
	$(RUN) -m ffn augmentations --output doc/augmentations.png

protos: $(PROTOC_VENV)/.ready  ## ffn/utils/protos.binpb and the .pyi files from the .proto files
	$(PROTOC_VENV)/bin/python -m grpc_tools.protoc --proto_path=. --pyi_out=. --include_imports \
	  --descriptor_set_out=ffn/utils/protos.binpb $(PROTOS)

# The compiler has an environment of its own, so that it does not choose the protobuf that runs.
$(PROTOC_VENV)/.ready:
	$(PYTHON) -m venv $(PROTOC_VENV)
	$(PROTOC_VENV)/bin/python -m pip install --quiet grpcio-tools
	touch $@

clean:  ## removes .venv, the demo's results and everything that was built
	rm -rf $(VENV) build dist demo *.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

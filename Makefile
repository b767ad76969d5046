# make setup | quickstart | quickstart-vl | mini-pretrain | curate-mini | dry-run | test | test-slow | check-ascend | lint | docs | sbom | bench
#
# The environment of a CPU machine. Where pip's index serves CUDA builds of torch, name one that serves CPU builds:
#   make setup TORCH_INDEX="--index-url https://download.pytorch.org/whl/cpu"

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
TORCH_INDEX ?=
BIN := .venv/bin
PIP := $(BIN)/python -m pip install -q --no-deps
HASHED := $(PIP) --require-hashes
LOCK := requirements/cpu.lock
FOR_PIP := /^\# By pip alone/,$$
# A lock may want a file that its index takes long to send.
export UV_HTTP_TIMEOUT ?= 180

.PHONY: setup quickstart quickstart-vl mini-pretrain curate-mini dry-run test test-slow check-ascend lint format docs sbom reference bench
.DELETE_ON_ERROR:

setup: .venv/.packages .venv/.project .venv/.kernels .venv/.cache

# What is not of the locks' hashes is refused, by name. uv fetches the wheels in parallel, a quarter of pip's time; pip
# installs what is built here, with what the locks have, and what declares Python 3.12 and runs on 3.11 too.
# Both compile what they install: where PYTHONDONTWRITEBYTECODE is set, each process would compile torch and vllm anew.
.venv/.packages: $(LOCK) requirements/build.lock
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(HASHED) -r requirements/build.lock
	sed -n '/^torch==/p' $(LOCK) | $(HASHED) $(TORCH_INDEX) -r /dev/stdin
	sed '/^torch==/d; $(FOR_PIP)d' $(LOCK) \
	  | $(BIN)/uv pip install -q --require-hashes --no-build --compile-bytecode --python $(BIN)/python --no-deps -r -
	sed -n '$(FOR_PIP)p' $(LOCK) | $(HASHED) --no-build-isolation --ignore-requires-python -r /dev/stdin
	touch $@

.venv/.project: .venv/.packages pyproject.toml
	$(PIP) --no-build-isolation -e .
	touch $@

# Kernels for this processor; without a compiler the references in torch are used.
.venv/.kernels: .venv/.project $(shell find pangu_rl/accelerators -name '*.cpp' -o -name '*.h')
	$(BIN)/python -m pangu_rl.accelerators.native
	touch $@

.venv/.cache: .venv/.kernels
	$(BIN)/pangu-rl curate smollm2
	$(BIN)/pangu-rl curate text-prompts
	$(BIN)/pangu-rl curate tiny-pangu-vl
	$(BIN)/pangu-rl curate easy-vqa
	touch $@

quickstart: setup
	$(BIN)/pangu-rl grpo --config configs/quickstart/grpo_text.yaml

quickstart-vl: setup
	$(BIN)/pangu-rl grpo --config configs/quickstart/grpo_vl.yaml
	$(BIN)/pangu-rl eval --config configs/eval/easy_vqa.yaml \
	  model.path=$$(ls -d runs/grpo_vl/checkpoints/step_*/hf | tail -1)

mini-pretrain: setup
	$(BIN)/pangu-rl curate mini-corpus
	$(BIN)/pangu-rl curate mini-pangu-vl
	$(BIN)/pangu-rl pipeline --config configs/pipeline/mini_pretrain.yaml
	$(BIN)/python -m benchmarks.learning.mini_pretrain runs/mini_pretrain
	$(BIN)/python -m benchmarks.learning.stage_blocks runs/mini_pretrain

# The filters of the papers that need no model, on the mini-corpus; runs/curate_mini_corpus/report.html is to be looked at.
curate-mini: setup
	$(BIN)/pangu-rl curate mini-corpus
	$(BIN)/pangu-rl curate --config configs/curate/mini_corpus.yaml

dry-run: setup
	$(BIN)/pangu-rl curate few-rows
	$(BIN)/pangu-rl curate mini-pangu-vl
	$(BIN)/pangu-rl pipeline --config configs/pipeline/mindvl_8b.yaml --override-set configs/overrides/mindvl_miniature.yaml
	$(BIN)/pangu-rl pipeline --config configs/pipeline/openpangu_7b.yaml --override-set configs/overrides/openpangu_miniature.yaml

# Tests of whole runs and of numbers have the machine to themselves; the others go side by side. What is skipped is told,
# with the reason: the page of `view` is tried where a Chromium is.
test: setup .venv/.browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -rs -m "not slow" -n 2 --dist loadfile tests/unit tests/contracts tests/security tests/faults tests/ascend
	$(BIN)/python -m pytest -q -rs -m "not slow" tests/e2e tests/numerics

.venv/.browser: requirements/browser.lock .venv/.packages
	$(BIN)/uv pip install -q --require-hashes --no-build --no-deps --python $(BIN)/python -r $<
	touch $@

test-slow: setup
	$(BIN)/python -m pytest -q -m slow

# Downloads wheels as test data, 215 MB the first time, and installs none of them. Needs a C compiler.
check-ascend: setup
	$(BIN)/python -m tests.ascend

lint: .venv/.packages docs sbom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The site, in site/; a link that leads nowhere or a page that is in no menu ends it.
docs: .venv/docs/.packages
	NO_MKDOCS_2_WARNING=1 .venv/docs/bin/mkdocs build --strict --quiet

# Every installed package with its version, licence and what it stands on, as CycloneDX.
sbom: .venv/.project .venv/docs/.packages
	.venv/docs/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o sbom.json .venv

.venv/docs/.packages: requirements/docs.lock .venv/.packages
	$(PYTHON) -m venv --without-pip .venv/docs
	$(BIN)/uv pip install -q --require-hashes --no-deps --python .venv/docs/bin/python -r $<
	touch $@

# docs/settings.md, from the docstrings of the schemas.
reference: setup
	$(BIN)/python -m pangu_rl.config.pages.reference docs/settings.md

format: .venv/.packages
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/python -m benchmarks.online.grpo_step

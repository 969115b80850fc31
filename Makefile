# make demo | test | check | bench | space. Everything runs in .venv, which is made when it is needed.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check bench space clean

demo: .venv/demo
	$(BIN)/gpt-kit quickstart

test: .venv/dev
	$(BIN)/python -m pytest -n 2

check: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/dev
	$(BIN)/python benchmarks/parity_transformers.py
	$(BIN)/python benchmarks/train_step_cpu.py
	$(BIN)/python benchmarks/shakespeare_char_cpu.py
	$(BIN)/python benchmarks/prepare_corpus.py
	$(BIN)/python benchmarks/loader_and_saving.py
	$(BIN)/python benchmarks/plan_against_run.py
	$(BIN)/python benchmarks/step_memory.py
	$(BIN)/python benchmarks/evaluation.py
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt trl ctranslate2
	$(BIN)/python benchmarks/finetune_cpu.py
	$(BIN)/python benchmarks/decode_cpu.py

# A folder to push to a Hugging Face Space as it is: hf upload NAME/gpt-kit build/space . --repo-type space
space:
	rm -rf build/space
	mkdir -p build/space
	cp -r space/. src pyproject.toml constraints.txt LICENSE build/space
	find build/space -name __pycache__ -prune -exec rm -rf {} +

.venv/bin/python:
	$(PYTHON) -m venv .venv

# constraints.txt pins the tested set; without it pip would take the newest torch, with gigabytes of CUDA libraries.
.venv/demo: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

.venv/dev: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@ .venv/demo

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

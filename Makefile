# Every target makes .venv first and installs into it what is missing: each works as the first command in a clone.

PYTHON ?= python3
# What makes .venv: Python with its pip, or, faster and with settings of its own, uv: make UV=uv
UV ?=
# Neither is for what tests start: each process would compile all of it again, each `make test` have these arguments.
unexport PYTHONDONTWRITEBYTECODE ARGS
# Tests wait now and then, so three processes are right for two processors.
PARALLEL = --numprocesses 3 --dist loadfile --no-loadscope-reorder

.PHONY: help demo cluster test test-fast test-all coverage lint format golden bench bench-docs pictures docs dist deb release-check clean

help:
	@echo 'make demo        the lines of a log through a pipeline of generated daemons; INPUT=FILE for another log'
	@echo 'make cluster     two daemons on queues in a database, whose server dies'
	@echo 'make test        all tests, three files at a time; PIPER_REQUIRE=systemd,... makes skips failures'
	@echo 'make test-fast   the tests that take no more than a second or so each'
	@echo 'make coverage    all tests, one at a time, and what of the runtime they reach'
	@echo 'make test-all    the same with more: every three answers of the template, each version with each answer, longer runs'
	@echo 'make lint        check style, format and types'
	@echo 'make format      format the code'
	@echo 'make golden      write anew what the template makes, after a change to it; git diff shows what that does'
	@echo 'make bench       measure the runtime beside others; ARGS=--help for its options'
	@echo 'make pictures    the pictures of docs/, from the real programs'
	@echo 'make docs        the documentation site, in build/site; a link that leads nowhere ends it'
	@echo 'make bench-docs  the figures of docs/performance.md, from docs/performance.json'
	@echo 'make dist        the wheel and the source archive of a release, checked'
	@echo 'make deb         a Debian package of piperctl with all that it needs, in dist/'
	@echo 'make release-check  do versions, changelog, releases.toml and migrations agree?'
	@echo 'make clean       remove what was installed and built'

demo: .venv/.made
	@.venv/bin/python tools/demo.py $${INPUT:+"$$INPUT"}

cluster: .venv/.made
	@.venv/bin/python tools/cluster.py

test: .venv/.made
	.venv/bin/pytest $(PARALLEL) $(ARGS)

coverage: .venv/.made
	@.venv/bin/coverage erase
	.venv/bin/coverage run -m pytest $(ARGS)
	@.venv/bin/coverage combine --quiet
	@.venv/bin/coverage report

test-fast: .venv/.made
	.venv/bin/pytest -m "not slow" $(PARALLEL) $(ARGS)

test-all: .venv/.made
	PIPER_ALL=1 $(MAKE) test

lint: .venv/.made
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/zizmor --quiet --offline --pedantic .github

format: .venv/.made
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

golden: .venv/.made
	.venv/bin/python tools/golden.py

bench: .venv/.made
	.venv/bin/python -m benchmarks $(ARGS)

release-check: .venv/.made
	@.venv/bin/python tools/release_check.py

# What a release publishes.
dist: .venv/.made
	rm -rf dist
	.venv/bin/python -m build --quiet --outdir dist
	.venv/bin/twine check --strict dist/*
	.venv/bin/check-wheel-contents dist/*.whl

deb: dist
	.venv/bin/python tools/debian.py

docs: .venv/.made
	.venv/bin/python tools/site.py

pictures: .venv/.made
	.venv/bin/python tools/pictures.py

bench-docs: .venv/.made
	.venv/bin/python -m benchmarks.page

clean:
	rm -rf .venv .bench build dist runtime/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.*
	find . -name __pycache__ -type d -exec rm -rf {} +

.venv/.made: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "$(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=...")'
	@echo "Making .venv with $$($(PYTHON) --version)"
	@$(if $(UV),"$(UV)" venv --quiet --clear --seed --python $(PYTHON),$(PYTHON) -m venv) .venv
	@$(if $(UV),"$(UV)" pip install --quiet --python .venv,.venv/bin/pip install --quiet --quiet --disable-pip-version-check) --editable '.[dev]'
	@touch $@

# Every command builds the environment it needs; see tools/environments.py.
# PYTHON: any Python 3.7 or later, to start from.
PYTHON ?= python3
RUN = $(PYTHON) tools/environments.py run
export PYTHONDONTWRITEBYTECODE = 1

.PHONY: help demo test quick test-versions passes-update check format support reference bench testdata digests testdata-tf2 testdata-tf215 ops \
	first-versions package-ops replacements survey survey-layers clean

help:
	@echo "make demo      detect, convert, load and fine-tune the modules in testdata/"
	@echo "make test      the whole suite, in every TensorFlow; LEGS=tf221 for one of"
	@echo "               tf115-graph tf115-eager tf215 tf221 exporters; ARGS='-k detector' for pytest"
	@echo "make quick     a verdict in two minutes: what needs no TensorFlow, and a few modules"
	@echo "               in TensorFlow 2.21 and 1.15"
	@echo "make test-versions  a part of the suite, in every second TensorFlow from 2.4 to 2.20;"
	@echo "               LEGS=tf2.8.4 for one of them"
	@echo "make passes-update  write the expected texts in tests/passes/ anew; ARGS=variables for one folder"
	@echo "make check     lint, types, wheel against tree, support table, reference"
	@echo "make format    format, and apply the lint's own fixes"
	@echo "make support   after make test: write its results into the support table"
	@echo "make reference  write docs/reference.md from signatures and docstrings"
	@echo "make bench     the ratios that the design promises, measured"
	@echo "make testdata  write the modules in testdata/ anew, with TensorFlow 1.15"
	@echo "make replacements  write the graphs that replace some of the ops that are gone"
	@echo "make digests   write down the bytes that conversions have, after a change on purpose"
	@echo "make testdata-tf2  write the models of testdata/tf221 anew, with TensorFlow 2.21"
	@echo "make testdata-tf215  write the TF1 formats of testdata/tf215 anew, with 2.15"
	@echo "make ops       write the op lists of TensorFlow 1.15, 2.15 and 2.21 anew"
	@echo "make first-versions  write the list of the TensorFlow that first had each op"
	@echo "make package-ops  write the list of the packages that have ops of their own anew"
	@echo "make survey    which ops of TensorFlow 1.15 are gone from TensorFlow 2"
	@echo "make survey-layers  which layers of TensorFlow 2.21 run in 1.15; ARGS=--write records anew"
	@echo "make clean     remove build/ and caches; environments stay, see below"
	@echo
	@echo "Environments are shared by all clones: $${HUB_COMPAT_ENVS:-~/.cache/hub_compat-envs}"

demo:
	@PYTHONPATH="$(CURDIR)" TF_CPP_MIN_LOG_LEVEL=$${TF_CPP_MIN_LOG_LEVEL:-2} \
	$(RUN) tf221 examples/demo.py

test:
	@$(PYTHON) tools/run_tests.py --legs "$(LEGS)" -- $(ARGS)

quick:
	@$(PYTHON) tools/run_tests.py --quick -- $(ARGS)

test-versions:
	@$(PYTHON) tools/run_tests.py --legs "$(or $(LEGS),versions)" -- $(ARGS)

passes-update:
	@PYTHONPATH="$(CURDIR)" TF_CPP_MIN_LOG_LEVEL=$${TF_CPP_MIN_LOG_LEVEL:-2} \
	$(RUN) tf221 tests/passes/cases.py $(ARGS)

check:
	@$(PYTHON) tools/check.py

format:
	@$(RUN) tools -m ruff check --fix-only --quiet .
	@$(RUN) tools -m ruff format --quiet .

support:
	@$(PYTHON) tools/support_table.py

reference:
	@$(PYTHON) tools/make_reference.py

bench:
	@PYTHONPATH="$(CURDIR)" TF_CPP_MIN_LOG_LEVEL=$${TF_CPP_MIN_LOG_LEVEL:-2} \
	$(RUN) tf221 benchmarks/run.py $(ARGS)

testdata:
	@PYTHONPATH="$(CURDIR)" TF_CPP_MIN_LOG_LEVEL=$${TF_CPP_MIN_LOG_LEVEL:-2} \
	$(RUN) tf115 testdata/scripts/make_testdata.py $(ARGS)
	@# What is not one of the modules, when all are asked for.
	@$(if $(ARGS),,PYTHONPATH="$(CURDIR)" $(RUN) tf115 testdata/scripts/record_training.py)
	@$(if $(ARGS),,PYTHONPATH="$(CURDIR)" $(RUN) tf115 testdata/scripts/random_programs.py)
	@$(if $(ARGS),,PYTHONPATH="$(CURDIR)" $(RUN) tf115 testdata/scripts/random_signatures.py)
	@$(if $(ARGS),,PYTHONPATH="$(CURDIR)" $(RUN) tf115 testdata/scripts/random_tables.py)
	@$(if $(ARGS),,PYTHONPATH="$(CURDIR)" $(RUN) tf115 testdata/scripts/random_writes.py)

digests:
	@PYTHONPATH="$(CURDIR)" TF_CPP_MIN_LOG_LEVEL=2 $(RUN) tf221 testdata/scripts/make_digests.py

testdata-tf2:
	@PYTHONPATH="$(CURDIR)" TF_CPP_MIN_LOG_LEVEL=$${TF_CPP_MIN_LOG_LEVEL:-2} \
	$(RUN) tf221 testdata/scripts/tf221_models.py $(ARGS)
	@$(if $(ARGS),,PYTHONPATH="$(CURDIR)" $(RUN) tf221 testdata/scripts/tf221_lookups.py)
	@$(if $(ARGS),,PYTHONPATH="$(CURDIR)" $(RUN) tf221 testdata/scripts/tf221_hub_module.py)
	@$(if $(ARGS),,PYTHONPATH="$(CURDIR)" $(RUN) tf221 testdata/scripts/tf221_rules.py)

testdata-tf215:
	@PYTHONPATH="$(CURDIR)" $(RUN) tf215 testdata/scripts/tf215_models.py $(ARGS)

ops:
	@$(RUN) tf115 tools/make_op_list.py
	@$(RUN) tf215 tools/make_op_list.py
	@$(RUN) tf221 tools/make_op_list.py

replacements:
	@$(RUN) tf115 tools/make_replacements.py

first-versions:
	@$(RUN) tf221 tools/make_first_versions.py

package-ops:
	@PYTHONPATH="$(CURDIR)" $(RUN) tf221 tools/make_package_ops.py

survey:
	@$(PYTHON) tools/survey_ops.py

survey-layers:
	@$(PYTHON) tools/survey_layers.py $(ARGS)

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

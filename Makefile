# The commands of this repository; `make help` lists them.
# Variables: PYTHON (the interpreter to build on), ARGS (for `fairstream demo` and benchmarks), PYTEST_ARGS,
# COV=no (no coverage), JOBS (test processes side by side; 0: none but pytest's own), SEED and KILLS (for chaos),
# SECONDS (how long bench-recovery looks at memory).

PYTHON ?= python3
ARGS ?=
PYTEST_ARGS ?=
COV ?= yes
JOBS ?= 2
SEED ?= 1
KILLS ?= 50
SECONDS ?= 600

BUILD := .build
DEMO_VENV := .venv
DEV_VENV := .venv-dev
DEMO := $(DEMO_VENV)/.installed
DEV := $(DEV_VENV)/.installed
DEV_BIN := $(DEV_VENV)/bin
PEERS := faust quix bytewax flink
PINS := deploy/requirements
KAFKA_LIBS := $(BUILD)/kafka/libs
KAFKA := $(BUILD)/kafka/.resolved

PIP_INSTALL = -m pip install --quiet --disable-pip-version-check
PIN = $(DEV_BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
      --no-strip-extras --no-emit-index-url --no-header --annotation-style line pyproject.toml $(PINS)/build.in
HAS_MAVEN := $(and $(shell command -v java),$(shell command -v mvn))
COVERAGE = $(if $(filter yes,$(COV)),--cov --cov-report=term)

.DEFAULT_GOAL := help
.PHONY: help generated demo test lint types layers check format chaos bench bench-peers bench-recovery bench-coverage \
        bench-evaluate bench-statistics kafka-jars pins clean python

help: ## list these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

demo: $(DEMO) ## install what the demo needs and run it (ARGS='--summary out.json')
	@$(DEMO_VENV)/bin/fairstream demo $(ARGS)

test: $(DEV) ## run all the tests, on Apache Kafka where java and mvn are installed
	@$(MAKE) --no-print-directory kafka-jars || { test -z "$$CI" && echo "kafka-jars: failed; going on without"; }
	@mkdir -p $(BUILD)/coverage
	@$(DEV_BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal $(COVERAGE) $(PYTEST_ARGS)

bench: $(DEV) kafka-jars ## how fast it is, beside a bare consumer (ARGS='--only speed --records 500000', --quick)
	@$(DEV_BIN)/python -m tests.bench $(ARGS)

bench-peers: $(DEV) kafka-jars $(PEERS:%=$(BUILD)/peers/%/.installed) $(BUILD)/peers/flink-jars/.resolved ## aggregate beside Faust, Quix Streams, Bytewax and Flink SQL (ARGS='--records 500000')
	@$(DEV_BIN)/python -m tests.bench --only peers --json $(BUILD)/bench-peers.json $(ARGS)

$(BUILD)/peers/%/.installed: tests/bench/peers/%/requirements.txt | python
	@test -x $(@D)/bin/pip || $(PYTHON) -m venv $(@D)
	@echo "installing $< into $(@D)"
	@$(@D)/bin/python $(PIP_INSTALL) --requirement $<
	@touch $@

$(BUILD)/peers/flink-jars/.resolved: tests/bench/peers/flink/pom.xml
	@mkdir -p $(@D)
	@mvn --batch-mode --quiet --file $< dependency:copy-dependencies -DexcludeTransitive=true \
	  -DoutputDirectory=$(CURDIR)/$(@D)
	@touch $@

bench-coverage: $(DEV) ## how often 95 % intervals hold the truth (ARGS='--runs 500 --json out.json')
	@$(DEV_BIN)/python -m tests.statistics.coverage $(ARGS)

bench-statistics: $(DEV) ## false pages against the budget, delays, all detectors (ARGS='--only delays')
	@$(DEV_BIN)/python -m tests.statistics.detection $(ARGS)

bench-evaluate: $(DEV) ## how long 5,000 series take to judge and to show (ARGS='--json out.json')
	@$(DEV_BIN)/python -m tests.bench.evaluate $(ARGS)

lint: $(DEV) ## check style and format
	@$(DEV_BIN)/ruff check --quiet && $(DEV_BIN)/ruff format --check --quiet && echo "lint: clean"

types: $(DEV) ## check types, strictly
	@echo "types: mypy --strict" && $(DEV_BIN)/mypy

layers: $(DEV) ## check the import direction: monitor <- alerts <- streams
	@$(DEV_BIN)/lint-imports --no-logo --cache-dir $(BUILD)/import-linter

check: lint types layers test ## lint, types, layers and test

format: $(DEV) ## rewrite the sources in the project's format
	@$(DEV_BIN)/ruff check --fix --quiet; $(DEV_BIN)/ruff format --quiet

chaos: $(DEV) kafka-jars ## kill, pause and replace running processes, then recount (SEED=1 KILLS=50)
	@$(DEV_BIN)/python -m tests.chaos --seed $(SEED) --kills $(KILLS)

bench-recovery: $(DEV) kafka-jars ## time from kill -9 to caught up, and memory over a long run (SECONDS=600)
	@$(DEV_BIN)/python -m tests.chaos.recovery --seconds $(SECONDS)

kafka-jars: ## fetch Apache Kafka's jars through Maven, if java and mvn are installed
ifneq ($(HAS_MAVEN),)
	@$(MAKE) --no-print-directory $(KAFKA)
else
	@echo "kafka-jars: java or mvn is not installed, so there is no Apache Kafka for the tests"
endif

$(KAFKA): deploy/kafka/pom.xml
	@echo "kafka-jars: Apache Kafka into $(KAFKA_LIBS)"
	@rm -rf $(KAFKA_LIBS) && mkdir -p $(KAFKA_LIBS)
	@mvn --batch-mode --quiet --file $< dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/$(KAFKA_LIBS) \
	  > $(BUILD)/kafka/maven.log 2>&1 || { cat $(BUILD)/kafka/maven.log; exit 1; }
	@touch $@

generated: $(DEV) ## build the files that are made from code: the dashboard and the configuration's schema
	@$(DEV_BIN)/python deploy/grafana/build.py
	@$(DEV_BIN)/fairstream check --schema > deploy/fairstream.schema.json

pins: $(DEV) ## pin the newest versions that pyproject.toml allows
	@$(PIN) --upgrade --extra embedded --extra arrow --output-file $(PINS)/demo.txt
	@$(PIN) --upgrade --all-extras --constraint $(PINS)/demo.txt --output-file $(PINS)/dev.txt
	@echo "pins: $(PINS)/demo.txt $(PINS)/dev.txt"

clean: ## remove everything that make made
	rm -rf $(DEMO_VENV) $(DEV_VENV) $(BUILD) fairstream.egg-info

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "fairstream needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1 | head -n 1)." >&2; \
	  echo "Name another one: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }

# An environment is installed again when its pins, or what pyproject.toml says of the package, have changed.
$(DEMO): $(PINS)/demo.txt pyproject.toml | python
	$(call install,$(DEMO_VENV),$(PINS)/demo.txt)

$(DEV): $(PINS)/dev.txt pyproject.toml | python
	$(call install,$(DEV_VENV),$(PINS)/dev.txt)

define install
	@test -x $(1)/bin/pip || $(PYTHON) -m venv $(1) || { rm -rf $(1); \
	  echo "$(PYTHON) cannot make environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "installing $(2) into $(1)"
	@$(1)/bin/python $(PIP_INSTALL) --require-hashes --requirement $(2)
	@$(1)/bin/python $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@
endef

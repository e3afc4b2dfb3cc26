# SPDX-License-Identifier: MIT
# Every target sets up what it needs; nothing but make has to be there before.
#   HAC_VENV=dir     the virtual environment (.venv)
#   HAC_BUILD=dir    everything that is built (build)
#   HAC_PYTHON=prog  the Python to make the environment from (3.11 or newer)
export HAC_VENV ?= .venv
export HAC_BUILD ?= build
PYTHON = $(HAC_VENV)/bin/python

help:	## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

setup:	## install what is missing, make the virtual environment, build
	@scripts/setup
	@scripts/build

build: setup	## build the C library and programs and the Python package

demo: setup	## run the flights example
	$(PYTHON) examples/flights/demo.py

demo-cluster: setup	## the same over a stream on three NATS servers, one of which is killed
	$(PYTHON) examples/flights/demo.py --cluster

test: setup	## run every test and a table of results
	@$(PYTHON) scripts/run-parts

test-c: setup	## run the C tests
	@$(PYTHON) scripts/run-parts c

test-py: setup	## run the Python tests
	@$(PYTHON) scripts/run-parts pytest

test-sanitize: setup	## run the C tests under ASan and UBSan, then under TSan
	@$(PYTHON) scripts/run-parts asan tsan

test-harness: setup	## test the new files of the hypervisor in user space
	@$(PYTHON) scripts/run-parts harness

test-crash: setup	## kill writers a thousand times and check what is left
	@HAC_CRASH_ROUNDS=$${HAC_CRASH_ROUNDS:-1000} $(PYTHON) scripts/run-parts crash

test-cluster: setup	## kill the leader of a three-node stream twenty times while writing
	@HAC_CLUSTER_ROUNDS=$${HAC_CLUSTER_ROUNDS:-20} $(PYTHON) scripts/run-parts cluster

test-xen: setup	## run the tests inside the patched Xen, under QEMU (15 minutes)
	@$(PYTHON) scripts/run-parts xen

bench: export HAC_BENCH = 1
bench: setup	## run the benchmarks into build/bench.json
	$(PYTHON) -m microbench bench --json $(HAC_BUILD)/bench.json

xen:	## fetch, patch and build the hypervisors (hypercall-patch/)
	@hypercall-patch/build

xen-deb:	## make a Debian package of the patched hypervisor (as root)
	@hypercall-patch/xen-deb

bench-xen: setup xen	## count the instructions of the engines over Xen into build/bench-xen.json
	$(PYTHON) -m microbench xen --json $(HAC_BUILD)/bench-xen.json

report: export HAC_REPORT = 1
report: setup	## measure the paper's figures here and inside Xen into build/report.html (QUICK=1: shorter)
	@scripts/report $(if $(QUICK),--quick)

lint: setup	## check style, types, licence lines and the header
	@$(PYTHON) scripts/lint

format: setup	## format the C and Python sources in place
	@$(PYTHON) scripts/lint --fix

clean:	## remove what was built (the virtual environment stays)
	rm -rf $(HAC_BUILD) dist
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

.PHONY: help setup build demo demo-cluster test test-c test-py test-sanitize test-harness test-crash test-cluster test-xen bench xen xen-deb bench-xen report lint format clean
.NOTPARALLEL:

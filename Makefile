# make demo    set up, train both tasks, infer, grade
# staff: begin
# make test    set up, lint, check types, run every test
# make test-sandbox  the tests of the sandbox as root and as an unprivileged user
# make test-faults  kills, full disks, bad bytes, in many trials: 15 minutes
# make docs    the documents as a site: dist/site/index.html
# make bench   compare the speed of the lab with others, write docs/speed.md: 15 minutes
# staff: end
# make clean   remove the virtual environment
#
# Another Python than python3: make demo PYTHON=python3.12
# Without make, once the lab is set up: python -m lab.demo; make demo DEMO=... gives it options.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check install
DEMO :=

.PHONY: demo clean

demo: .venv/explore
	$(BIN)/python -m lab.demo $(DEMO)

# staff: begin
.PHONY: test test-faults test-sandbox docs bench

test: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder

test-faults: .venv/test
	FAULTS=long $(BIN)/python -m pytest -q -n logical --maxprocesses 4 --dist loadfile tests/faults \
	  tests/test_explorer.py

SANDBOX_TESTS := $(addprefix tests/test_, attacks.py attacks_on_scores.py sandbox.py limits.py \
  seccomp.py class.py grader.py)

test-sandbox: .venv/test
	$(BIN)/python -m pytest -q $(SANDBOX_TESTS)
	copy=$$(mktemp -d) && git archive HEAD | tar -x -C $$copy && chown -R 65534:65534 $$copy \
	  && chmod 755 $$copy && python=$$(pwd)/$(BIN)/python && cd $$copy \
	  && setpriv --reuid=65534 --regid=65534 --clear-groups env HOME=$$copy TMPDIR=$$copy \
	    $$python -m pytest -q -p no:cacheprovider $(SANDBOX_TESTS)

docs: .venv/docs
	$(BIN)/python -m staff.site.build

bench: .venv/bench
	$(BIN)/python -m benchmarks.speed

# staff: end
clean:
	rm -rf .venv
# staff: begin
	rm -rf dist/site
# staff: end

# PyTorch's default build for Linux brings gigabytes of CUDA libraries. A machine without an NVIDIA
# card takes the CPU build, from PyTorch's own index where that answers within seconds.
CPU_WHEELS := https://download.pytorch.org/whl/cpu
ANSWERS := import urllib.request as web; web.urlopen("$(CPU_WHEELS)/torch/", timeout=3)
CHECK := import sys; v = sys.version_info[:2]; \
  None if (3, 11) <= v <= (3, 14) else sys.exit("Python 3.11 to 3.14 is needed; this is %d.%d" % v)

# Each marker file records an installation; make repeats it only when a list has changed.
.venv/core: requirements.txt
	@$(PYTHON) -c '$(CHECK)'
	$(PYTHON) -m venv .venv
	@if [ "$$(uname)" = Linux ] && ! nvidia-smi > /dev/null 2>&1 \
	  && $(BIN)/python -c '$(ANSWERS)' > /dev/null 2>&1; then \
	  echo "no NVIDIA card found: PyTorch's CPU build"; \
	  $(PIP) --no-deps --index-url $(CPU_WHEELS) "$$(grep '^torch==' requirements.txt)" \
	  || echo "PyTorch's own index failed: its default build follows"; fi
	$(PIP) -r requirements.txt
	@touch $@

.venv/explore: .venv/core requirements/explore.txt
	$(PIP) -r requirements/explore.txt
	@touch $@

# staff: begin
.venv/docs: .venv/core requirements/docs.txt
	$(PIP) -r requirements/docs.txt
	@touch $@

.venv/test: .venv/core requirements/docs.txt requirements/explore.txt requirements/staff.txt \
  requirements/sweep.txt requirements/tensorboard.txt requirements/test.txt
	$(PIP) -r requirements/test.txt
	@touch $@

.venv/bench: .venv/test requirements/bench.txt
	$(PIP) -r requirements/bench.txt
	@touch $@
# staff: end

# make demo    set up, train both tasks, infer, grade
# staff: begin
# make test    set up, lint, run every test
# make bench   how fast the lab is beside others, written into the README: 15 minutes
# staff: end
# make clean   remove the virtual environment

PYTHON ?= python3
BIN := .venv/bin
DATA := dataset/test
RECIPE := --epochs 5 --batch_size 256 --lr 3e-3 --var 0.02

.PHONY: demo clean

demo: .venv/core
	$(BIN)/python train.py --task VAEwolabel $(RECIPE) --save_dir runs/demo-VAEwolabel --overwrite --video
	$(BIN)/python train.py --task Genwithlabel $(RECIPE) --save_dir runs/demo-Genwithlabel --overwrite --video
	$(BIN)/python inference.py --checkpoint_path runs/demo-VAEwolabel/best.pth --data_path $(DATA)
	$(BIN)/python inference.py --checkpoint_path runs/demo-Genwithlabel/best.pth --data_path $(DATA)
	$(BIN)/python grade.py --test_data_path $(DATA) --output runs/demo-grade.json \
	  --VAEwolabel_output_dir runs/demo-VAEwolabel/inference \
	  --Genwithlabel_output_dir runs/demo-Genwithlabel/inference
	@echo "pictures: runs/demo-*/inference/*.png, videos: runs/demo-*/training.gif"

# staff: begin
.PHONY: test bench

test: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -q -n logical --maxprocesses 4 --dist loadfile

bench: .venv/bench
	$(BIN)/python -m benchmarks.speed

# staff: end
clean:
	rm -rf .venv

# A marker file stands for what is installed, so that make installs again only when a list changes.
.venv/core: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

# staff: begin
.venv/test: .venv/core requirements/staff.txt requirements/sweep.txt requirements/test.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/test.txt
	@touch $@

.venv/bench: .venv/test requirements/bench.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/bench.txt
	@touch $@
# staff: end

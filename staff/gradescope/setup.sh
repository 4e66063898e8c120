#!/usr/bin/env bash
# Gradescope runs this once, when it builds the image that submissions are graded in.
set -euo pipefail
root=${AUTOGRADER:-/autograder}
lab=$root/source/lab
apt-get update
apt-get install -y bubblewrap python3 python3-venv
python3 -m venv "$root/venv"
install() { "$root/venv/bin/python" -m pip install --quiet "$@"; }

# Without an NVIDIA card, take the same torch from PyTorch's CPU wheels: they need no CUDA packages,
# which are gigabytes large. If that index does not answer, pip's default index has torch too.
if ! nvidia-smi --list-gpus > /dev/null 2>&1; then
  install --no-deps --retries 1 --timeout 15 --index-url https://download.pytorch.org/whl/cpu \
    "$(grep '^torch==' "$lab/requirements.txt")" ||
    echo "PyTorch's CPU index does not answer; torch comes from the default index." >&2
fi
install -r "$lab/requirements/staff.txt"

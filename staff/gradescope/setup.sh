#!/usr/bin/env bash
# Gradescope runs this once, when it builds the image that submissions are graded in.
set -euo pipefail
root=${AUTOGRADER:-/autograder}
lab=$root/source/lab
export DEBIAN_FRONTEND=noninteractive # a package that asks would wait for ever
apt-get update
apt-get install -y bubblewrap mount python3 python3-venv util-linux

# Gradescope's default image, Ubuntu 22.04, has bubblewrap 0.6 and Python 3.10. Without this check,
# the first would be noticed when students hand in, and pip's words about the second are obscure.
expect() { # a program, the version that is there, the oldest that will do
  printf '%s\n' "$3" "$2" | sort --version-sort --check=quiet || {
    echo "error: this image has $1 ${2:-of an unknown version}; expected $3 or newer. In Gradescope's" \
      "Configure Autograder, choose the Base Image OS Ubuntu in Version 24.04 or newer, and" \
      "upload autograder.zip again." >&2
    exit 2
  }
}
expect bubblewrap "$(bwrap --version | grep --only-matching '[0-9.]*' | head -n 1)" 0.8
expect Python "$(python3 --version | grep --only-matching '[0-9.]*' | head -n 1)" 3.11

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

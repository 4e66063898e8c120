#!/usr/bin/env bash
# Sweep over var and lr, or over the given options: ./run_sweep.sh --help
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
python="$here/.venv/bin/python" # the virtual environment that make sets up, where there is one
[ -x "$python" ] || python="$here/.venv/Scripts/python.exe" # where Git Bash on Windows has it
[ -x "$python" ] || python=python3
exec "$python" "$here/sweep.py" "$@"

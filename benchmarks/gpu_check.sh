#!/usr/bin/env bash
# Everything that needs a GPU: tests, parity with the CPU, benchmarks. Without a GPU it says so and claims nothing.
#   benchmarks/gpu_check.sh [TABLE]      the table is written to benchmarks/gpu.md unless another file is given
set -euo pipefail
cd "$(dirname "$0")/.."
table=${1:-benchmarks/gpu.md}

if [ "$(python -c 'import torch; print(torch.cuda.is_available())')" != True ]; then
  echo "no GPU here: nothing was run, no table was written"
  exit 0
fi
parts=$(mktemp -d)
trap 'rm -rf "$parts"' EXIT
CUBLAS_WORKSPACE_CONFIG=:4096:8 python -m pytest -q tests/gpu
python benchmarks/parity.py --device cuda --out "$parts/1-parity.md"
python benchmarks/training.py --device cuda --out "$parts/2-training.md"
cat "$parts"/*.md > "$table"
echo "written: $table"

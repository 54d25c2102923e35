#!/usr/bin/env bash
# Run the GPU tests and benchmarks on a CUDA machine, without network, in at most 8 minutes.
#
#   bench/gpu.sh --fetch [3.12]    where there is a network: fill wheels/ for that Python
#   bench/gpu.sh                   on the machine: $PYTHON (python3) has torch and torchvision
#   bench/gpu.sh --dry-run         the same with tiny sizes on the CPU
#
# If there is a folder wheels/, the packages of bench/gpu_requirements.txt are installed from it into
# a temporary folder. The table is $OUT/table.md, by default output/bench/gpu/table.md. Every part
# has a time limit; a part that fails or exceeds it does not end the others.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
python="${PYTHON:-python3}"

if [ "${1:-}" = --fetch ]; then
    version="${2:-3.12}"
    grep -v '^#' bench/gpu_requirements.txt | while read -r package; do
        # Some packages are published as source alone, which any Python can build.
        "$python" -m pip download -q --no-deps -d wheels --only-binary=:all: \
            --python-version "$version" --platform manylinux_2_28_x86_64 \
            --platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64 "$package" \
            || "$python" -m pip wheel -q --no-deps -w wheels "$package"
    done
    du -sh wheels
    exit
fi

site="$PWD"
if [ -d wheels ]; then
    installed="$(mktemp -d)"
    trap 'rm -rf "$installed"' EXIT
    "$python" -m pip install -q --no-index --no-deps --no-compile --target "$installed" \
        wheels/*.whl
    site="$site:$installed"
fi
# Without Detectron2, the stand-in is used from its folder.
PYTHONPATH="$site" "$python" -c 'import detectron2' 2> /dev/null || site="$site:$PWD/d2lite"
export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
"$python" bench/gpu.py "$@"

#!/usr/bin/env bash
# Run the test suite on the oldest releases that pyproject.toml allows.
#
#   tools/test_oldest.sh [pytest arguments, such as tests/segcore]
#
# The environment, .venv-oldest (torch is a large download), is made anew whenever a bound has
# changed: each `>=` of the dependencies and of the extras test, video and mess becomes `==`, those
# of d2lite too; what these packages need themselves is the newest. $PYTHON makes it, by default
# python3: give the oldest that is allowed.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
environment=.venv-oldest
python="$PWD/$environment/bin/python"
wanted="$(sha256sum pyproject.toml d2lite/pyproject.toml)"

if [ "$(cat "$environment/complete" 2> /dev/null)" != "$wanted" ]; then
    "${PYTHON:-python3}" -m venv --clear "$environment"
    "$python" -m pip install -q packaging 'tomli; python_version < "3.11"' hatchling editables
    "$python" tools/oldest.py pyproject.toml:test,video,mess d2lite/pyproject.toml \
        > "$environment/requirements.txt"
    "$python" -m pip install -r "$environment/requirements.txt"
    "$python" -m pip install --no-deps --no-build-isolation -e . -e ./d2lite
    "$python" -m pip check
    echo "$wanted" > "$environment/complete"
fi

OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" OMP_WAIT_POLICY=PASSIVE PYTHONPATH="$PWD" \
    "$python" -m pytest "$@"

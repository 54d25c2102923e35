#!/usr/bin/env bash
# Run the test suite on d2lite and on an environment that holds Detectron2 itself.
#
#   tools/test_both.sh REAL_PYTHON [pytest arguments, such as tests/d2lite]
#
# d2lite's Python is $LITE_PYTHON, by default .venv/bin/python (`make test` makes it).
# One line for each reports the version or commit and the numbers of tests that passed, failed and
# were skipped; the exit status is 0 where both passed. docs/explanation/detectron2.md lists the tests whose
# numbers differ.
set -u

repository="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
lite_python="${LITE_PYTHON:-$repository/.venv/bin/python}"

if [ $# -lt 1 ]; then
    echo "usage: tools/test_both.sh REAL_PYTHON [pytest arguments]" >&2
    exit 2
fi
real_python="$1"
shift

for python in "$lite_python" "$real_python"; do
    if ! command -v "$python" > /dev/null; then
        echo "error: $python is no Python: run 'make test' first, or set LITE_PYTHON" >&2
        exit 2
    fi
done

# "d2lite 0.6+lite" or "Detectron2 0.6 (commit 0123456)".
describe() {
    "$1" - << 'PYTHON'
import json
import subprocess
from importlib.metadata import distribution
from pathlib import Path

import detectron2

name = "d2lite" if detectron2.__version__.endswith("+lite") else "Detectron2"
try:
    source = json.loads(distribution("detectron2").read_text("direct_url.json") or "{}")
except Exception:
    source = {}
commit = source.get("vcs_info", {}).get("commit_id", "")
folder = Path(source.get("url", "").removeprefix("file://"))
if not commit and name == "Detectron2" and (folder / ".git").exists():
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True).stdout.strip()
print(name, detectron2.__version__ + (f" (commit {commit[:7]})" if commit else ""))
PYTHON
}

# How many tests of a kind the last line of pytest's output counts.
count() {
    grep -oE "[0-9]+ $2" <<< "$1" | grep -oE "^[0-9]+" || echo 0
}

status=0
summary=""
cd "$repository" || exit 2
for python in "$lite_python" "$real_python"; do
    version="$(describe "$python")" || { echo "error: $python has no detectron2" >&2; exit 2; }
    log="$(mktemp)"
    PYTHONPATH="$repository${PYTHONPATH:+:$PYTHONPATH}" \
        "$python" -m pytest -q -p no:cacheprovider "$@" 2>&1 | tee "$log"
    [ "${PIPESTATUS[0]}" -eq 0 ] || status=1
    last="$(grep -E "(passed|failed|skipped|error)" "$log" | tail -n 1)"
    rm -f "$log"
    failed=$(($(count "$last" failed) + $(count "$last" error)))
    summary+="$version: $(count "$last" passed) passed, $failed failed,"
    summary+=" $(count "$last" skipped) skipped"$'\n'
done
printf '\n%s' "$summary"
exit "$status"

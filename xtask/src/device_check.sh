#!/usr/bin/env bash
# Runs a GPU's suite and times training steps beside PyTorch's; made by `cargo xtask device-check --pack`.
#
#     ./check.sh [PYTHON]
#
# PYTHON (python3) needs PyTorch, transformers, PEFT and torchvision; without them only the suite is run. Results go to results.jsonl
# beside this script. REKINDLE_CHECK_SMALL=1 times one small job, as a rehearsal. Everything ends within eight minutes.
set -uo pipefail
cd "$(dirname "$0")"
python="${1:-python3}"
backend=BACKEND
upper="$(printf %s "$backend" | tr a-z A-Z)"
export "REKINDLE_TEST_$upper=1" "REKINDLE_REQUIRE=$backend" REKINDLE_TEST_GOLDEN="$PWD/golden"
[ -d "${XDG_RUNTIME_DIR:-}" ] || export XDG_RUNTIME_DIR="${TMPDIR:-/tmp}"
deadline=$((SECONDS + 480))
left() { echo $((deadline > SECONDS ? deadline - SECONDS : 1)); }

failed=0
for program in devices it; do
    printf '\n[%s s] %s\n' "$SECONDS" "$program"
    timeout "$(left)" "./$program" gpu_ --ignored --show-output --test-threads=1 || failed=1
done

printf '\n[%s s] times\n' "$SECONDS"
rm -f results.jsonl
if "$python" -c 'import torch, transformers, peft, torchvision'; then
    small=()
    [ "${REKINDLE_CHECK_SMALL:-}" = 1 ] && small=(--small)
    timeout "$(left)" "$python" device.py ./rekindle-bench "$backend" 10 "${small[@]}" | tee results.jsonl || failed=1
else
    echo "no times: $python lacks one of torch, transformers, peft and torchvision"
fi

printf '\n[%s s] done\n' "$SECONDS"
exit "$failed"

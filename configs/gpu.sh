#!/bin/sh
# Uses some ten minutes of a GPU for training: checks the step, takes the fastest batch size, trains
# until the learning rate is zero, and evaluates. From the root of the repository:
#
#     sh configs/gpu.sh [FOLDER]
#
# The machine needs python with torch, numpy, scipy and safetensors. The other packages come as
# wheels, made before on a machine with a network (same version of Python):
#
#     python -m pip download --no-deps -c constraints.txt -d wheels ase gemmi pydantic pydantic-core annotated-types typing-inspection \
#         typer annotated-doc click shellingham rich markdown-it-py mdurl pygments
#
# Run it again with the same FOLDER to go on after an interruption. Settings, from the environment:
set -eu
out=${1:-runs/gpu}
: "${PYTHON:=python3}"
: "${CONFIG:=configs/gpu.toml}"     # of the run
: "${SET:=}"                        # further options of denser train, such as --set=schedule.minutes=5
: "${WORKERS:=$(nproc)}"            # processes that make labels ready
: "${BATCHES:=128,256,512}"         # sizes to choose from
: "${TIMING:=20}"                   # seconds for this choice
: "${TIMING_LABELS:=1024}"          # labels for it
: "${HELD_OUT:=benchmarks/labels.db}" # labels to evaluate on; those that the model learnt from are left out
: "${WHEELS:=wheels}"

mkdir -p "$out"
if [ -d "$WHEELS" ]; then
    "$PYTHON" -m pip install --quiet --no-index --no-deps --target "$out/packages" "$WHEELS"/*.whl
    PYTHONPATH="$out/packages:${PYTHONPATH:-}"
fi
PYTHONPATH="$PWD/src:${PYTHONPATH:-}"
export PYTHONPATH

# The choice is kept, because a run goes on only with the settings that it began with.
if [ ! -s "$out/settings.txt" ]; then
    # shellcheck disable=SC2086
    "$PYTHON" benchmarks/training_steps.py "$CONFIG" $SET --check --batches "$BATCHES" --seconds "$TIMING" \
        --labels "$TIMING_LABELS" --workers "$WORKERS" --choose "$out/settings.txt"
fi

if command -v nvidia-smi >/dev/null; then
    nvidia-smi --query-gpu=utilization.gpu,memory.used,power.draw --format=csv,noheader,nounits -l 1 \
        >"$out/gpu.csv" &
    watcher=$!
    trap 'kill $watcher 2>/dev/null || true' EXIT
fi
# shellcheck disable=SC2046,SC2086
"$PYTHON" -m denser train "$CONFIG" -o "$out" --workers "$WORKERS" $SET $(cat "$out/settings.txt")
[ -z "${watcher:-}" ] || kill "$watcher" 2>/dev/null || true

# Files in parts below 16 MB; `cat NAME.part-* > NAME` joins them.
mkdir -p "$out/parts"
"$PYTHON" -m denser models pack-state "$out" -o "$out/parts/state.safetensors"
cp "$out/best.safetensors" "$out/model.safetensors" "$out/metrics.csv" "$out/parts/"
for file in "$out"/parts/*.safetensors; do
    if [ "$(wc -c <"$file")" -gt 15000000 ]; then
        split -b 15000000 "$file" "$file.part-"
        rm "$file"
    fi
done

"$PYTHON" -m denser evaluate "$out/best.safetensors" "$HELD_OUT" --csv "$out/parts/held_out.csv"
"$PYTHON" - "$out" <<'END'
import csv, json, pathlib, sys
out = pathlib.Path(sys.argv[1])
batch = json.loads((out / "config.json").read_text())["sample"]["batch"]
last = list(csv.DictReader((out / "metrics.csv").open()))[-1]
steps, seconds = int(last["step"]), float(last["seconds"])
print(f"{steps} steps of {batch} in {seconds:.0f} s: {steps * batch / seconds:.1f} samples/s")
if (out / "gpu.csv").exists():
    used = [float(line.split(",")[0]) for line in (out / "gpu.csv").open() if line.strip()]
    print(f"the GPU ran kernels in {sum(used) / len(used):.0f} % of the time of the run, with the set-up")
END

#!/usr/bin/env bash
# Runs every model on the sound code, then plants each fault of faults/ and requires the models it names to fail.
# With names of faults, plants those alone: loom-tests/run.sh once_load_store
set -euo pipefail
cd "$(dirname "$0")/.."
. loom-tests/faults/tree.sh

export RUSTFLAGS="--cfg loom -C debug-assertions=on"
export CARGO_TARGET_DIR="$PWD/target/loom"
# A fault changes a function or two: only that is compiled again, in a fifth of the time.
export CARGO_PROFILE_RELEASE_INCREMENTAL=true CARGO_PROFILE_RELEASE_DEBUG=0
export LOOM_MAX_PREEMPTIONS="${LOOM_MAX_PREEMPTIONS:-3}"

# All is built in one copy, so that an edit of the working tree does not reach a run. The copy is always in the same
# folder, and a fault is planted there and taken back: cargo compiles our crate again and nothing else.
tree=$CARGO_TARGET_DIR/tree

red() {
    echo "$1" >&2
    exit 1
}

models() {
    (cd "$tree" && cargo test --release --quiet -p loom-tests "$@")
}

# Prints MODEL|MESSAGE for each line `Caught by MODEL: MESSAGE` of a patch.
catches() {
    header "$1" | sed -nE 's/^Caught by ([a-z0-9_]+): (.+)$/\1|\2/p'
}

models_of() {
    catches "$1" | cut -d '|' -f 1 | sort -u
}

# Prints what is wrong with a patch, if anything is.
flaws() {
    local fault=$1 patch=$FAULTS/$1.patch model said
    if [ ! -f "$patch" ]; then
        echo "planted fault $fault: there is no $patch"
        return
    fi
    if [[ ! $(header "$fault") =~ ^[A-Z] || $(header "$fault") =~ ^Caught ]]; then
        echo "planted fault $fault: $patch does not begin with a sentence on what it breaks"
    fi
    if [ -z "$(catches "$fault")" ]; then
        echo "planted fault $fault: $patch has no line 'Caught by MODEL: MESSAGE'"
    fi
    for model in $(models_of "$fault"); do
        [ -f "loom-tests/tests/$model.rs" ] || echo "planted fault $fault: there is no model $model"
    done
    if ! said=$(plant "$tree" "$fault" --check 2>&1); then
        printf 'planted fault %s DOES NOT APPLY (%s/refresh %s renews it):\n%s\n' "$fault" "$FAULTS" "$fault" "$said"
    fi
}

# Every flaw of every patch is printed, before anything is built.
inspect() {
    local fault found
    found=$(for fault in "$@"; do flaws "$fault"; done)
    [ -z "$found" ] || red "$found"
}

# A model that no fault makes fail may see nothing at all.
every_model_has_a_fault() {
    local file model
    for file in loom-tests/tests/*.rs; do
        model=$(basename "$file" .rs)
        grep -q "^Caught by $model: " "$FAULTS"/*.patch || red "no fault is planted for the model $model"
    done
}

catch_fault() {
    local fault=$1 model
    plant "$tree" "$fault"
    for model in $(models_of "$fault"); do
        fails "$model" "$fault"
        echo "planted fault $fault: caught by $model"
    done
    plant "$tree" "$fault" --reverse
}

# Requires a model to fail on a planted fault, and to say all that the patch says it says.
fails() {
    local model=$1 fault=$2 log=$CARGO_TARGET_DIR/fault-$2.$1.log by message
    models --test "$model" --no-run >"$log" 2>&1 || red "planted fault $fault does not compile:
$(tail -40 "$log")"
    if models --test "$model" >"$log" 2>&1; then
        red "planted fault $fault was NOT caught by $model"
    fi
    while IFS='|' read -r by message; do
        if [ "$by" = "$model" ] && ! grep -qF -- "$message" "$log"; then
            red "planted fault $fault made $model fail, and not by '$message':
$(tail -20 "$log")"
        fi
    done < <(catches "$fault")
}

copy_tree "$tree"
if [ $# -gt 0 ]; then
    faults=("$@")
    inspect "${faults[@]}"
else
    faults=("$FAULTS"/*.patch)
    faults=("${faults[@]##*/}")
    faults=("${faults[@]%.patch}")
    inspect "${faults[@]}"
    every_model_has_a_fault
    models
    hold=$(models -- --list | grep -c ': test$')
fi
for fault in "${faults[@]}"; do catch_fault "$fault"; done
echo "${hold:+$hold models hold, }${#faults[@]} planted faults caught"

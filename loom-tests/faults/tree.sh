# Copies of the working tree, and faults planted in them. Sourced by run.sh and refresh, in the root of the repository.

# A git hook names its repository in variables: git would work there and not in our copies.
# shellcheck disable=SC2046
unset $(git rev-parse --local-env-vars)

FAULTS=loom-tests/faults

# Copies every file of the working tree that git does not ignore. All get new times: cargo would otherwise take a
# file whose fault is gone again for one it has compiled.
copy_tree() {
    rm -rf "$1"
    mkdir -p "$1"
    git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
        if [ -f "$file" ]; then printf '%s\0' "$file"; fi
    done | tar -cf - --null -T - | tar -xmf - -C "$1"
}

# Applies the patch of a fault in a copy of the tree, by git and so without fuzz: its lines may have moved and not
# changed. Takes further options of `git apply`.
plant() {
    local tree=$1 fault=$2
    # A copy is no repository; without this, git finds the one that the copy is in, and ignores files outside of that.
    GIT_CEILING_DIRECTORIES=$(cd "$tree/.." && pwd -P) \
        git -C "$tree" apply --whitespace=nowarn "${@:3}" - <"$FAULTS/$fault.patch"
}

# Prints what stands in the patch of a fault before the diff.
header() {
    sed -n '/^--- /q;p' "$FAULTS/$1.patch"
}

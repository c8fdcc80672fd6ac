#!/usr/bin/env bash
# Packs the crate as for a registry, and builds it from the package: with its default features, and with all of them.
# So no file that it includes is missing from the package, and none of ours that it does not need is in it.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=never
target=${CARGO_TARGET_DIR:-target}

# With what is not committed yet, so that it can be run before a commit.
package() { cargo package -p fanfare --locked --allow-dirty --quiet "$@"; }

stray=$(package --list | grep -vE '^(src/.*\.(rs|md|svg)|client/fanfare\.(js|d\.ts)|(README|CHANGELOG)\.md|LICENSE-(APACHE|MIT)|Cargo\.(toml|toml\.orig|lock)|\.cargo_vcs_info\.json)$' || true)
if [ -n "$stray" ]; then
    printf 'the package has files that it should not have:\n%s\n' "$stray"
    exit 1
fi
package
package --all-features
archive=$(ls -t "$target"/package/fanfare-*.crate | head -1)
printf 'the package builds with default features and with all: %d files, %d KiB\n' \
    "$(tar -tzf "$archive" | wc -l)" "$(($(wc -c <"$archive") / 1024))"

#!/usr/bin/env bash
# Checks the links that nothing else checks: those from Markdown to files, and those of the rendered documentation.
#   .ci/links.sh          the *.md files; and target/doc, where `cargo doc` has run
#   .ci/links.sh --keep   first writes the README's pictures into src/docs/front/pictures.md
#
# A code host wants a link to name a file, rustdoc an item or a page. So the README only has links by label
# (`[text][label]`): the README defines each label as a file, and src/docs/front, which lib.rs puts before the README, as
# something that rustdoc has. rustdoc itself checks the links of items, with `-D warnings`.
set -euo pipefail
cd "$(dirname "$0")/.."
FRONT=src/docs/front
failed=0

bad() {
    printf '%s\n' "$1"
    failed=1
}

# prose FILE: its lines without code, neither fenced nor between backticks, but for labels that are code.
prose() { awk '/^ *```/ { code = !code; next } !code' "$1" | sed -E 's/\[`([^`]*)`\]/[\1]/g; s/`[^`]*`//g'; }

# definitions FILE: label and target, with a tab between, of each `[label]: target`.
definitions() { prose "$1" | sed -nE 's/^ {0,3}\[([^]]+)\]: +([^ ]+).*/\1\t\2/p'; }

# targets FILE: where its links lead, by label or in place, in Markdown or in HTML.
targets() {
    definitions "$1" | cut -f2
    prose "$1" | grep -oE '\]\([^) ]+' | cut -c3- || true
    prose "$1" | grep -oE '(src|href)="[^"]+' | sed 's/^[a-z]*="//' || true
}

# pictures: the README's, as definitions that carry their bytes. rustdoc has no place for a file beside its pages.
pictures() {
    local label path kind
    while read -r label; do
        path=$(definitions README.md | awk -F'\t' -v label="$label" '$1 == label { print $2 }')
        case "$path" in
        *.svg) kind=svg+xml ;;
        *) kind=${path##*.} ;;
        esac
        printf '[%s]: data:image/%s;base64,%s\n' "$label" "$kind" "$(cat "$path" 2>/dev/null | base64 | tr -d '\n')"
    done < <(prose README.md | sed -nE 's/.*!\[[^]]*\]\[([^]]+)\].*/\1/p' | sort -u)
}

# headings FILE: the fragments that a code host and rustdoc make of its headings.
headings() { sed -nE '/^```/,/^```/d; s/^#+ +//p' "$1" | tr '[:upper:]' '[:lower:]' | sed -E 's/[^a-z0-9 _-]//g; s/ /-/g'; }

# check_file FILE: each link to a file names one of the repository, and each fragment a heading.
check_file() {
    local file="$1" target path fragment
    while read -r target; do
        case "$target" in
        *://* | mailto:* | data:* | *::*) continue ;;
        esac
        path=${target%%#*} fragment=
        [[ "$target" == *#* ]] && fragment=${target#*#}
        path=${path:+$(dirname "$file")/$path}
        path=${path:-$file}
        if [ -z "$(git ls-files --cached --others --exclude-standard -- "$path")" ]; then
            bad "$file: $target is not a file of the repository"
        elif [ -n "$fragment" ] && [[ "$path" == *.md ]] && ! headings "$path" | grep -qxF -- "$fragment"; then
            bad "$file: $target is not a heading"
        fi
    done < <(targets "$file" | sort -u)
}

# The README's own rule: links to files by label, and each label defined for rustdoc too.
check_front() {
    local target
    while read -r target; do
        bad "README.md: give $target a label, and the label a definition in $FRONT: rustdoc does not find the file"
    done < <(prose README.md | grep -oE '\]\([^) ]+' | cut -c3- | grep -vE '^#|^[a-z]+:' || true)
    cmp -s <(pictures) "$FRONT/pictures.md" || bad "$FRONT/pictures.md is not what the README shows: refresh it with .ci/links.sh --keep"
    while read -r target; do
        bad "$target is defined in the README or in $FRONT, but not in both"
    done < <(comm -3 <(labels README.md) <(labels "$FRONT/pictures.md" "$FRONT/pages.md" "$FRONT/files.md") | sed 's/^\t//')
}

# labels FILE..: what they define, sorted.
labels() {
    local file
    for file in "$@"; do definitions "$file"; done | cut -f1 | LC_ALL=C sort -u
}

# check_pages FOLDER: each relative link of the crate's pages of prose, those of its modules, leads to a file, and each
# fragment to a place in it. Pages of items also show what other crates write about their traits.
check_pages() {
    local scratch line
    scratch=$(mktemp -d)
    # "page target", then "resolved page": by the folder of the page, unless the target is a bare fragment.
    (cd "$1" && find fanfare -name index.html -exec grep -oHE '(src|href)="[^"]+"' {} + || true) \
        | sed -E 's/^([^:]*):[a-z]+="(.*)"$/\1 \2/' | grep -vE ' ([a-z+]+:|//|.*\$\{)' >"$scratch/links"
    awk '{ folder = $1; sub(/[^\/]*$/, "", folder)
           path = ($2 ~ /^#/) ? $1 $2 : folder $2
           while (sub(/\/\.\//, "/", path) || sub(/[^\/.][^\/]*\/\.\.\//, "", path)) ;
           sub(/\?[^#]*/, "", path); sub(/#$/, "", path); sub(/\.rs\.html#.*/, ".rs.html", path)
           print path, $1 }' "$scratch/links" | sort -u >"$scratch/resolved"
    (cd "$1" && find . -type f | sed 's/^\.\///') >"$scratch/places"
    (cd "$1" && grep -roE ' id="[^"]+"' --include='*.html' fanfare | sed -E 's/: id="(.*)"$/#\1/') >>"$scratch/places"
    awk 'NR == FNR { places[$1]; next } !($1 in places) { print $2 ": " $1 " is not in the documentation" }' \
        "$scratch/places" "$scratch/resolved" >"$scratch/bad"
    printf '%d links of the rendered documentation\n' "$(wc -l <"$scratch/resolved")"
    while read -r line; do bad "$line"; done <"$scratch/bad"
    rm -r "$scratch"
}

if [ "${1:-}" = --keep ]; then pictures >"$FRONT/pictures.md"; fi
check_front
count=0
while read -r file; do
    case "$file" in "$FRONT"/*) continue ;; esac
    check_file "$file"
    count=$((count + 1))
done < <(git ls-files '*.md')
printf 'links of %d Markdown files\n' "$count"
doc="${CARGO_TARGET_DIR:-target}/doc"
if [ -f "$doc/fanfare/index.html" ]; then
    check_pages "$doc"
else
    printf 'SKIPPED: links of the rendered documentation: run cargo doc first\n'
fi
exit "$failed"

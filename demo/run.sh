#!/bin/bash
# A first minute with Syncline: two folders, then two people on one bucket. Every command is printed as a person would
# type it, and every result is checked. Nothing outside a temporary directory is touched.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
bin=${SYNCLINE_BIN_DIR:-$root/target/debug}
work=$(mktemp -d)
server=
finish() {
    status=$?
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    rm -rf "$work"
    if [ "$status" = 0 ]; then printf '\nEverything came out as it should.\n'; else printf '\nThe demo failed.\n' >&2; fi
}
trap finish EXIT

export PATH="$bin:$PATH" SYNCLINE_STATE="$work/state" HOME="$work/home" NO_COLOR=1
unset SYNCLINE_CONFIG XDG_CONFIG_HOME XDG_STATE_HOME
mkdir -p "$HOME"
cd "$work"

say() { printf '\n# %s\n' "$*"; }
fail() { printf 'demo: %s\n' "$*" >&2; exit 1; }
quoted() { local word; for word; do case $word in *[!a-zA-Z0-9_./:=@%+,-]*) printf " '%s'" "$word" ;; *) printf ' %s' "$word" ;; esac; done; }
# run EXIT COMMAND...: prints it, runs it, wants that exit code.
run() {
    local want=$1 got=0
    shift
    printf '\n$%s\n' "$(quoted "$@")"
    "$@" || got=$?
    [ "$got" = "$want" ] || fail "exit $got where $want was due:$(quoted "$@")"
}
edit() { printf '\n$ echo %s >> %s\n' "'$2'" "$1"; printf '%s\n' "$2" >> "$1"; }
drop() { printf '\n$ rm %s\n' "$1"; rm "$1"; }
same() { diff -r --exclude=.syncline "$1" "$2" || fail "$1 and $2 differ"; }

say "A tree of real files: the sources and pages of this program."
mkdir docs
cp -r "$root/docs" docs/pages
cp -r "$root/crates/model/src" docs/model
cp "$root/README.md" docs/
mkdir docs/empty
printf '%s files\n' "$(find docs -type f | wc -l)"

say "1. Two folders."
run 0 syncline sync docs backup
same docs backup
edit docs/README.md 'written on the left'
edit backup/model/lib.rs '// written on the right'
drop backup/model/path.rs
run 0 syncline sync --dry-run docs backup
[ -e docs/model/path.rs ] || fail "a dry run removed something"
run 0 syncline sync docs backup
same docs backup
[ ! -e docs/model/path.rs ] || fail "the deletion did not arrive"
run 0 syncline trash list --of docs backup
run 0 syncline undo --of docs backup
[ -e docs/model/path.rs ] || fail "undo brought nothing back"
run 0 syncline sync docs backup
same docs backup

say "2. Two people and a bucket. The S3 server is a small one of our own."
mkdir s3
s3-server s3 team > server.env &
server=$!
for _ in $(seq 100); do grep -q AWS_REGION server.env && break; sleep 0.1; done
set -a
# shellcheck disable=SC1091
. ./server.env
set +a
[ -n "${AWS_ENDPOINT_URL:-}" ] || fail "the S3 server did not start"
cp -r docs anna
rm -rf anna/.syncline
run 0 syncline -C anna init s3://team/docs
run 0 syncline -C anna sync
run 0 syncline clone s3://team/docs ben
same anna ben

say "Both work on; one file is edited by both."
edit anna/pages/guide/two-folders.md 'more from Anna'
drop anna/model/fault.rs
edit ben/model/entry.rs '// more from Ben'
edit anna/README.md "Anna's last line"
edit ben/README.md "Ben's last line"
run 0 syncline -C anna sync
run 1 syncline -C ben status
say "Ben looks at the plan first, then carries out just that. The conflict keeps both versions (exit 1)."
run 1 syncline -C ben sync --plan ../plan.jsonl
run 1 syncline -C ben apply ../plan.jsonl
run 0 syncline -C ben conflicts
run 0 syncline -C ben resolve --all --keep left
run 0 syncline -C ben sync
run 0 syncline -C anna sync
same anna ben
[ ! -e ben/model/fault.rs ] || fail "Anna's deletion did not arrive"
grep -q 'more from Ben' anna/model/entry.rs || fail "Ben's edit did not arrive"

say "A bad day: Anna removes a folder, and it reaches Ben."
printf '\n$ rm -r anna/model\n'
rm -r anna/model
run 3 syncline -C anna sync
say "The brake held it: more than half of the files would go. Anna insists, and regrets it."
run 0 syncline -C anna sync --max-delete none
run 0 syncline -C anna log
run 0 syncline -C anna undo
run 0 syncline -C anna sync
run 0 syncline -C ben sync
same anna ben
[ -e ben/model/lib.rs ] || fail "undo did not bring the folder back"

#!/usr/bin/env bash
# test_demo.sh - `make demo` does what README says: three servers, a leader
# killed with -9, what was written before is read after, the lock goes to the
# next in line with a higher token, the old token is refused.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit

work=$(mktemp -d "${TMPDIR:-/tmp}/pawl-test.XXXXXX")
passed=0
failed=0

finish() {
    for demo in "$work"/pawl-demo.*; do
        [ -d "$demo" ] && scripts/demo --clean "$demo"
    done
    rm -rf "$work"
    echo "$passed passed, $failed failed"
}
trap finish EXIT

check() { # FACT COMMAND...
    local fact=$1
    shift
    if "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $fact"
    fi
}

# after MARK PATTERN: the output has the pattern somewhere behind the mark.
after() {
    sed "1,/$1/d" "$work/output" | grep -qE "$2"
}

servers() {
    pgrep -c -f "pawld .*$work/" || true
}

TMPDIR=$work scripts/demo >"$work/output" 2>&1
check "the demo ends well" test $? -eq 0
cat "$work/output"
check "every server reads what one took" \
    test "$(sed '/^# a worker/,$d' "$work/output" | grep -c '^blue$')" -eq 2
check "there is a new leader after kill -9" after '^\$ kill -9' ' true '
check "the value outlives the leader" after '^\$ kill -9' '^blue$'
check "the lock goes to the next in line" after '^\$ kill -STOP' '^worker B holds'
check "the old token is refused" after 'put report by-A' '^Error: .*fencing token'
check "the refused write left nothing" after 'put report by-A' '^by-B$'
check "three servers go on" test "$(servers)" -eq 3
scripts/demo --clean "$work"/pawl-demo.*
check "cleaning up ends them" test "$(servers)" -eq 0
check "cleaning up removes the data" test ! -e "$work"/pawl-demo.*
[ "$failed" -eq 0 ]

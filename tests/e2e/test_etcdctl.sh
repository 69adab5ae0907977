#!/usr/bin/env bash
# test_etcdctl.sh - etcdctl as it comes from its package, against every member
# of three.
#
# B says where pawld was built (build/release). Each check compares all that
# etcdctl printed, or the last line of its complaint, and its exit status.
set -u
cd "$(dirname "$0")/../.." || exit
# shellcheck source=scripts/cluster.bash
. scripts/cluster.bash

build=$(realpath "${B:-build/release}")
export ETCDCTL_API=3
unset ETCDCTL_ENDPOINTS ETCDCTL_USER
passed=0
failed=0

if ! command -v etcdctl >/dev/null; then
    echo "etcdctl is not installed: it is in Debian's package etcd-client"
    exit 1
fi
dir=$(mktemp -d "${TMPDIR:-/tmp}/pawl-e2e-XXXXXX")

finish() {
    if [ "$failed" -gt 0 ]; then
        tail -n 20 "$dir"/*.log
    fi
    cluster_stop "$dir"
    rm -rf "$dir"
}
trap finish EXIT

# The servers end with this script, even if it is killed.
cat >"$dir/pawld" <<END
#!/bin/sh
exec setpriv --pdeathsig KILL "$build/pawld" "\$@"
END
chmod +x "$dir/pawld"

# ---- checking ----------------------------------------------------------------

endpoint= # whom ctl asks

ctl() {
    timeout 20 etcdctl --endpoints "$endpoint" "$@"
}

verdict() { # NAME WANTED GOT
    if [ "$2" = "$3" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED: %s, at %s\n--- wanted\n%s\n--- got\n%s\n' \
            "$1" "$endpoint" "$2" "$3"
    fi
}

# says WANTED ARGUMENT...: the output, and success.
says() {
    local wanted=$1 got
    shift
    got=$(ctl "$@" 2>"$dir/stderr" </dev/null) ||
        got+=" (status $?: $(tail -n 1 "$dir/stderr"))"
    verdict "etcdctl $*" "$wanted" "$got"
}

# refuses WANTED ARGUMENT...: the last line of the complaint, and failure.
refuses() {
    local wanted=$1 got
    shift
    if ctl "$@" >"$dir/stdout" 2>"$dir/stderr" </dev/null; then
        got="success: $(cat "$dir/stdout")"
    else
        got=$(tail -n 1 "$dir/stderr")
    fi
    verdict "etcdctl $*" "$wanted" "$got"
}

lines() {
    printf '%s\n' "$@"
}

# json FIELD ARGUMENT...: the first such number in etcdctl's JSON.
json() {
    local field=$1
    shift
    ctl "$@" -w json </dev/null | grep -oE "\"$field\":-?[0-9]+" |
        head -n 1 | cut -d: -f2
}

# until_true COMMAND...: ask until it is so, at most for a while.
until_true() {
    local deadline=$((SECONDS + 30))
    until "$@"; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            echo "still not so after 30 s: $*"
            failed=$((failed + 1))
            return 1
        fi
    done
}

healthy() {
    timeout 20 etcdctl --endpoints "$all" endpoint health >/dev/null 2>&1
}

# ---- keys ----------------------------------------------------------------------

check_keys() { # PREFIX
    local p=$1 revision
    says OK put "$p/a" one
    revision=$(json revision get "$p/a")
    says "$(lines "$p/a" one)" get "$p/a"
    says one get "$p/a" --print-value-only
    says "$(lines OK "$p/a" one)" put "$p/a" two --prev-kv
    says "$(lines "$p/a" one)" get "$p/a" --rev "$revision"
    says "$(lines "$p/a" two)" get "$p/a" --consistency=s
    says OK put "$p/c" three
    says OK put "$p/b" four
    says "$(lines "$p/a" two "$p/b" four "$p/c" three)" get "$p" --prefix
    says "$(lines "$p/a" two "$p/b" four)" get "$p" --prefix --limit=2
    says "$(lines "$p/a" "" "$p/b" "" "$p/c")" get "$p" --prefix --keys-only
    says "$(lines "$p/a" two "$p/b" four)" get "$p/a" "$p/c"
    says "$(lines "$p/b" four "$p/c" three)" get --from-key "$p/b"
    says "$(lines "$p/c" three "$p/b" four "$p/a" two)" \
        get "$p" --prefix --order=DESCEND
    says "$(lines "$p/b" four "$p/c" three "$p/a" two)" \
        get "$p" --prefix --sort-by=VALUE
    says "$(lines "$p/b" four "$p/c" three "$p/a" two)" \
        get "$p" --prefix --sort-by=CREATE --order=DESCEND
    says "" get "$p/nothing"
    says 0 del "$p/nothing"
    says "$(lines 1 "$p/b" four)" del "$p/b" --prev-kv
    says "$(lines "$p/a" two "$p/c" three)" get "$p" --prefix
    says 2 del "$p" --prefix
    says "" get "$p" --prefix
    refuses "Error: etcdserver: mvcc: required revision is a future revision" \
        get "$p/a" --rev 1000000
    refuses "Error: etcdserver: key is not provided" put "" value
    refuses "Error: etcdserver: key not found" put --ignore-value "$p/nothing"
    refuses "Error: etcdserver: requested lease not found" \
        put "$p/a" value --lease=77
}

check_fields() { # PREFIX
    local p=$1 got
    says OK put "$p/f" 1
    says OK put "$p/f" 2
    got=$(ctl get "$p/f" -w fields |
        grep -vE '"(ClusterID|MemberID|RaftTerm|.*Revision)"')
    verdict "get -w fields" "$(lines "\"Key\" : \"$p/f\"" '"Version" : 2' \
        '"Value" : "2"' '"Lease" : 0' '"More" : false' '"Count" : 1')" "$got"
    got=$(($(json mod_revision get "$p/f") - $(json create_revision get "$p/f")))
    verdict "revisions of a key put twice" 1 "$got"
    verdict "count beyond the limit" 1 "$(json count get "$p" --prefix --limit 1)"
    says 1 del "$p/f"
}

# Bytes of all kinds go in and come out.
check_values() { # PREFIX
    local p=$1 value=$'zwei\nZeilen \x01\xff "\\'
    says OK put "$p/ключ" "$value"
    says "$value" get "$p/ключ" --print-value-only
    says '\x7a\x77\x65\x69\x0a\x5a\x65\x69\x6c\x65\x6e\x20\x01\xff\x20\x22\x5c' \
        get "$p/ключ" --print-value-only --hex
    head -c 1048576 /dev/zero | tr '\0' v >"$dir/large"
    verdict "put of 1 MiB" OK "$(ctl put "$p/large" <"$dir/large")"
    verdict "get of 1 MiB" "$(md5sum <"$dir/large")" \
        "$(ctl get "$p/large" --print-value-only | head -c 1048576 | md5sum)"
    head -c 1600000 /dev/zero | tr '\0' v >"$dir/large"
    ctl put "$p/large" <"$dir/large" >/dev/null 2>"$dir/stderr"
    verdict "put beyond --max-request-bytes" \
        "Error: etcdserver: request is too large" "$(tail -n 1 "$dir/stderr")"
    says 2 del "$p" --prefix
}

# ---- leases ----------------------------------------------------------------------

check_leases() { # PREFIX
    local p=$1 id got
    got=$(ctl lease grant 100)
    id=$(cut -d' ' -f2 <<<"$got")
    verdict "lease grant" "lease $id granted with TTL(100s)" "$got"
    says OK put "$p/l" value --lease="$id"
    says "$(lines "found 1 leases" "$id")" lease list
    got=$(ctl lease timetolive "$id" --keys)
    verdict "lease timetolive" \
        "lease $id granted with TTL(100s), remaining(s), attached keys([$p/l])" \
        "$(sed -E 's/remaining\((9[5-9]|100)s\)/remaining(s)/' <<<"$got")"
    says "lease $id keepalived with TTL(100)" lease keep-alive --once "$id"
    says "lease $id revoked" lease revoke "$id"
    says "" get "$p/l"
    says "found 0 leases" lease list
    says "lease $id already expired" lease timetolive "$id"
    refuses "Error: failed to revoke lease (etcdserver: requested lease not found)" \
        lease revoke "$id"
    refuses "Error: etcdserver: requested lease not found" lease keep-alive --once "$id"
}

key_is_gone() {
    [ -z "$(ctl get "$1" </dev/null)" ]
}

check_expiry() { # PREFIX
    local id
    id=$(ctl lease grant 2 | cut -d' ' -f2)
    says OK put "$1/e" value --lease="$id"
    says "$(lines "$1/e" value)" get "$1/e"
    until_true key_is_gone "$1/e"
    says "lease $id already expired" lease timetolive "$id"
}

# ---- members ----------------------------------------------------------------------

check_members() {
    local got
    got=$(ctl member list | cut -d, -f2- | sort)
    verdict "member list" "$(
        i=0
        for client in ${all//,/ }; do
            i=$((i + 1))
            peer=$(tr , '\n' <"$dir/members" | sed -n "${i}s/^[^=]*=//p")
            echo " started, m$i, $peer, http://$client, false"
        done
    )" "$got"
    got=$(ctl endpoint health 2>&1)
    verdict "endpoint health" \
        "$endpoint is healthy: successfully committed proposal: took" \
        "${got% = *}"
    verdict "endpoint health --cluster" 3 \
        "$(ctl endpoint health --cluster 2>&1 | grep -c 'is healthy')"
    verdict "endpoint status names its member" \
        "$(ctl member list | grep -F "http://$endpoint," | cut -d, -f1)" \
        "$(ctl endpoint status | cut -d, -f2 | tr -d ' ')"
}

leader_endpoint() {
    local client
    for client in ${all//,/ }; do
        if etcdctl --endpoints "$client" endpoint status |
            awk -F', ' '{ exit $5 != "true" }'; then
            echo "$client"
        fi
    done
}

leads() {
    [ "$(leader_endpoint)" = "$1" ]
}

id_at() {
    etcdctl --endpoints "$1" endpoint status | awk -F', ' '{ print $2 }'
}

check_move_leader() {
    local from to
    for to in ${all//,/ }; do
        from=$(leader_endpoint)
        verdict "one leader" 1 "$(wc -w <<<"$from")"
        [ "$from" != "$to" ] || continue
        endpoint=$from
        says "Leadership transferred from $(id_at "$from") to $(id_at "$to")" \
            move-leader "$(id_at "$to")"
        until_true leads "$to"
        says OK put moved "to $to"
        refuses "Error: no leader endpoint given at [$from]" \
            move-leader "$(id_at "$from")"
        endpoint=$all
        refuses "Error: etcdserver: bad leader transferee" move-leader 123
    done
}

# All members hold the same.
check_agreement() {
    local client first=
    for client in ${all//,/ }; do
        endpoint=$client
        ctl get "" --prefix -w json --consistency=l | sed 's/.*"kvs"//' \
            >"$dir/now"
        [ -n "$first" ] || cp "$dir/now" "$dir/first"
        first=no
        verdict "the same keys and revisions" "$(md5sum <"$dir/first")" \
            "$(md5sum <"$dir/now")"
    done
}

# ---- all of it -----------------------------------------------------------------------

cluster_start "$dir" "$dir/pawld" m1 m2 m3
all=$(cat "$dir/endpoints")
until_true healthy
n=0
for endpoint in ${all//,/ }; do
    n=$((n + 1))
    check_keys "z$n/keys"
    check_fields "z$n/fields"
    check_values "z$n/values"
    check_leases "z$n/leases"
    check_members
    ctl put "kept/$n" "by $endpoint" >/dev/null
done
check_expiry z/expiry
check_move_leader
check_agreement
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]

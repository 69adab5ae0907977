# shellcheck shell=bash
# cluster.bash - servers on loopback, for scripts to source.
#
# A cluster lives in a directory: NAME.data, NAME.log, NAME.pid of each server,
# and `endpoints`, its client addresses with commas between. It works for pawld
# and for etcd alike, since both take the same flags.
#
#     cluster_start DIR PROGRAM NAME...    start; does not wait
#     member_restart DIR NAME              start it again as it was
#     cluster_pids DIR                     process ids with commas between
#     cluster_kill DIR NAME                kill -9
#     cluster_stop DIR                     end all of them, wait until gone

# free_ports N: ports that nobody listens on now.
free_ports() {
    local count=$1 port taken=" "
    while [ "$count" -gt 0 ]; do
        port=$((20000 + RANDOM % 10000))
        if [[ $taken != *" $port "* ]] &&
            ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            taken+="$port "
            count=$((count - 1))
        fi
    done
}

cluster_start() {
    local dir=$1 program=$2 name i=0 ports members=() clients=()
    shift 2
    mapfile -t ports < <(free_ports $((2 * $#)))
    for name in "$@"; do
        clients+=("127.0.0.1:${ports[i]}")
        members+=("$name=http://127.0.0.1:${ports[i + 1]}")
        i=$((i + 2))
    done
    (
        IFS=,
        echo "${clients[*]}" >"$dir/endpoints"
        echo "${members[*]}" >"$dir/members"
    )
    i=0
    for name in "$@"; do
        member_start "$dir" "$program" "$name" "http://${clients[i]}" \
            "${members[i]#*=}"
        i=$((i + 1))
    done
}

# member_start DIR PROGRAM NAME CLIENT_URL PEER_URL
member_start() {
    local dir=$1 program=$2 name=$3
    printf '%s\n' "$program" --name "$name" --data-dir "$dir/$name.data" \
        --listen-client-urls "$4" --advertise-client-urls "$4" \
        --listen-peer-urls "$5" --initial-advertise-peer-urls "$5" \
        --initial-cluster "$(cat "$dir/members")" \
        --initial-cluster-state new --initial-cluster-token "${dir##*/}" \
        >"$dir/$name.command"
    member_restart "$dir" "$name"
}

member_restart() {
    local command
    mapfile -t command <"$1/$2.command"
    setsid "${command[@]}" >>"$1/$2.log" 2>&1 </dev/null &
    echo $! >"$1/$2.pid"
    disown # the shell says nothing when it ends
}

cluster_pids() {
    local file pids=()
    for file in "$1"/*.pid; do
        pids+=("$(cat "$file")")
    done
    (
        IFS=,
        echo "${pids[*]}"
    )
}

# runs_here DIR PID: is that still the server that was started in DIR?
runs_here() {
    tr '\0' '\n' 2>/dev/null <"/proc/$2/cmdline" | grep -qF "$1/"
}

cluster_kill() {
    local pid
    pid=$(cat "$1/$2.pid")
    if runs_here "$1" "$pid"; then
        kill -9 "$pid"
    fi
}

cluster_stop() {
    local file pid deadline=$((SECONDS + 10)) signal=TERM
    for file in "$1"/*.pid; do
        [ -e "$file" ] || continue
        pid=$(cat "$file")
        while runs_here "$1" "$pid"; do
            [ "$SECONDS" -lt "$deadline" ] || signal=KILL
            kill -s "$signal" "$pid" 2>/dev/null || true
            sleep 0.05
        done
        rm -f "$file"
    done
}

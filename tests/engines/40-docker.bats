#!/usr/bin/env bats
# docker: an own dockerd on an own containerd, the runtime under test as its default, with the cgroupfs driver.
# 41-docker-systemd.bats (systemd's driver) is this file by another name.

load helpers
ENGINE=$(basename "$BATS_TEST_FILENAME" .bats)
ENGINE=${ENGINE#*-}

setup() {
	needs dockerd docker containerd
	[ "$ENGINE" = docker ] || systemd || skip "needs systemd"
}

setup_file() {
	able || return 0
	engine_setup "$ENGINE" "$(dockerd --version | awk '{ sub(",", "", $3); print $3 }')"
	containerd_start
	printf '{"runtimes":{"proving":{"path":"%s","runtimeArgs":["--proof","prestart:enforce"]}}}' "$RT_BIN" >"$W/daemon.json"
	# The names of a user-made network are found by rules of nat that dockerd makes in the container's network namespace.
	local tables
	mkdir "$W/bin"
	for tables in iptables iptables-legacy; do
		! nat_by "$tables" || { ln -s "$(command -v "$tables")" "$W/bin/iptables" && break; }
	done
	dockerd_start "$W" env --containerd "$W/containerd.sock" --config-file "$W/daemon.json"
	box_archive
	dock import "$W/root.tar" box
}

teardown_file() {
	[ -z "${W:-}" ] || remove_all || true
	engine_end
}

teardown() { [ -z "${W:-}" ] || remove_all; }

dockerd_start() { # FOLDER WITHIN OPTION...: with its state and socket there, executed by what begins with the words WITHIN
	local folder=$1 within=$2 driver=cgroupfs parent=/$MARK
	shift 2
	[ "$ENGINE" = docker ] || driver=systemd parent=system.slice
	mkdir -p "$folder"
	# shellcheck disable=SC2086 # words
	PATH=$W/bin:$PATH daemon "dockerd-${folder##*/}" $within dockerd --host "unix://$folder/docker.sock" --add-runtime "rt=$RT_BIN" --default-runtime rt \
		--data-root "$folder/docker" --exec-root "$folder/exec" --pidfile "$folder/docker.pid" --storage-driver vfs \
		--cgroup-parent "$parent" --default-ulimit nofile=1024:1024 --iptables=false --ip6tables=false --bridge=none \
		--exec-opt "native.cgroupdriver=$driver" "$@"
	answers() { FOLDER=$folder dock version >/dev/null 2>&1; }
	eventually answers || { tail -n 20 "$W/dockerd-${folder##*/}.log" >&2; return 1; }
}

dock() { docker --host "unix://${FOLDER:-$W}/docker.sock" "$@" 3>&-; }
remove_all() {
	local ids
	ids=$(dock ps --all --quiet)
	# shellcheck disable=SC2086 # a list of words
	[ -z "$ids" ] || dock rm --force $ids >/dev/null
}
run_box() { dock run --network none "$@"; }
field() { dock inspect --format "{{.$2}}" "$1"; }
pid_of() { field "$1" State.Pid; }
nat_by() { command -v "$1" >/dev/null && unshare --net "$1" -t nat -N RT >/dev/null 2>&1; }
can_join() { unshare --net sh -c 'ip link add name rtbridge type bridge && ip link add name rtone type veth peer name rttwo' 2>/dev/null; }

@test "[default] the runtime under test is the default" {
	equal "$(dock info --format '{{.DefaultRuntime}}')" rt
	run_box -d --name one box sleep 1000
	equal "$(field one HostConfig.Runtime)" rt
}

@test "[limits] memory, cpu and pids are in the kernel" {
	run_box -d --name one -m 64m --cpus 0.5 --pids-limit 50 box sleep 1000
	pid=$(pid_of one)
	equal "$(kernel "$pid" memory)" $((64 << 20))
	equal "$(kernel "$pid" cpu)" 50
	equal "$(kernel "$pid" pids)" 50
}

@test "[limits] the container is in a cgroup of the driver" {
	id=$(run_box -d -m 64m box sleep 1000)
	path=$(cgroup_of "$(pid_of "$id")" memory)
	if [ "$ENGINE" = docker ]; then contains "$path" "/$MARK/$id"
	else contains "$path" "/system.slice/docker-$id.scope"; fi
}

@test "[limits] swap is what --memory-swap leaves beside memory" {
	# OPTION, what the kernel has on v1 (memory and swap), and on v2 (swap alone).
	for case in "64m $((64 << 20)) 0" "96m $((96 << 20)) $((32 << 20))" "-1 9223372036854771712 max"; do
		read -r option both alone <<<"$case"
		run run_box -d -m 64m --memory-swap "$option" box sleep 1000
		equal "$status" 0
		found=$(swap_of "$(pid_of "${lines[-1]}")")
		[ -n "$found" ] || skip "needs swap accounting in the kernel"
		if on_v1; then equal "$option $found" "$option $both"; else equal "$option $found" "$option $alone"; fi
	done
}

# What takes a stage between rt and init, and hooks that are told its pid. dockerd's own containerd: both see other subordinate ids.
@test "[limits] they hold with --userns-remap, for containers that start at once, and exec is under them" {
	local n jobs=() pid inner
	chmod 711 "$W"
	printf "%s:100000:65536\n" nobody nogroup >"$W/ids"
	printf '#!/bin/sh\nmount --bind "%s/ids" /etc/subuid && mount --bind "%s/ids" /etc/subgid && exec "$@"\n' "$W" "$W" >"$W/remapped"
	chmod +x "$W/remapped"
	FOLDER=$W/remap
	dockerd_start "$FOLDER" "unshare --mount --propagation private $W/remapped" --userns-remap nobody:nogroup
	dock import "$W/root.tar" box
	for n in $(seq "${RT_MANY:-8}"); do
		run_box -d --name "many$n" -m 64m --cpus 0.5 --pids-limit 50 --oom-score-adj 500 box sleep 1000 &
		jobs+=($!)
	done
	for n in "${jobs[@]}"; do wait "$n"; done
	for n in $(seq "${RT_MANY:-8}"); do
		pid=$(pid_of "many$n")
		equal "$(awk '{ print $1, $2, $3 }' "/proc/$pid/uid_map")" "0 100000 65536"
		is_within "$pid" "$(field "many$n" Id)"
		dock exec -d "many$n" sleep 999
		eventually two "$pid"
		for inner in $(members "$pid"); do equal "$(limits_of "$inner")" "$((64 << 20)) 50 50 500 1024"; done
	done
}

@test "[network] containers of a user-made network find and reach each other by name" {
	can_join || skip "needs bridge and veth in the kernel"
	[ -e "$W/bin/iptables" ] || skip "needs nat by iptables in the kernel"
	dock network create --subnet 10.88.77.0/24 --opt com.docker.network.bridge.name="rt$$" net
	dock run -d --network net --name server -m 64m box sh -c 'while :; do echo hello | nc -l -p 8080; done'
	heard() { dock run --rm --network "$1" box sh -c 'nc -w 5 server 8080 </dev/null' | grep -qx hello; }
	eventually heard net
	! heard none
	dock rm --force server
	dock network rm net
}

@test "[exec] status, output, and programs that cannot be run" {
	run_box -d --name one box sleep 1000
	run dock exec one sh -c 'echo inside; exit 4'
	equal "$status $output" "4 inside"
	run -127 run_box --rm box /no/such
	run run_box --rm box /etc/passwd
	equal "$status" 126
	# dockerd's own hint, which it makes of the runtime's words.
	run run_box --rm --volume /tmp:/etc/passwd box true
	contains "$output" "Are you trying to mount a directory onto a file"
	contains "$(dock top one)" "sleep 1000"
}

@test "[logs] both streams are kept" {
	run_box --name one box sh -c 'echo out; echo err >&2'
	run dock logs one
	contains "$output" out
	contains "$output" err
}

@test "[stop] SIGTERM comes first, and SIGKILL when the time is over" {
	run_box -d --name one box sh -c 'trap "echo bye; exit 0" TERM; echo ready; while :; do sleep 0.05; done'
	ready() { dock logs one | grep -q ready; }
	eventually ready
	dock stop --time 20 one
	contains "$(dock logs one)" bye
	run_box -d --name two box sleep 1000
	dock stop --time 1 two
	equal "$(field two State.ExitCode)" 137
}

@test "[pause] the kernel freezes it, and thaws it" {
	run_box -d --name one box sleep 1000
	pid=$(pid_of one)
	dock pause one
	equal "$(kernel "$pid" frozen) $(field one State.Status)" "1 paused"
	dock unpause one
	equal "$(kernel "$pid" frozen) $(field one State.Status)" "0 running"
}

@test "[update] a running container's limit" {
	run_box -d --name one -m 64m box sleep 1000
	dock update --memory 48m --memory-swap 96m one
	equal "$(kernel "$(pid_of one)" memory)" $((48 << 20))
}

@test "[restart] a new process under the same limit" {
	run_box -d --name one -m 64m box sleep 1000
	before=$(pid_of one)
	dock restart --time 0 one
	[ "$(pid_of one)" != "$before" ]
	equal "$(kernel "$(pid_of one)" memory)" $((64 << 20))
}

@test "[stats] usage is shown against the limit" {
	run_box -d --name one -m 64m box sleep 1000
	contains "$(dock stats --no-stream --format '{{.MemUsage}}' one)" "/ 64MiB"
}

@test "[oom] OOMKilled is reported" {
	local fill=$FILL
	[ "$ENGINE" = docker ] || fill=$FILL_AND_OUTLIVE
	run run_box --name oom -m 32m --memory-swap 32m box sh -c "$fill"
	equal "$status" 137
	equal "$(field oom State.OOMKilled)" true
}

@test "[hooks] the node's proof lets a limited container run, and no other" {
	run run_box --rm --runtime proving -m 16m box echo ran
	equal "$status $output" "0 ran"
	run run_box --rm --runtime proving box echo ran
	[ "$status" != 0 ]
	contains "$output" "it must not run: refused (unlimited)"
}

@test "[cleanup] no cgroup, mount, process or state is left" {
	id=$(run_box -d -m 64m box sleep 1000)
	pid=$(pid_of "$id")
	dock rm --force "$id"
	ended "$pid"
	equal "$(left_of "$id")" ""
	[ ! -e "$W/exec/runtime-runc/moby/$id" ]
}

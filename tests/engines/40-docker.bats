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
	local driver=cgroupfs parent=/$MARK
	[ "$ENGINE" = docker ] || driver=systemd parent=system.slice
	containerd_start
	printf '{"runtimes":{"proving":{"path":"%s","runtimeArgs":["--proof","prestart:enforce"]}}}' "$RT_BIN" >"$W/daemon.json"
	# The names of a user-made network are found by rules of nat that dockerd makes in the container's network namespace.
	local tables
	mkdir "$W/bin"
	for tables in iptables iptables-legacy; do
		! nat_by "$tables" || { ln -s "$(command -v "$tables")" "$W/bin/iptables" && break; }
	done
	PATH=$W/bin:$PATH daemon dockerd dockerd --containerd "$W/containerd.sock" --host "unix://$W/docker.sock" --config-file "$W/daemon.json" \
		--add-runtime "rt=$RT_BIN" --default-runtime rt --data-root "$W/docker" --exec-root "$W/exec" --pidfile "$W/docker.pid" \
		--storage-driver vfs --cgroup-parent "$parent" --default-ulimit nofile=1024:1024 --iptables=false --ip6tables=false \
		--bridge=none --exec-opt "native.cgroupdriver=$driver"
	answers() { dock version >/dev/null 2>&1; }
	eventually answers || { tail -n 20 "$W/dockerd.log" >&2; return 1; }
	box_archive
	dock import "$W/root.tar" box
}

teardown_file() {
	[ -z "${W:-}" ] || remove_all || true
	engine_end
}

teardown() { [ -z "${W:-}" ] || remove_all; }

dock() { docker --host "unix://$W/docker.sock" "$@" 3>&-; }
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

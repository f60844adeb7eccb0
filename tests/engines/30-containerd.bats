#!/usr/bin/env bats
# containerd by ctr, through the runc v2 shim.

load helpers

IMAGE=docker.io/library/box:latest

setup_file() {
	command -v containerd >/dev/null && command -v ctr >/dev/null || return 0
	engine_setup containerd "$(containerd --version | awk '{ print $3 }')"
	containerd_start
	box_image docker.io/library/box:latest
	task_ctr image import --no-unpack "$W/image.tar"
}

teardown_file() {
	remove_all
	engine_end
	[ -z "${MARK:-}" ] || rm -rf "/run/containerd/runc/$MARK"
}

setup() { needs containerd ctr; }
teardown() { remove_all; }

task_ctr() { ctr --address "$W/containerd.sock" --namespace "$MARK" "$@" 3>&-; }
run_box() { task_ctr run --runc-binary "$RT_BIN" --snapshotter native "$@"; }
remove_all() {
	local name
	[ -z "${W:-}" ] || for name in $(task_ctr container ls --quiet); do remove "$name"; done
}
remove() {
	task_ctr task rm --force "$1" >/dev/null 2>&1 || true
	task_ctr container rm "$1" || true
}
pid_of() { task_ctr task ls | awk -v n="$1" '$1 == n { print $2 }'; }
status_of() { task_ctr task ls | awk -v n="$1" '$1 == n { print $3 }'; }

@test "[limits] memory and cpu are in the kernel" {
	run_box -d --memory-limit 67108864 --cpus 0.5 $IMAGE one sleep 1000
	pid=$(pid_of one)
	equal "$(kernel "$pid" memory)" $((64 << 20))
	equal "$(kernel "$pid" cpu)" 50
}

@test "[exec] status, output, and a program that is missing" {
	run_box -d $IMAGE one sleep 1000
	run task_ctr task exec --exec-id e1 one sh -c 'echo inside; exit 4'
	equal "$status $output" "4 inside"
	run run_box --rm $IMAGE missing /no/such
	[ "$status" != 0 ]
	contains "$output" "no such file or directory"
}

@test "[logs] output and exit status reach the client" {
	run run_box --rm $IMAGE one sh -c 'echo from containerd; exit 5'
	equal "$status $output" "5 from containerd"
}

@test "[exec] the task's processes are listed" {
	run_box -d $IMAGE one sleep 1000
	contains "$(task_ctr task ps one)" "$(pid_of one)"
}

@test "[pause] the kernel freezes it, and thaws it" {
	run_box -d $IMAGE one sleep 1000
	pid=$(pid_of one)
	task_ctr task pause one
	equal "$(kernel "$pid" frozen) $(status_of one)" "1 PAUSED"
	task_ctr task resume one
	equal "$(kernel "$pid" frozen) $(status_of one)" "0 RUNNING"
}

@test "[stats] the task's metrics have its memory" {
	run_box -d --memory-limit 67108864 $IMAGE one sleep 1000
	run task_ctr task metrics one
	equal "$status" 0
	[[ $output =~ memory\.(usage_in_bytes|usage|limit_in_bytes) ]]
}

@test "[oom] the shim publishes the OOM kill" {
	task_ctr events >"$W/events" &
	echo $! >>"$W/daemons"
	run run_box --memory-limit 33554432 $IMAGE oom sh -c "$FILL"
	equal "$status" 137
	published() { grep -q /tasks/oom "$W/events"; }
	eventually published
}

@test "[stop] a signal ends it" {
	run_box -d $IMAGE one sleep 1000
	task_ctr task kill --signal SIGKILL one
	stopped() { [ "$(status_of one)" = STOPPED ]; }
	eventually stopped
	remove one
	contains "$("$RT_BIN" --root "/run/containerd/runc/$MARK" why one)" "killed by SIGKILL, sent with 'kill'"
}

@test "[cleanup] no cgroup, mount, process or state is left" {
	run_box -d --memory-limit 67108864 $IMAGE left-over sleep 1000
	pid=$(pid_of left-over)
	remove left-over
	ended "$pid"
	equal "$(left_of left-over)" ""
	[ ! -e "/run/containerd/runc/$MARK/left-over" ]
}

@test "[hooks] hooks at the start that fail are an error, and what follows is quiet" {
	local bundle=$W/failing stage
	mkdir -p "$bundle"
	for stage in poststart startContainer; do
		rm -f "$bundle/config.json"
		"$RT_BIN" spec --bundle "$bundle"
		sed -i -e 's/"terminal": true/"terminal": false/' -e "s,\"path\": \"rootfs\",\"path\": \"$W/box\"," -e 's/"readonly": true/"readonly": false/' \
			-e 's|"ociVersion"|"hooks": { "'$stage'": [{ "path": "/bin/false" }] }, &|' "$bundle/config.json"
		run task_ctr run --runc-binary "$RT_BIN" --config "$bundle/config.json" "$stage"
		[ "$status" != 0 ]
		contains "$output" "error running $stage hook #0: exit status 1"
		[[ $output != *"does not exist"* ]]
		run ! grep -i "does not exist" "$W/containerd.log"
		remove "$stage"
	done
}

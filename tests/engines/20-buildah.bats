#!/usr/bin/env bats
# buildah, as root.

load helpers

setup_file() {
	command -v buildah >/dev/null || return 0
	engine_setup buildah "$(buildah --version | awk '{ print $3 }')"
	printf '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n[engine]\ncgroup_manager = "cgroupfs"\n' >"$W/containers.conf"
	export CONTAINERS_CONF=$W/containers.conf
	box_archive
	bud from --name work scratch
	bud add work "$W/root.tar" /
}

teardown_file() {
	[ -z "${W:-}" ] || bud rm --all || true
	engine_end
}

setup() { needs buildah; }

bud() { buildah --storage-driver vfs --root "$W/root" --runroot "$W/run" "$@" 3>&-; }
run_box() { bud run --runtime "$RT_BIN" --isolation oci --network none "$@"; }

@test "[build] a command changes the container's root" {
	equal "$(run_box work -- sh -c 'echo from buildah >/file; cat /file')" "from buildah"
	equal "$(run_box work -- cat /file)" "from buildah"
}

@test "[exec] the exit status is passed on" {
	run run_box work -- sh -c 'exit 9'
	equal "$status" 9
}

@test "[limits] memory and cpu are those of --memory and --cpu-quota" {
	bud from --name limited --memory 64m --cpu-period 100000 --cpu-quota 50000 scratch
	bud add limited "$W/root.tar" /
	mkfifo "$W/go"
	run_box --volume "$W:/w" limited -- sh -c 'cat /w/go' &
	running() { pid=$(pgrep -fx 'cat /w/go'); }
	eventually running
	memory=$(kernel "$pid" memory) cpu=$(kernel "$pid" cpu)
	echo >"$W/go"
	wait
	equal "$memory $cpu" "$((64 << 20)) 50"
}

@test "[cleanup] no process or mount of a run is left" {
	run_box work -- true
	equal "$(grep -F "$W/root/vfs" /proc/self/mountinfo | grep -F /buildah || true)" ""
	equal "$("$RT_BIN" list --quiet | grep buildah || true)" ""
}

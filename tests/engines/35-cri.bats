#!/usr/bin/env bats
# containerd's CRI plug-in, as the kubelet calls it, by the client `cri` beside this file. Pods share the host's network, so that no CNI is needed.
# What is about cgroups is done with each manager: cgroupfs, and systemd where it runs.

load helpers

IMAGE=docker.io/library/box:latest
MANAGERS=(cgroupfs)
[ ! -d /run/systemd/system ] || MANAGERS+=(systemd)

setup_file() {
	python_grpc && command -v containerd >/dev/null && command -v ctr >/dev/null || return 0
	engine_setup containerd-cri "$(containerd --version | awk '{ print $3 }')"
	containerd_start "$(cri_config)"
	box_image $IMAGE '["sleep","1000000"]'
	ctr --address "$W/containerd.sock" --namespace k8s.io image import --snapshotter native "$W/image.tar" 3>&-
	known() { call images | grep -qxF $IMAGE; }
	eventually known || { tail -n 20 "$W/containerd.log" >&2; return 1; }
}

teardown_file() {
	remove_all
	engine_end
}

setup() {
	needs containerd ctr
	python_grpc || skip "needs python3-grpcio and python3-protobuf"
}
teardown() { remove_all; }

python_grpc() { /usr/bin/python3 -c 'import grpc, google.protobuf' 2>/dev/null; }

cri_config() {
	local plugin=io.containerd.grpc.v1.cri manager
	[ "$(containerd_config)" = 2 ] || plugin=io.containerd.cri.v1.runtime
	printf '%s\n' "[plugins.'$plugin']" 'disable_apparmor = true' 'restrict_oom_score_adj = true'
	[ "$(containerd_config)" = 3 ] || echo "sandbox_image = '$IMAGE'"
	printf '%s\n' "[plugins.'$plugin'.containerd]" "default_runtime_name = 'rt-cgroupfs'"
	[ "$(containerd_config)" = 2 ] || printf '%s\n' "[plugins.'io.containerd.cri.v1.images']"
	printf '%s\n' "snapshotter = 'native'"
	[ "$(containerd_config)" = 2 ] || printf '%s\n' "[plugins.'io.containerd.cri.v1.images'.pinned_images]" "sandbox = '$IMAGE'"
	for manager in cgroupfs systemd; do
		cat <<-T
			[plugins.'$plugin'.containerd.runtimes.rt-$manager]
			runtime_type = 'io.containerd.runc.v2'
			pod_annotations = ['rt.*']
			container_annotations = ['rt.*']
			[plugins.'$plugin'.containerd.runtimes.rt-$manager.options]
			BinaryName = '$RT_BIN'
			Root = '$W/runc'
			SystemdCgroup = $([ $manager = systemd ] && echo true || echo false)
		T
	done
	printf '%s\n' "[plugins.'io.containerd.nri.v1.nri']" 'disable = true'
}

call() { "$BATS_TEST_DIRNAME/cri" "$W/containerd.sock" "$@" 3>&-; }

parent() { [ "$MANAGER" = systemd ] && echo "${MARK//-/_}.slice" || echo "/$MARK"; }

pod() { # NAME [ANNOTATIONS]: PodSandboxConfig
	cat <<-J
		{"metadata": {"name": "$1", "uid": "$1", "namespace": "default"}, "log_directory": "$W/logs", "annotations": {${2-}},
		 "linux": {"cgroup_parent": "$(parent)", "security_context": {"namespace_options": {"network": 2, "pid": 1}}}}
	J
}

sandbox() { # NAME [ANNOTATIONS]: a pod is ready; its id in $SANDBOX
	SANDBOX=$(call run-sandbox "$(pod "$@")" "rt-$MANAGER")
	echo "$SANDBOX" >>"$W/sandboxes"
}

create() { # NAME RESOURCES ANNOTATIONS COMMAND...: a container in the sandbox; its id in $ID
	local name=$1 resources=$2 annotations=$3 arguments
	shift 3
	arguments=$(printf ', "%s"' "${@//\"/\\\"}")
	ID=$(call create "$SANDBOX" '{"metadata": {"name": "'"$name"'"}, "image": {"image": "'$IMAGE'"}, "command": ['"${arguments#, }"'],
		"log_path": "'"$name"'.log", "annotations": {'"$annotations"'},
		"linux": {"resources": {'"$resources"'}, "security_context": {"namespace_options": {"network": 2, "pid": 1}}}}' "$(pod "$name" "${POD_ANNOTATIONS-}")")
}

run_box() { # NAME RESOURCES COMMAND...: a container that was started
	local name=$1 resources=$2
	shift 2
	create "$name" "$resources" "" "$@"
	call start "$ID"
}

pod_limit() { # BYTES: of the pod's cgroup, as the kubelet sets it
	if [ "$MANAGER" = systemd ]; then systemctl set-property --runtime "$(parent)" "MemoryMax=$1"
	elif on_v1; then echo "$1" >"/sys/fs/cgroup/memory$(parent)/memory.limit_in_bytes"
	else echo "$1" >"/sys/fs/cgroup$(parent)/memory.max"; fi
}

proofs() { cat "$W/containerd/state/io.containerd.runtime.v2.task/k8s.io/$ID/rt-proofs.jsonl"; }

field() { call status "$ID" "$1"; }
exited() { [ "$(field state)" = exited ]; }

remove_all() {
	local id
	[ -z "${W:-}" ] || for id in $(cat "$W/sandboxes" 2>/dev/null); do
		call stop-sandbox "$id"
		call remove-sandbox "$id"
	done
	[ -z "${W:-}" ] || rm -f "$W/sandboxes"
	# The kubelet removes the pod's cgroup.
	[ ! -d /run/systemd/system ] || systemctl stop "$(MANAGER=systemd parent)" 2>/dev/null || true
	find /sys/fs/cgroup -depth -type d -name "${MARK:-none}" -exec rmdir {} + 2>/dev/null || true
}

LIMITS='"memory_limit_in_bytes": 67108864, "cpu_period": 100000, "cpu_quota": 50000'
SLEEP=(sleep 1000)

@test "[version] the runtime interface answers" {
	contains "$(call version)" "containerd "
}

@test "[limits] memory and cpu of a container are in the kernel, in the pod's cgroup" {
	for MANAGER in "${MANAGERS[@]}"; do
		sandbox "limits-$MANAGER"
		run_box one "$LIMITS" "${SLEEP[@]}"
		pid=$(field pid)
		equal "$(kernel "$pid" memory) $(kernel "$pid" cpu)" "$((64 << 20)) 50"
		contains "$(cat "/proc/$pid/cgroup")" "$(parent)/"
	done
}

@test "[exec] status, output, a program that is missing, and a time limit" {
	MANAGER=cgroupfs sandbox exec
	run_box one "" "${SLEEP[@]}"
	run --separate-stderr call exec-sync "$ID" 0 sh -c 'echo inside; echo beside >&2; exit 4'
	equal "$status $output $stderr" "4 inside beside"
	run call exec-sync "$ID" 0 /no/such
	equal "$status" 125
	contains "$output" "no such file or directory"
	run call exec-sync "$ID" 1 sleep 100
	equal "$status" 125
	contains "$output" "DEADLINE_EXCEEDED"
}

@test "[logs] lines have the interface's format" {
	MANAGER=cgroupfs sandbox logs
	run_box one "" sh -c 'echo to stdout; echo to stderr >&2; printf part'
	eventually exited
	equal "$(cut -d ' ' -f 2- "$(field log_path)" | sort)" "$(printf '%s\n' 'stderr F to stderr' 'stdout F to stdout' 'stdout P part')"
	[[ $(head -n 1 "$(field log_path)") =~ ^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|[+-][0-9:]{5})\  ]]
}

@test "[stop] a signal first, and SIGKILL after the time of grace" {
	MANAGER=cgroupfs sandbox stop
	run_box one "" sh -c 'trap "exit 9" TERM; echo ready; while :; do sleep 0.1; done'
	ready() { grep -q ready "$(field log_path)"; }
	eventually ready
	call stop "$ID" 60
	equal "$(call status "$ID" state exit_code)" "exited 9"
	run_box two "" "${SLEEP[@]}"
	call stop "$ID" 1
	equal "$(call status "$ID" state exit_code)" "exited 137"
}

@test "[update] limits change in the kernel" {
	for MANAGER in "${MANAGERS[@]}"; do
		sandbox "update-$MANAGER"
		run_box one "$LIMITS" "${SLEEP[@]}"
		pid=$(field pid)
		call update "$ID" '{"memory_limit_in_bytes": 134217728, "cpu_period": 100000, "cpu_quota": 25000}'
		equal "$(kernel "$pid" memory) $(kernel "$pid" cpu)" "$((128 << 20)) 25"
	done
}

@test "[restart] another container takes the place of one that ended, with its limit" {
	MANAGER=cgroupfs sandbox restart
	run_box one "$LIMITS" sh -c 'exit 3'
	eventually exited
	equal "$(call status "$ID" exit_code reason)" "3 Error"
	call remove "$ID"
	run_box one "$LIMITS" "${SLEEP[@]}"
	equal "$(field state) $(kernel "$(field pid)" memory)" "running $((64 << 20))"
}

@test "[stats] memory and cpu have been used" {
	MANAGER=cgroupfs sandbox stats
	run_box one "$LIMITS" sh -c 'dd if=/dev/zero of=/dev/shm/fill bs=1M count=20 && exec sleep 1000'
	filled() { read -r usage cpu <<<"$(call stats "$ID" usage_bytes usage_core_nano_seconds)" && [ "$usage" -gt $((20 << 20)) ] && [ "$cpu" -gt 0 ]; }
	eventually filled
	[ "$usage" -lt $((64 << 20)) ]
}

@test "[oom] OOMKilled is reported, of the container's limit and of the pod's" {
	for MANAGER in "${MANAGERS[@]}"; do
		sandbox "oom-$MANAGER"
		run_box one '"memory_limit_in_bytes": 33554432' sh -c "$FILL"
		eventually exited
		equal "$(call status "$ID" exit_code reason)" "137 OOMKilled"
		pod_limit $((32 << 20))
		run_box two "" sh -c "$FILL"
		eventually exited
		equal "$(call status "$ID" exit_code reason)" "137 OOMKilled"
	done
}

@test "[oom] memory.oom.group, as the kubelet sets it, ends the whole container" {
	! on_v1 || skip "needs cgroup v2"
	for MANAGER in "${MANAGERS[@]}"; do
		sandbox "group-$MANAGER"
		run_box one '"memory_limit_in_bytes": 33554432, "unified": {"memory.oom.group": "1"}' sh -c "(${FILL#exec }); exec sleep 1000"
		eventually exited
		equal "$(call status "$ID" exit_code reason)" "137 OOMKilled"
	done
}

PROVE='"rt.memory.test": "prestart"'
@test "[hooks] a container's annotation proves its limit" {
	for MANAGER in "${MANAGERS[@]}"; do
		sandbox "hooks-$MANAGER"
		for policy in record enforce; do
			create "$policy" "$LIMITS$(on_v1 || echo ', "unified": {"memory.oom.group": "1"}')" "$PROVE, \"rt.memory.policy\": \"$policy\"" "${SLEEP[@]}"
			call start "$ID"
			equal "$(field state)" running
			contains "$(proofs)" '"verdict":"enforced"'
		done
		create refused "" "$PROVE, \"rt.memory.policy\": \"enforce\"" "${SLEEP[@]}"
		run call start "$ID"
		equal "$status" 125
		contains "$output" "it must not run: refused (unlimited)"
		equal "$(call status "$ID" state reason)" "exited StartError"
	done
}

@test "[hooks] a pod's annotations are for its containers" {
	MANAGER=cgroupfs sandbox pod "$PROVE, \"rt.memory.policy\": \"enforce\""
	POD_ANNOTATIONS="$PROVE, \"rt.memory.policy\": \"enforce\"" create one "$LIMITS" "" "${SLEEP[@]}"
	call start "$ID"
	contains "$(proofs)" '"verdict":"enforced"'
}

@test "[cleanup] no cgroup, mount, process or state is left" {
	for MANAGER in "${MANAGERS[@]}"; do
		sandbox "cleanup-$MANAGER"
		run_box one "$LIMITS" "${SLEEP[@]}"
		pid=$(field pid)
		call stop "$ID" 0
		call remove "$ID"
		ended "$pid"
		equal "$(left_of "$ID")" ""
		remove_all
		equal "$(left_of "$SANDBOX")" ""
		equal "$(ls "$W/runc/k8s.io")" ""
		[ "$(call list)" = "" ]
	done
}

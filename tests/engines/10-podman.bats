#!/usr/bin/env bats
# podman as root with the cgroupfs manager. 11-podman-systemd.bats (systemd's manager) and 12-podman-rootless.bats (an ordinary
# user, with what is delegated) are this file by other names.

load helpers
ENGINE=$(basename "$BATS_TEST_FILENAME" .bats)
ENGINE=${ENGINE#*-}

setup() {
	needs podman conmon
	case $ENGINE in
	podman-systemd) systemd || skip "needs systemd" ;;
	podman-rootless) needs newuidmap ;;
	esac
	cd "${W:-/}"
}

setup_file() {
	able || return 0
	engine_setup "$ENGINE" "$(podman --version | awk '{ print $3 }')"
	export MANAGER=cgroupfs PARENT=/$MARK
	case $ENGINE in
	podman-systemd) MANAGER=systemd PARENT= ;;
	podman-rootless)
		cp "$RT_BIN" "$W/rt"
		RT_BIN=$W/rt
		user_setup
		if on_v1; then PARENT=
		elif systemd; then MANAGER=systemd PARENT=; fi
		;;
	esac
	cat >"$W/containers.conf" <<-C
		[containers]
		default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
		[engine]
		cgroup_manager = "$MANAGER"
		events_logger = "file"
		infra_image = "localhost/infra"
	C
	printf '[storage]\ndriver = "vfs"\nrunroot = "%s/run"\ngraphroot = "%s/root"\n' "$W" "$W" >"$W/storage.conf"
	export CONTAINERS_CONF=$W/containers.conf CONTAINERS_STORAGE_CONF=$W/storage.conf
	box_archive
	pod import --change 'ENV PATH=/bin' "$W/root.tar" box
	# What keeps a pod's namespaces.
	pod import --change 'CMD ["/bin/sh","-c","trap exit TERM; /bin/sleep 1000 & wait"]' "$W/root.tar" infra
	mkdir "$W/hooks.d"
	local definition
	for definition in "$BATS_TEST_DIRNAME"/../../hooks/*.json; do
		sed "s,/usr/local/bin/rt,$RT_BIN," "$definition" >"$W/hooks.d/${definition##*/}"
	done
}

teardown_file() {
	[ -n "${W:-}" ] || return 0
	pod pod rm --all --force --time 0 || true
	pod rm --all --force --time 0 || true
	# What keeps the user's namespaces, and the parent of pods whose parent cannot be chosen.
	! pid=$(cat "$W/tmp/pause.pid" 2>/dev/null) || kill "$pid" || true
	find /sys/fs/cgroup -depth -type d -path "*/libpod_parent*" -exec rmdir {} + 2>/dev/null || true
	engine_end
}

# podman's own cleanup, which conmon starts where a container ends, may still be at it: then a mount is busy.
remove_all() { pod rm --all --force --time 0 >/dev/null; }
teardown() { [ -z "${W:-}" ] || eventually remove_all; }

me() { if [ "$ENGINE" = podman-rootless ]; then as_user "$@"; else "$@" 3>&-; fi; }
pod() {
	me podman --runtime "${RUNTIME:-$RT_BIN}" --cgroup-manager "$MANAGER" --tmpdir "$W/tmp" --storage-driver vfs --root "$W/root" \
		--runroot "$W/run" "$@"
}
run_box() { # OPTIONS... box COMMAND...
	pod ${HOOKS:+--hooks-dir "$HOOKS"} run --network none ${PARENT:+--cgroup-parent "$PARENT"} "$@"
}
pid_of() { pod inspect --format '{{.State.Pid}}' "$1"; }
field() { pod inspect --format "{{.$2}}" "$1"; }
# podman without root makes no cgroup on v1, whoever delegates one.
has_cgroups() { [ "$ENGINE" != podman-rootless ] || ! on_v1; }
needs_cgroups() { has_cgroups || skip "needs cgroup v2: podman without root makes no cgroup on v1"; }

@test "[limits] memory, cpu and pids are in the kernel" {
	run run_box -d --name one --memory 64m --cpus 0.5 --pids-limit 50 box sleep 1000
	equal "$status" 0
	pid=$(pid_of one)
	if ! has_cgroups; then
		contains "$output" "Resource limits are not supported and ignored"
		run "$RT_BIN" test-memory --pid "$pid" --expect 64
		contains "$output" "not-enforced (limit-not-applied)"
	fi
	needs_cgroups
	equal "$(kernel "$pid" memory)" $((64 << 20))
	equal "$(kernel "$pid" cpu)" 50
	equal "$(kernel "$pid" pids)" 50
}

@test "[limits] the container is in a cgroup of the manager" {
	needs_cgroups
	id=$(run_box -d --memory 64m box sleep 1000)
	path=$(cgroup_of "$(pid_of "$id")" memory)
	case $ENGINE in
	podman) contains "$path" "/$MARK/libpod-$id" ;;
	podman-systemd) contains "$path" "/machine.slice/libpod-$id.scope" ;;
	podman-rootless)
		if systemd; then contains "$path" "/user@1000.service/user.slice/libpod-$id.scope"
		else contains "$path" "/$MARK/libpod-$id"; fi
		;;
	esac
}

# What takes a stage between rt and init.
@test "[limits] they hold in a new user namespace and in a joined pid namespace, and exec is under them" {
	local user=(--uidmap 0:100000:1000 --gidmap 0:100000:1000) n pid inside
	[ "$ENGINE" != podman-rootless ] || user=(--userns keep-id)
	run_box -d --name holder box sleep 1000
	for n in $(seq "${RT_MANY:-3}"); do
		run_box -d --name "user$n" "${user[@]}" --memory 64m box sleep 1000
		run_box -d --name "pid$n" --pid container:holder --memory 64m --oom-score-adj 500 box sleep 1000
		for name in "user$n" "pid$n"; do
			pod exec -d "$name" sleep 999
			pid=$(pid_of "$name")
			equal "$(awk '/open files/ { print $4 }' "/proc/$pid/limits")" 1024
			has_cgroups || continue
			equal "$name $(kernel "$pid" memory)" "$name $((64 << 20))"
			is_within "$pid" "$(field "$name" Id)"
			eventually two "$pid"
		done
		equal "$(cat "/proc/$(pid_of "pid$n")/oom_score_adj")" 500
	done
	# Before what they depend on.
	for n in $(seq "${RT_MANY:-3}"); do pod rm --force --time 0 "pid$n"; done
	needs_cgroups
}

@test "[exec] a process in the container, its status, and a program that is missing" {
	run_box -d --name one box sleep 1000
	run pod exec --env A=b one sh -c 'echo $A; exit 3'
	equal "$status $output" "3 b"
	run -127 pod exec one /no/such
}

@test "[exec] the exit status of a container is passed on" {
	run run_box --rm box sh -c 'exit 7'
	equal "$status" 7
	run -127 run_box --rm box /no/such
	run run_box --rm box /etc/passwd
	equal "$status" 126
}

@test "[logs] both streams are kept" {
	run_box --name one box sh -c 'echo out; echo err >&2'
	run pod logs one
	contains "$output" out
	contains "$output" err
}

@test "[stop] SIGTERM comes first, and SIGKILL when the time is over" {
	run_box -d --name one box sh -c 'trap "echo bye; exit 0" TERM; echo ready; while :; do sleep 0.05; done'
	ready() { pod logs one | grep -q ready; }
	eventually ready
	pod stop --time 20 one
	contains "$(pod logs one)" bye
	run_box -d --name two box sleep 1000
	pod stop --time 1 two
	equal "$(field two State.ExitCode)" 137
}

@test "[pause] the kernel freezes it, and thaws it" {
	needs_cgroups
	run_box -d --name one box sleep 1000
	pid=$(pid_of one)
	pod pause one
	equal "$(kernel "$pid" frozen) $(field one State.Status)" "1 paused"
	pod unpause one
	equal "$(kernel "$pid" frozen) $(field one State.Status)" "0 running"
}

@test "[update] a running container's limit" {
	needs_cgroups
	run_box -d --name one --memory 64m box sleep 1000
	pod update --memory 48m one
	equal "$(kernel "$(pid_of one)" memory)" $((48 << 20))
}

@test "[restart] a new process under the same limit" {
	run_box -d --name one --memory 64m box sleep 1000
	before=$(pid_of one)
	pod restart --time 0 one
	[ "$(pid_of one)" != "$before" ]
	needs_cgroups
	equal "$(kernel "$(pid_of one)" memory)" $((64 << 20))
}

@test "[stats] usage is what the kernel counts, against the limit" {
	needs_cgroups
	run_box -d --name one --memory 64m box sleep 1000
	run pod stats --no-stream --format '{{.MemUsage}}' one
	contains "$output" "67.11MB"
}

@test "[oom] OOMKilled is reported" {
	needs_cgroups
	# conmon notes the kill in its working folder, which is podman's with podman 4.3, and podman looks in the container's.
	local fill=$FILL
	[ "$MANAGER" = cgroupfs ] || fill=$FILL_AND_OUTLIVE
	pod create --name oom --network none ${PARENT:+--cgroup-parent "$PARENT"} --memory 32m --shm-size 64m box sh -c "$fill"
	cd "$(field oom StaticDir)"
	run pod start --attach oom
	equal "$status" 137
	# conmon of podman 5.4 missed kills in a guest that had run for ten minutes, where the shims of containerd and docker saw theirs.
	[ "$(field oom State.OOMKilled)" = true ] || [ "${RT_GUEST:-host}" = host ] || skip "needs a conmon that sees the kill"
	equal "$(field oom State.OOMKilled)" true
}

@test "[hooks] hooks.d proves the limit in prestart and poststart, and records it" {
	needs_cgroups
	for stage in prestart poststart; do
		HOOKS=$W/hooks.d run_box -d --name "$stage" --memory 16m --annotation "rt.memory.test=$stage" box sleep 1000
		journal=$(dirname "$(field "$stage" OCIConfigPath)")/rt-proofs.jsonl
		proved() { grep -qs '"verdict":"enforced"' "$journal"; }
		eventually proved || { tail "$journal" >&2; return 1; }
	done
}

@test "[limits] without a limit of processes there is none" {
	needs_cgroups
	for limit in -1 0; do
		run run_box --rm --pids-limit "$limit" box sh -c 'sleep 0 & wait; echo forked'
		equal "$status $output" "0 forked"
	done
}

@test "[hooks] a poststart hook that fails is an error, and podman cleans up without another" {
	mkdir -p "$W/failing.d"
	echo '#!/bin/sh
		echo no >&2; exit 3' >"$W/failing"
	chmod 755 "$W" "$W/failing"
	echo '{"version":"1.0.0","hook":{"path":"'"$W/failing"'"},"when":{"always":true},"stages":["poststart"]}' >"$W/failing.d/failing.json"
	HOOKS=$W/failing.d run run_box -d --name one box sleep 1000
	[ "$status" != 0 ]
	contains "$output" "error running poststart hook #0: exit status 3"
	[[ $output != *"does not exist"* ]]
	run pod rm --force one
	[[ $output != *[Ee]rror* ]]
}

@test "[pods] members share the pod's network, each with its limit" {
	pod pod create --name p --network none ${PARENT:+--cgroup-parent "$PARENT"}
	pod run -d --pod p --name a --memory 64m box sh -c 'while :; do echo hello | nc -l -p 8080; done'
	pod run -d --pod p --name b --memory 48m box sleep 1000
	run_box -d --name alone box sleep 1000
	equal "$(readlink "/proc/$(pid_of a)/ns/net")" "$(readlink "/proc/$(pid_of b)/ns/net")"
	heard() { pod exec "$1" sh -c 'nc -w 2 127.0.0.1 8080 </dev/null' | grep -qx hello; }
	eventually heard b
	! heard alone
	needs_cgroups
	equal "$(kernel "$(pid_of a)" memory) $(kernel "$(pid_of b)" memory)" "$((64 << 20)) $((48 << 20))"
}

@test "[pods] kube play makes a pod with its limits, and kube down takes it away" {
	cat >"$W/pod.yaml" <<-Y
		apiVersion: v1
		kind: Pod
		metadata: { name: kube }
		spec:
		  containers:
		  - name: a
		    image: localhost/box:latest
		    imagePullPolicy: Never
		    command: [sh, -c, "trap exit TERM; sleep 1000 & wait"]
		    resources: { limits: { memory: 64Mi, cpu: 500m } }
		  - name: b
		    image: localhost/box:latest
		    imagePullPolicy: Never
		    command: [sh, -c, "trap exit TERM; sleep 1000 & wait"]
		    resources: { limits: { memory: 48Mi } }
	Y
	if ! has_cgroups; then
		# It hands these limits down all the same, and rt makes no container without them.
		run pod kube play --network none "$W/pod.yaml"
		contains "$output" "limits of cpu, memory cannot be enforced: not delegated to user 1000"
		pod kube down "$W/pod.yaml"
	fi
	needs_cgroups
	pod kube play --network none "$W/pod.yaml"
	a=$(pid_of kube-a) b=$(pid_of kube-b)
	equal "$(readlink "/proc/$a/ns/net")" "$(readlink "/proc/$b/ns/net")"
	[ "$(readlink "/proc/$a/ns/net")" != "$(readlink /proc/self/ns/net)" ]
	equal "$(kernel "$a" memory) $(kernel "$a" cpu) $(kernel "$b" memory)" "$((64 << 20)) 50 $((48 << 20))"
	pod kube down "$W/pod.yaml"
	ended "$a" && ended "$b"
	equal "$(pod pod ps --quiet)" ""
}

@test "[logs] a terminal is one" {
	contains "$(run_box --rm --tty box sh -c 'test -t 1 && tty')" /dev/
}

@test "[oom] rt tells why it died, also after podman removed it" {
	needs_cgroups
	[ "$MANAGER" = cgroupfs ] || me dmesg >/dev/null 2>&1 || skip "needs the kernel's log: systemd takes the counters away with the scope"
	run run_box --name oom --memory 32m --shm-size 64m box sh -c "$FILL"
	equal "$status" 137
	id=$(field oom Id)
	pod rm oom
	why=$(me "$RT_BIN" why "$id")
	if [ "$MANAGER" = cgroupfs ]; then contains "$why" "OOM-killed by its own limit of 32 MiB"
	else # by the kernel's log alone
		contains "$why" "OOM-killed by the limit on /"
		contains "$why" "/libpod-$id.scope, as the kernel's log tells"
	fi
}

@test "[health] a healthcheck runs in the container" {
	run_box -d --name one --health-cmd 'test -e /tmp/well' --health-interval disable --health-retries 1 box sleep 1000
	run pod healthcheck run one
	[ "$status" != 0 ]
	pod exec one touch /tmp/well
	pod healthcheck run one
}

@test "[build] RUN of a Containerfile" {
	mkdir -p "$W/context" && printf 'FROM localhost/box\nRUN echo built >/built && id -u >>/built\n' >"$W/context/Containerfile"
	echo '{"default":[{"type":"insecureAcceptAnything"}]}' >"$W/policy.json"
	pod build -q --network none --signature-policy "$W/policy.json" --tag built "$W/context"
	run run_box --rm built cat /built
	equal "$output" $'built\n0'
}

@test "[cleanup] no cgroup, mount, process or state is left" {
	id=$(run_box -d --memory 64m box sleep 1000)
	pid=$(pid_of "$id")
	contains "$(me "$RT_BIN" state "$id")" '"running"'
	pod rm --force --time 0 "$id"
	ended "$pid"
	equal "$(left_of "$id")" ""
	run me "$RT_BIN" state "$id"
	contains "$output" "does not exist"
}

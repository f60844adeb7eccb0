# What the engines' bats files share: an own folder, images from busybox, daemons, the kernel's numbers, the end of all of it.
# The runtime under test is $RT_BIN (tests/engines/run sets it).

bats_require_minimum_version 1.5.0

# A guest of tests/lab may be stopped for seconds: what failed there is tried up to twice more.
case ${RT_GUEST:-host} in host) ;; *) export BATS_TEST_RETRIES=2 ;; esac

# Fills memory past any small limit: /dev/shm is a tmpfs, and counts.
FILL='exec dd if=/dev/zero of=/dev/shm/fill bs=1M count=60'
# systemd takes a scope away with its last process, before an engine has read its events (with runc too): here the shell outlives the kill.
FILL_AND_OUTLIVE='dd if=/dev/zero of=/dev/null bs=60M count=1; status=$?; sleep 6; exit $status'

engine_setup() { # NAME VERSION: the folder of this file's engine, once
	echo "# engine $1 $2" >&3
	RT_BIN=$(realpath "${RT_BIN:?the runtime under test}")
	W=$(mktemp -d "/tmp/rt-engines-$1.XXXXXX")
	MARK=rt$BASHPID-$1
	export RT_BIN W MARK
}

needs() { # PROGRAM...
	local program
	[ "$(id -u)" = 0 ] || skip "needs root"
	for program; do command -v "$program" >/dev/null || skip "needs $program"; done
}

able() { (skip() { exit 1; } && setup); } # whether the file's tests can run here

systemd() { [ -d /run/systemd/system ]; }

on_v1() { [ ! -e /sys/fs/cgroup/cgroup.controllers ]; }

eventually() { # COMMAND...: for 20 seconds
	local end=$((SECONDS + 20))
	while ! "$@"; do
		[ "$SECONDS" -lt "$end" ] || { echo "not within 20 s: $*" >&2; return 1; }
		sleep 0.1
	done
}

box_root() { # FOLDER: a busybox root file system
	mkdir -p "$1"/{bin,etc,dev,proc,sys,tmp,root}
	cp /bin/busybox "$1/bin/"
	chroot "$1" /bin/busybox --install -s /bin
	echo 'root:x:0:0:root:/root:/bin/sh' >"$1/etc/passwd"
}

box_archive() { # the tar of such a root, $W/root.tar
	box_root "$W/box"
	tar -C "$W/box" -cf "$W/root.tar" .
}

box_image() { # NAME [COMMAND]: an image in docker's archive format, $W/image.tar; its command as JSON
	local command=${2:-'["sh"]'}
	box_archive
	mkdir -p "$W/image"
	cp "$W/root.tar" "$W/image/layer.tar"
	local sum arch=amd64
	[ "$(uname -m)" = aarch64 ] && arch=arm64
	sum=$(sha256sum <"$W/root.tar")
	cat >"$W/image/config.json" <<-J
		{"architecture":"$arch","os":"linux","config":{"Env":["PATH=/bin"],"Cmd":$command},
		"rootfs":{"type":"layers","diff_ids":["sha256:${sum%% *}"]}}
	J
	echo '[{"Config":"config.json","RepoTags":["'"$1"'"],"Layers":["layer.tar"]}]' >"$W/image/manifest.json"
	tar -C "$W/image" -cf "$W/image.tar" manifest.json config.json layer.tar
}

daemon() { # NAME COMMAND...: in the background, its pid kept for daemons_end
	local name=$1
	shift
	"$@" >"$W/$name.log" 2>&1 </dev/null 3>&- &
	echo $! >>"$W/daemons"
}

containerd_start() { # [CRI]: containerd with everything of its own, at $W/containerd.sock; with the CRI plug-in if its configuration is given
	local cri='"io.containerd.grpc.v1.cri", '
	cat >"$W/containerd.toml" <<-T
		version = $(containerd_config)
		root = "$W/containerd/root"
		state = "$W/containerd/state"
		disabled_plugins = [$([ $# -gt 0 ] || echo "$cri")"io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper"]
		[grpc]
		address = "$W/containerd.sock"
		[ttrpc]
		address = "$W/containerd.sock.ttrpc"
		${1-}
	T
	daemon containerd containerd --config "$W/containerd.toml"
	eventually ctr_answers || { tail -n 20 "$W/containerd.log" >&2; return 1; }
}

# The version of its configuration: containerd 2 has names of its own.
containerd_config() { case $(containerd --version) in */containerd/v2*) echo 3 ;; *) echo 2 ;; esac; }
ctr_answers() { ctr --address "$W/containerd.sock" --connect-timeout 1s version >/dev/null 2>&1; }

user_setup() { # the folder is that of an ordinary user, who has subordinate ids in a mount namespace alone
	export RUNTIME_DIR=$W/runtime
	mkdir "$W/home" "$W/runtime"
	if systemd; then
		systemctl start user@1000
		RUNTIME_DIR=/run/user/1000
	fi
	printf 'root:x:0:0::/root:/bin/sh\nrt:x:1000:1000::%s:/bin/sh\n' "$W/home" >"$W/passwd"
	printf 'root:x:0:\nrt:x:1000:\n' >"$W/group"
	echo rt:100000:65536 >"$W/ids"
	# shellcheck disable=SC2016 # expanded there
	daemon user unshare --mount --propagation private sh -c 'cd "$0" && mount --make-rshared / &&
		mount --bind passwd /etc/passwd && mount --bind group /etc/group &&
		mount --bind ids /etc/subuid && mount --bind ids /etc/subgid && touch user && exec sleep infinity' "$W"
	USER_PID=$!
	eventually test -e "$W/user"
	if ! systemd && ! on_v1; then
		# What an administrator delegates: a cgroup that is the user's, with the user's processes in it.
		DELEGATED=/sys/fs/cgroup/$MARK
		mkdir -p "$DELEGATED/shell"
		chown -R 1000:1000 "$DELEGATED"
	fi
	chown -R 1000:1000 "$W"
	export USER_PID RUNTIME_DIR DELEGATED
}

as_user() ( # COMMAND...
	exec 3>&-
	[ -z "$DELEGATED" ] || echo "$BASHPID" >"$DELEGATED/shell/cgroup.procs"
	HOME=$W/home USER=rt XDG_RUNTIME_DIR=$RUNTIME_DIR DBUS_SESSION_BUS_ADDRESS=unix:path=$RUNTIME_DIR/bus \
		exec nsenter --target "$USER_PID" --mount --wd="$W" setpriv --reuid 1000 --regid 1000 --clear-groups "$@"
)

ended() { ! kill -0 "$1" 2>/dev/null; }

engine_end() { # ends daemons, shims, monitors and mounts of this folder, and removes it
	local pid folder
	[ -n "${W:-}" ] || return 0
	for pid in $(tac "$W/daemons" 2>/dev/null); do
		kill "$pid" 2>/dev/null
		eventually ended "$pid"
	done
	for pid in $(with_folder); do kill -KILL "$pid" 2>/dev/null; done
	awk -v w="$W/" 'index($5, w) == 1 { print $5 }' /proc/self/mountinfo | tac | while read -r folder; do umount -l "$folder"; done
	rm -rf "$W"
	# Groups of the engine's own parent; those of containers are looked for by the tests.
	find /sys/fs/cgroup -depth -type d -path "*/$MARK*" -exec rmdir {} + 2>/dev/null
	return 0
}

with_folder() { # pids of processes that name this folder on their command line
	local cmdline pid
	for cmdline in /proc/[0-9]*/cmdline; do
		pid=${cmdline#/proc/}
		pid=${pid%/cmdline}
		[ "$pid" = "$BASHPID" ] || [ "$pid" = $$ ] || ! tr '\0' ' ' <"$cmdline" 2>/dev/null | grep -qF "$W" || echo "$pid"
	done
}

cgroup_of() { # PID memory|cpu|pids|freezer: the path of that process's cgroup
	if on_v1; then
		awk -F: -v c="$2" '{ n = split($2, a, ","); for (i = 1; i <= n; i++) if (a[i] == c) print $3 }' "/proc/$1/cgroup"
	else
		sed -n 's/^0:://p' "/proc/$1/cgroup"
	fi
}

kernel() { # PID memory|cpu|pids|frozen: what the kernel's files say of that process's cgroup
	local controller=$2 base=/sys/fs/cgroup quota period
	[ "$2" != frozen ] || controller=freezer
	if on_v1; then
		base=$base/$controller$(cgroup_of "$1" "$controller")
		case $2 in
		memory) cat "$base/memory.limit_in_bytes" ;;
		cpu) quota=$(cat "$base/cpu.cfs_quota_us") period=$(cat "$base/cpu.cfs_period_us"); echo $((quota * 100 / period)) ;;
		pids) cat "$base/pids.max" ;;
		frozen) [ "$(cat "$base/freezer.state")" = FROZEN ] && echo 1 || echo 0 ;;
		esac
	else
		base=$base$(cgroup_of "$1" "$controller")
		case $2 in
		memory) cat "$base/memory.max" ;;
		cpu) read -r quota period <"$base/cpu.max"; echo $((quota * 100 / period)) ;;
		pids) cat "$base/pids.max" ;;
		frozen) awk '$1 == "frozen" { print $2 }' "$base/cgroup.events" ;;
		esac
	fi
}

limits_of() { # PID: memory, cpu and pids of its cgroup, its oom_score_adj and its open files
	echo "$(kernel "$1" memory) $(kernel "$1" cpu) $(kernel "$1" pids) $(cat "/proc/$1/oom_score_adj") $(awk '/open files/ { print $4 }' "/proc/$1/limits")"
}

is_within() { # PID ID: in cgroups of that name on every hierarchy that has limits
	local controller
	for controller in memory cpu pids devices; do
		on_v1 || controller=memory
		contains "$(cgroup_of "$1" "$controller")" "$2"
	done
}

members() { # PID: those in its memory cgroup
	local base=/sys/fs/cgroup
	! on_v1 || base=$base/memory
	cat "$base$(cgroup_of "$1" memory)/cgroup.procs"
}

two() { [ "$(members "$1" | wc -l)" = 2 ]; } # PID: a container's first process, and one that was executed in it

swap_of() { # PID: the limit of memory and swap together on v1, of swap alone on v2; nothing where the kernel counts none
	if on_v1; then cat "/sys/fs/cgroup/memory$(cgroup_of "$1" memory)/memory.memsw.limit_in_bytes"
	else cat "/sys/fs/cgroup$(cgroup_of "$1" memory)/memory.swap.max"; fi 2>/dev/null || true
}

left_of() { # ID: cgroups and mounts that still have it
	find /sys/fs/cgroup -type d -name "*$1*" 2>/dev/null
	grep -F "$1" /proc/self/mountinfo
	return 0
}

equal() { # FOUND EXPECTED
	[ "$1" = "$2" ] || { printf 'found    %s\nexpected %s\n' "$1" "$2" >&2; return 1; }
}

contains() { # TEXT WORDS
	case $1 in *"$2"*) ;; *) printf 'no "%s" in: %s\n' "$2" "$1" >&2; return 1 ;; esac
}

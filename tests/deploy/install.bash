# Sourced by run: deploy/install on prepared nodes, whose containerd is the real one.

# The folder of a node: PROGRAMs with their libraries, a service manager that notes what it is asked.
node() { # NAME PROGRAM...
	node=$work/$1
	shift
	mkdir -p "$node/usr/bin" "$node/etc" "$node/dev" "$node/tmp"
	local program library
	for program in "$busybox" "$@"; do
		cp "$program" "$node/usr/bin/"
		for library in $(ldd "$program" 2>/dev/null | grep -o '/[^ ]*'); do
			mkdir -p "$node${library%/*}" && cp -L "$library" "$node$library"
		done
	done
	for program in env sh; do ln -s busybox "$node/usr/bin/$program"; done
	ln -s usr/bin "$node/bin"
	printf '#!/bin/sh\necho "$@" >>/asked\n' >"$node/usr/bin/systemctl"
	chmod +x "$node/usr/bin/systemctl"
	: >"$node/asked"
}

# As in the image: busybox alone.
installs() { env -i HOST="$node" RT_BIN="$rt" PATH="$applets" "$busybox" sh deploy/install "$@"; }
asked() { [ "$(cat "$node/asked")" = "$1" ] || { cat "$node/asked"; return 1; }; }
quietly() { : >"$node/asked" && installs "$@" && asked ''; }
refuses() { # WORDS [uninstall]
	local before out
	before=$(kept)
	if out=$(installs "${@:2}" 2>&1); then echo "$out" && return 1; fi
	grep -qF "$1" <<<"$out" || { echo "$out" && return 1; }
	[ "$before" = "$(kept)" ]
}
# All below /etc, by content.
kept() { (cd "$node/etc" && find . -type f ! -name '*.before-rt' -exec sha256sum {} + | sort -k 2); }
again_as_before() { [ "$(kept)" = "$before" ] || { kept | diff - <(echo "$before"); return 1; }; }
dumped() { chroot "$node" /usr/bin/containerd --config /etc/containerd/config.toml config dump >"$work/dump" && tr -d "'\"" <"$work/dump" | sed 's/^ *//' >"$work/flat"; }
registered() { # SYSTEMD_CGROUP
	dumped || return 1
	awk -v systemd="$1" '
		/^\[/ { ours = /runtimes\.rt\.options\]/ }
		ours && $1 == "BinaryName" { path = $3 }
		ours && $1 == "Root" { root = $3 }
		ours && $1 == "SystemdCgroup" { group = $3 }
		END { exit !(path == "/usr/local/bin/rt" && root == "/run/containerd/rt" && group == systemd) }' "$work/flat" &&
		grep -q 'pod_annotations = \[rt\.\*\]' "$work/flat"
}
beside_runc() { grep -q 'runtimes\.runc\]' "$work/flat"; }
backed_up() { cmp "$node/$1.before-rt" "$work/original"; }

# A node with this configuration of containerd.
containerd_node() { # NAME PROGRAM <CONFIGURATION
	node "$1" "$2"
	mkdir -p "$node/etc/containerd"
	cat >"$node/etc/containerd/config.toml"
	cp "$node/etc/containerd/config.toml" "$work/original"
	before=$(kept)
}

# What must hold for every node with containerd.
containerd_checks() { # NAME SYSTEMD_CGROUP [FILE]
	check "$1: rt is installed" installs
	check "$1: the program is there" cmp "$rt" "$node/usr/local/bin/rt"
	check "$1: containerd knows rt" registered "$2"
	check "$1: and runc still" beside_runc
	check "$1: it is registered where it belongs" grep -q 'runtimes.rt\]' "$node/etc/containerd/${3:-config.toml}"
	check "$1: containerd is restarted once" asked 'try-restart containerd'
	check "$1: a second run changes nothing" quietly
	check "$1: rt is taken off" installs uninstall
	check "$1: all is as before" again_as_before
}

test_install() {
	local old=$containerd1 new=$containerd2
	"$old" config default >"$work/default1"
	"$new" config default >"$work/default2"
	containerd_node "containerd 1, its default configuration" "$old" <"$work/default1"
	containerd_checks "containerd 1, its default configuration" false
	containerd_node "containerd 1, systemd cgroups" "$old" < <(sed 's/SystemdCgroup = false/SystemdCgroup = true/' "$work/default1")
	containerd_checks "containerd 1, systemd cgroups" true
	containerd_node "containerd 1, imports" "$old" <<-'END'
		version = 2
		imports = ["/etc/containerd/conf.d/*.toml"]
		[plugins."io.containerd.grpc.v1.cri"]
		  sandbox_image = "registry.example/pause:9"
	END
	containerd_checks "containerd 1, imports" false
	containerd_node "containerd 1, the oldest format" "$old" <<-'END'
		[plugins.cri]
		  stream_server_port = "1234"
	END
	containerd_checks "containerd 1, the oldest format" false
	containerd_node "containerd 2, its default configuration" "$new" <"$work/default2"
	containerd_checks "containerd 2, its default configuration" false
	containerd_node "containerd 2, imports" "$new" <<-'END'
		version = 3
		imports = ["/etc/containerd/conf.d/*.toml"]
		[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
		  runtime_type = "io.containerd.runc.v2"
		  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
		    SystemdCgroup = true
	END
	mkdir "$node/etc/containerd/conf.d"
	printf 'version = 3\n[debug]\n  level = "warn"\n' >"$node/etc/containerd/conf.d/debug.toml"
	before=$(kept)
	containerd_checks "containerd 2, imports" true conf.d/rt.toml
	containerd_node "containerd 2, a configuration of 1" "$new" <"$work/default1"
	containerd_checks "containerd 2, a configuration of 1" false

	containerd_node "containerd 2, runc by default" "$new" <<<'version = 3'
	containerd_checks "containerd 2, runc by default" false

	node "containerd without a configuration" "$old"
	check "containerd without a configuration: rt is installed" installs
	check "containerd without a configuration: containerd knows rt" registered false
	check "containerd without a configuration: and runc still" beside_runc
	containerd_node "a broken configuration" "$old" <<<'version = 2 ['
	check "a broken configuration is left alone" refuses "does not understand"
	containerd_node "no CRI" "$old" <<<'disabled_plugins = ["cri"]'
	check "a containerd without its CRI plug-in is left alone" refuses "no CRI plug-in"
	containerd_node "an rt of somebody" "$old" <<-'END'
		version = 2
		[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.rt]
		  runtime_type = "io.containerd.runc.v2"
	END
	check "a registration that somebody wrote by hand is left alone" refuses "does not understand"
	containerd_node "a link" "$old" <<<'version = 2'
	mv "$node/etc/containerd/config.toml" "$node/etc/real.toml"
	ln -s ../real.toml "$node/etc/containerd/config.toml"
	before=$(kept)
	check "a configuration that is a link is left alone" refuses "is a link"
	containerd_node "backup" "$old" <<<'version = 2'
	check "backup: rt is installed" installs
	check "the configuration that was replaced is kept" backed_up etc/containerd/config.toml

	test_busy
	test_other_engines
}

# An rt that has a container is not taken away below it.
test_busy() {
	node "busy" "$containerd1"
	root=$node/run/containerd/rt/k8s.io
	mkdir -p "$root"
	check "busy: rt is installed" installs
	check "busy: a container is made" sh -c "cd '$work' && '$rt' --root '$root' create busy-$$ --ram=32 >'$work/created' 2>&1 || { cat '$work/created'; exit 1; }"
	check "rt is not taken off while it has containers" refuses "busy-$$" uninstall
	check "busy: it is there still" cmp "$rt" "$node/usr/local/bin/rt"
	check "busy: the container is deleted" "$rt" --root "$root" delete --force "busy-$$"
	check "busy: now rt is taken off" installs uninstall
	check "busy: and its program is gone" test ! -e "$node/usr/local/bin/rt"
}

# daemon.json with what was in it and rt beside it.
docker_knows() { python3 -c '
import json, sys
new, old = json.load(open(sys.argv[1])), json.loads(sys.argv[2])
assert new["runtimes"].pop("rt") == {"path": "/usr/local/bin/rt"}
if not new["runtimes"] and "runtimes" not in old: del new["runtimes"]
assert new == old, new' "$node/etc/docker/daemon.json" "$1"; }

test_other_engines() {
	local json n=0
	node "crio"
	mkdir -p "$node/etc/crio/crio.conf.d"
	echo '# own' >"$node/etc/crio/crio.conf"
	before=$(kept)
	check "CRI-O: rt is installed" installs
	check "CRI-O: its drop-in names rt, and is TOML" python3 -c '
import sys, tomllib
rt = tomllib.load(open(sys.argv[1], "rb"))["crio"]["runtime"]["runtimes"]["rt"]
assert rt["runtime_path"] == "/usr/local/bin/rt" and rt["allowed_annotations"] == ["rt."], rt' "$node/etc/crio/crio.conf.d/rt.conf"
	check "CRI-O: it is restarted once" asked 'try-restart crio'
	check "CRI-O: a second run changes nothing" quietly
	check "CRI-O: rt is taken off" installs uninstall
	check "CRI-O: all is as before" again_as_before
	for json in '{}' '{ "log-level": "warn" }' '{"runtimes":{}}' $'{\n  "runtimes": {\n    "kata": { "path": "/k" }\n  },\n  "debug": true\n}'; do
		n=$((n + 1))
		node "docker-$n"
		touch "$node/usr/bin/dockerd"
		mkdir "$node/etc/docker"
		echo "$json" >"$node/etc/docker/daemon.json"
		before=$(kept)
		check "docker with ${json//$'\n'/}: rt is installed" installs
		check "docker $n: daemon.json has rt beside what was there" docker_knows "$json"
		check "docker $n: it is reloaded once" asked 'try-reload-or-restart docker'
		check "docker $n: a second run changes nothing" quietly
		check "docker $n: rt is taken off" installs uninstall
		check "docker $n: all is as before" again_as_before
	done
	node "docker-new"
	touch "$node/usr/bin/dockerd"
	check "docker without daemon.json: rt is installed" installs
	check "docker without daemon.json: it has one" docker_knows '{}'
	node "docker-garbage"
	touch "$node/usr/bin/dockerd"
	mkdir "$node/etc/docker"
	echo 'garbage' >"$node/etc/docker/daemon.json"
	check "a daemon.json that is no JSON object is left alone" refuses "is no JSON object"
	node "podman"
	touch "$node/usr/bin/podman"
	check "podman: rt is installed" installs
	check "podman: its drop-in names rt" grep -qx 'rt = \["/usr/local/bin/rt"\]' "$node/etc/containers/containers.conf.d/rt.conf"
	check "podman: rt is taken off" installs uninstall
	check "podman: and leaves no file" sh -c "! find '$node/etc' '$node/usr/local' -type f | grep ."
}

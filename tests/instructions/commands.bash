# Sourced by run: the commands that are counted, each in the state in which engines call it.

CLEAN=(env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin)

# What `rt spec` makes, without what would be another program's count or make valgrind's own descriptors fail in the container:
# a terminal, a network namespace, limits of open files.
make_bundle() {
	mkdir -p "$work/bundle/rootfs/bin" "$work/bundle/rootfs"/{dev,proc,sys,tmp}
	cp /bin/busybox "$work/bundle/rootfs/bin/" && ln -s busybox "$work/bundle/rootfs/bin/sleep" && ln -s busybox "$work/bundle/rootfs/bin/true"
	(cd "$work/bundle" && "${CLEAN[@]}" "$rt" spec) || exit 1
	python3 - "$work/bundle/config.json" <<-'P' || exit 1
		import json, sys
		config = json.load(open(sys.argv[1]))
		config["process"].update(terminal=False, args=["sleep", "1000"], rlimits=[])
		config["linux"]["namespaces"] = [n for n in config["linux"]["namespaces"] if n["type"] != "network"]
		json.dump(config, open(sys.argv[1], "w"))
	P
}

native() { "${CLEAN[@]}" "$rt" --root "$work/root" "$@" </dev/null >/dev/null 2>"$work/said" || { cat "$work/said" >&2; exit 1; }; }

count() { # NAME ARG...: prints NAME and the instructions of the process that was called, without those it makes
	local name=$1 pid status
	shift
	rm -f "$work"/out.*
	"${CLEAN[@]}" VALGRIND_LIB="$work/bin" VALGRIND_LAUNCHER=/usr/bin/valgrind "$work/bin/$tool" --vgdb=no \
		--callgrind-out-file="$work/out.%p" "$work/bin/rt" --root "$work/root" "$@" </dev/null >"$work/told" 2>"$work/said" &
	pid=$!
	wait $pid
	status=$?
	# No valgrind knows pidfd_send_signal: kill is counted up to the signal.
	if [ $status != 0 ] && ! { [ "$name" = kill ] && grep -q 'signal init: function not implemented' "$work/said"; }; then
		echo "error: rt $* under valgrind: exit $status" >&2
		grep -vE '^==' "$work/said" >&2
		exit 1
	fi
	echo "$name $(awk '$1 == "summary:" { print $2 }' "$work/out.$pid")"
}

measure() {
	ulimit -n 1024
	count version --version
	count features features
	count create create --bundle "$work/bundle" "$id.0"
	native delete --force "$id.0"
	native create --bundle "$work/bundle" "$id.1"
	count state state "$id.1"
	count start start "$id.1"
	count exec exec "$id.1" true
	count kill kill "$id.1" WINCH
	count ps ps --format json "$id.1"
	count pause pause "$id.1"
	count resume resume "$id.1"
	count update update --memory 67108864 "$id.1"
	native kill "$id.1" KILL
	wait_for_end "$id.1"
	count delete delete "$id.1"
	for ((n = 0; n < MANY; n++)); do native create --bundle "$work/bundle" "$(printf %s.%03d "$id" $n)"; done
	count "list-of-$MANY" list
}

wait_for_end() {
	local tries=200
	until "${CLEAN[@]}" "$rt" --root "$work/root" state "$1" | grep -q '"status": "stopped"'; do
		((tries-- > 0)) || { echo "error: $1 does not end" >&2; exit 1; }
		sleep 0.05
	done
}

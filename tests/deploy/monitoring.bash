# Sourced by run: rt's real metrics through node exporter, and that rules and dashboard ask for nothing else.

textfiles=$work/textfiles
metrics() { # ROUNDS, of the containers below $root
	HOST=/ PREFIX=$work/prefix ROOTS="$root /nowhere" TEXTFILES=$textfiles ROUNDS=$1 deploy/metrics
}
scraped() { python3 -c 'import sys, urllib.request as u; sys.stdout.write(u.urlopen(sys.argv[1], timeout=10).read().decode())' "http://127.0.0.1:$port/metrics"; }
# node exporter with the folder, on a port that is free.
exports() {
	local _
	port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
	"$cache/prometheus-node-exporter/usr/bin/prometheus-node-exporter" --web.listen-address="127.0.0.1:$port" \
		--collector.disable-defaults --web.disable-exporter-metrics --collector.textfile --collector.textfile.directory="$textfiles" >"$work/exporter.log" 2>&1 &
	exporter=$!
	for _ in $(seq 50); do
		scraped >"$work/scraped" 2>/dev/null && return
		sleep 0.2
	done
	cat "$work/exporter.log"
	return 1
}
told() { grep -E "$1" "$work/scraped" || { grep ^rt_ "$work/scraped" | head -n 30; return 1; }; }
lints() { "$promtool" check metrics <"$1"; }

test_monitoring() {
	local id=rt-deploy-$$
	root=$work/root
	mkdir -p "$work/prefix/bin" "$root" && ln -s "$rt" "$work/prefix/bin/rt"
	check "a container is made" sh -c "cd '$work' && '$rt' --root '$root' create $id --ram=48 >'$work/created' 2>&1 || { cat '$work/created'; exit 1; }"
	check "it starts" "$rt" --root "$root" start "$id"
	check "its limit is proved" "$rt" --root "$root" test-memory "$id" --strategy sequential
	check "its metrics are written" metrics 1
	check "each file is whole" sh -c "cd '$textfiles' && [ \$(ls | wc -l) = 2 ] && ! ls -A | grep -v '\.prom$'"
	for file in "$textfiles"/*.prom; do check "${file##*-} is what Prometheus takes, and well named" lints "$file"; done
	check "node exporter reads them" exports
	check "it found no mistake" told '^node_textfile_scrape_error 0$'
	check "it tells the limit" told "^rt_memory_limit_bytes\{container=\"$id\"\} 5.0331648e\+07$"
	check "it tells the OOM kill as a counter" told '^# TYPE rt_memory_oom_kills_total counter$'
	check "it tells the verdict" told "^rt_proof_verdict\{container=\"$id\",verdict=\"enforced\"\} 1$"
	check "it tells the container" told "^rt_container_info\{container=\"$id\"\} 1$"
	check "it tells how old the files are" told '^node_textfile_mtime_seconds\{file=".*/rt-.*\.memory\.prom"\} '
	check "files of a root that is gone are taken away" sh -c "
		touch '$textfiles/rt-nowhere.memory.prom'; HOST=/ PREFIX='$work/prefix' ROOTS=/nowhere TEXTFILES='$textfiles' ROUNDS=1 deploy/metrics && [ ! -e '$textfiles/rt-nowhere.memory.prom' ]"

	check "the rules are valid" "$promtool" check rules deploy/monitoring/rules.yml
	sed "s,RULES,$PWD/deploy/monitoring/rules.yml," tests/deploy/rules.yml >"$work/rules.yml"
	check "they fire on what they must, and on nothing else" "$promtool" test rules "$work/rules.yml"
	check "rules and dashboard ask for what is really told" "$venv/bin/python" tests/deploy/names.py "$work/scraped" "$textfiles"/*.prom
	grep -v rt_proof_verdict "$work/scraped" >"$work/less"
	check "and would not for what is not" sh -c "! '$venv/bin/python' tests/deploy/names.py '$work/less'"
	check "the container is deleted" "$rt" --root "$root" delete --force "$id"
}

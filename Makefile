# rt: build, verify, test. `make verify` and `make test` each do everything that is needed on a fresh Debian machine.

SHELL      := /bin/sh
PREFIX     ?= /usr/local
DESTDIR    ?=
SHARE       = $(DESTDIR)$(PREFIX)/share
export PATH := $(HOME)/.cargo/bin:$(PATH)

# Evaluated in recipes only: cargo may not be installed before scripts/deps has run.
TARGET      = $(shell rustc -vV | sed -n 's/^host: //p')
RT          = target/$(TARGET)/release/rt
CARGO_FLAGS = --locked --target $(TARGET)
# Guests of tests/lab in which tests run on every change, the slowest first; then what takes too long for that, and
# Debian testing, which moves from day to day.
GUESTS      = v2-systemd v2 v1 v2-cloud v1-systemd hybrid-systemd v2-swap
MORE        = v2-systemd-cloud v2-systemd-forky
# Where scripts/peers keeps them; the benchmark may run with another home.
export RT_BENCH_CACHE ?= $(HOME)/.cache/rt-bench
# Containers need root; only what needs it is run as root.
SUDO        = $(if $(filter 0,$(shell id -u)),,sudo -E)
RUNNER      = $(if $(SUDO),env CARGO_TARGET_$(shell echo $(TARGET) | tr 'a-z-' 'A-Z_')_RUNNER="$(SUDO)")

# Faults of rt, and of others beside it, which are slower and are not judged: all, or how many.
FAULTS      ?= all
PEER_FAULTS ?= 1000

# Changed configs, and command lines: how many of each, and which.
FUZZ_COUNT  ?= 1000000
FUZZ_SEED   ?= 16

.PHONY: help deps build verify test test-all test-unit matrix matrix-table lab lab-clean endurance faults fuzz bench lint install uninstall deb test-packages test-deploy instructions scale profile order clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "  %-13s %s\n", $$1, $$2 }'

deps: ## install what a build needs (apt packages, and Rust where Debian's is new enough)
	@scripts/deps build

build: deps ## the release binary: static, target/<arch>-unknown-linux-gnu/release/rt
	cargo build --release $(CARGO_FLAGS)

verify: build ## make a container, prove its memory limit, print the checklist
	$(SUDO) $(RT) verify

test: ## all tests: unit, integration with real containers, and real engines
	@scripts/deps build test
	$(RUNNER) cargo test --no-fail-fast $(CARGO_FLAGS); status=$$?; $(SUDO) tests/engines/run && exit $$status

matrix: ## integration tests in guests: cgroup v1, v2, v2 with systemd and newer engines, Debian's kernel with PSI (tests/lab)
	@scripts/deps build test
	$(SUDO) tests/lab/matrix $(GUESTS)

matrix-table: ## the same, with this machine, and write what was found into docs/compatibility.md
	@scripts/deps build test
	$(SUDO) tests/lab/matrix host $(GUESTS) $(MORE)
	tests/lab/table

test-all: test ## every integration test in every guest, also those that guests are too slow for (hours)
	$(SUDO) tests/lab/matrix --all $(GUESTS) $(MORE)

lab: ## run CMD in a throwaway Linux: make lab CMD='cat /proc/self/cgroup' [LAB_ARGS='--v1 --systemd']
	@$(SUDO) tests/lab/lab $(LAB_ARGS) -- sh -c '$(CMD)'

lab-clean: ## remove what the lab keeps between runs
	@$(SUDO) tests/lab/lab --clean

test-unit: deps ## the unit tests alone
	cargo test --lib --bins $(CARGO_FLAGS)

endurance: deps ## 10,000 proofs in a row (some ten minutes): no descriptor, process, cgroup or file is left
	$(RUNNER) RT_PROOFS=10000 cargo test --test endurance $(CARGO_FLAGS)

faults: deps ## a kill and an error at each system call of every command (FAULTS: some), runc and crun beside it where they are; docs/reliability.md
	@scripts/deps build test
	$(RUNNER) RT_FAULTS=$(FAULTS) RT_FAULTS_PAGE=$(CURDIR)/docs/reliability.md cargo test --test faults $(CARGO_FLAGS) -- --nocapture
	for peer in $$(PATH=$$PATH:/usr/sbin command -v runc; PATH=$$PATH:/usr/sbin command -v crun); do \
		$(RUNNER) RT_BIN=$$peer RT_FAULTS=$(PEER_FAULTS) RT_FAULTS_PAGE=$(CURDIR)/docs/reliability.md cargo test --test faults $(CARGO_FLAGS) -- --nocapture || :; \
	done

fuzz: deps ## every change of a config and of command lines (FUZZ_COUNT, FUZZ_SEED: some), beside runc where it is installed; docs/reliability.md
	@scripts/deps build test
	$(RUNNER) RT_FUZZ_COUNT=$(FUZZ_COUNT) RT_FUZZ_SEED=$(FUZZ_SEED) RT_FUZZ_BESIDE=$$(PATH=$$PATH:/usr/sbin command -v runc) cargo test --test fuzz $(CARGO_FLAGS) -- --nocapture --test-threads=1

bench: ## life cycle beside crun and runc of two Debian releases, with marks; prover beside stress-ng; rewrites the tables in docs/performance.md
	@scripts/deps build bench
	scripts/peers
	$(RUNNER) cargo bench --bench lifecycle $(CARGO_FLAGS) -- $(BENCH_ARGS)
	$(RUNNER) cargo bench --bench prover $(CARGO_FLAGS)

lint: ## formatting, clippy without warnings, licences and sources of every crate
	@scripts/deps build lint
	cargo fmt --check
	cargo clippy --all-targets $(CARGO_FLAGS) -- -D warnings
	@scripts/deny

install: build ## install rt, its man pages, shell completions and hook definitions below $(DESTDIR)$(PREFIX)
	install -D -m 755 $(RT) $(DESTDIR)$(PREFIX)/bin/rt
	install -D -m 644 -t $(SHARE)/containers/oci/hooks.d hooks/*.json
	sed -i 's,/usr/local/bin/rt,$(PREFIX)/bin/rt,' $(SHARE)/containers/oci/hooks.d/rt-*.json
	mkdir -p $(SHARE)/man/man8 $(SHARE)/bash-completion/completions $(SHARE)/zsh/site-functions $(SHARE)/fish/vendor_completions.d
	$(RT) man $(SHARE)/man/man8
	$(RT) completions bash > $(SHARE)/bash-completion/completions/rt
	$(RT) completions zsh > $(SHARE)/zsh/site-functions/_rt
	$(RT) completions fish > $(SHARE)/fish/vendor_completions.d/rt.fish

uninstall: ## remove what `make install` put below $(DESTDIR)$(PREFIX)
	rm -f $(DESTDIR)$(PREFIX)/bin/rt $(SHARE)/man/man8/rt.8 $(SHARE)/man/man8/rt-*.8
	rm -f $(patsubst hooks/%,$(SHARE)/containers/oci/hooks.d/%,$(wildcard hooks/*.json))
	rm -f $(SHARE)/bash-completion/completions/rt $(SHARE)/zsh/site-functions/_rt $(SHARE)/fish/vendor_completions.d/rt.fish

deb: build ## the Debian package, in target/debian
	@scripts/deps package
	rm -rf target/deb target/debian
	$(MAKE) --no-print-directory install DESTDIR=target/deb PREFIX=/usr
	scripts/debian-changelog >target/deb/changelog
	cargo deb --no-build --no-strip --target $(TARGET)
	@mkdir -p target/debian && cp target/$(TARGET)/debian/*.deb target/debian/ 2>/dev/null; ls target/debian/*.deb

test-packages: deb ## the Debian package, `make install` and `cargo install`, tried in a fresh Debian
	$(SUDO) tests/packages/run

test-deploy: build ## deploy/: installing on a node, Kubernetes' schemas, alert rules, the dashboard's names
	@scripts/deps deploy
	$(SUDO) tests/deploy/run

instructions: build ## instructions that commands take, against tests/instructions/counts; UPDATE=1 writes them anew
	@scripts/deps instructions
	$(SUDO) env UPDATE=$(UPDATE) tests/instructions/run

scale: build ## 1,000 containers on this machine: what they cost; rewrites the table in docs/scale.md
	$(SUDO) benches/scale $(SCALE_ARGS)

profile: deps ## where commands' time goes: system calls by phase, flame graphs, processor time by part; rewrites its part of docs/performance.md
	@scripts/deps profile
	cargo build --profile profiling $(CARGO_FLAGS)
	$(SUDO) env RT_BIN=$(CURDIR)/target/$(TARGET)/profiling/rt benches/profile/run $(PROFILE_ARGS)

order: deps ## which functions commands call, and so in which order they lie in the binary; rewrites src/order.ld
	@scripts/deps profile
	cargo rustc --release --bin rt $(CARGO_FLAGS) -- -C strip=none -C link-arg=-Wl,-Map=$(CURDIR)/target/order.map
	$(SUDO) env RT_BIN=$(CURDIR)/target/$(TARGET)/release/rt RT_MAP=$(CURDIR)/target/order.map benches/profile/order

clean: ## remove what was built
	rm -rf target

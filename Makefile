# The commands of this project. Each does its own set-up; all need a Rust toolchain, `make test` logrotate,
# Python, nginx and ClickHouse, and `make bench` rsyslog.

# One profile for everything: wasmtime is built once.
CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
WEIR := $(TARGET)/release/weir
PLUGINS := $(wildcard plugins/*/Cargo.toml) $(wildcard tests/plugins/*/Cargo.toml)

.PHONY: demo test fuzz lint bench bench-isolation build logrotate servers plugins fmt clean

demo: plugins ## the main job on generated logs, explained as it goes
	$(WEIR) demo --plugin-dir target/plugins

test: plugins logrotate servers ## all tests
	$(CARGO) test --release --workspace

fuzz: ## a minute of random logs: however they are read, the same events come out
	WEIR_FUZZ_SECONDS=60 $(CARGO) test --release -p weir --lib however_a_log_is_read

lint: ## formatting, clippy without warnings, licences and advisories where they can be checked
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings

bench: plugins ## speed beside rsyslog, with exact outputs
	$(CARGO) build --release -p weir --example bench
	$(TARGET)/release/examples/bench --install --weir $(WEIR) $(BENCH_ARGS)

bench-isolation: plugins ## what a tenant notices of its neighbours
	$(CARGO) build --release -p weir --example isolation
	$(TARGET)/release/examples/isolation --weir $(WEIR) --chart docs/isolation.svg $(BENCH_ARGS)

build:
	$(CARGO) build --release -p weir

logrotate:
	@command -v logrotate >/dev/null || test -x /usr/sbin/logrotate || test "$$(id -u)" != 0 || \
		{ apt-get update && apt-get install -y --no-install-recommends logrotate; }

servers: ## what the sinks are tested against: stand-ins in Python, and nginx and ClickHouse
	@command -v python3 >/dev/null || test "$$(id -u)" != 0 || \
		{ apt-get update && apt-get install -y --no-install-recommends python3 python3-venv; }
	@python3 tests/servers/setup.py $(TARGET)/tmp --packages >/dev/null

plugins: build ## the plugins that weir ships, and those that test it, as components in target/plugins
	$(WEIR) plugin build $(dir $(PLUGINS)) --out target/plugins

fmt:
	$(CARGO) fmt --all

clean:
	$(CARGO) clean

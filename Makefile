# The commands of this project. Each does its own set-up; all need a Rust toolchain with a C and a C++ compiler, make
# and Perl (librdkafka and OpenSSL are built), `make test` logrotate, Python 3.10 or later, Node.js 20 or later with npm,
# nginx, ClickHouse, docker-registry and openssl, and `make bench` rsyslog.

# One profile for everything: wasmtime is built once.
CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
WEIR := $(TARGET)/release/weir
MDBOOK := 0.5.4
BOOK := target/book-source
PLUGINS := $(wildcard plugins/*/Cargo.toml) $(wildcard tests/plugins/*/Cargo.toml)

.PHONY: demo test fuzz lint bench bench-plugins bench-isolation reference book build tools logrotate servers plugins fmt clean

demo: plugins ## the main job on generated logs, explained as it goes
	$(WEIR) demo --plugin-dir target/plugins

test: plugins logrotate servers ## all tests
	$(CARGO) test --release --workspace

fuzz: ## a minute of random logs: however they are read, the same events come out
	WEIR_FUZZ_SECONDS=60 $(CARGO) test --release -p weir --lib however_a_log_is_read

lint: tools ## formatting, clippy without warnings, licences and advisories where they can be checked
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings

bench: plugins ## speed beside rsyslog, with exact outputs
	$(CARGO) build --release -p weir --example bench
	$(TARGET)/release/examples/bench --install --weir $(WEIR) $(BENCH_ARGS)

bench-plugins: plugins ## speed, fuel and size of plugins alone in the sandbox
	@python3 tests/bench/plugins.py $(WEIR) target/plugins

bench-isolation: plugins ## what a tenant notices of its neighbours
	$(CARGO) build --release -p weir --example isolation
	$(TARGET)/release/examples/isolation --weir $(WEIR) --chart docs/isolation.svg $(BENCH_ARGS)

reference: plugins ## docs/reference, made of the code
	WEIR_BLESS=1 $(CARGO) test --release -p weir --lib the_reference_of

book: ## the documentation as a book, in target/book
	@$(TARGET)/tools/bin/mdbook --version 2>/dev/null | grep -qF v$(MDBOOK) || \
		$(CARGO) install --locked --root $(TARGET)/tools --no-default-features --features search mdbook --version $(MDBOOK)
	@# Pages link what is beside docs/, so that the book's source is laid out as the project is.
	@rm -rf $(BOOK) && mkdir -p $(BOOK)/src
	@cp -r docs wit deploy README.md LICENSE $(BOOK)/src
	@for readme in plugins/*/README.md; do mkdir -p $(BOOK)/src/$${readme%/*} && cp $$readme $(BOOK)/src/$$readme; done
	@mv $(BOOK)/src/docs/book.toml $(BOOK)
	@sed -e 's#](#](docs/#; s#](docs/\.\./#](#' $(BOOK)/src/docs/SUMMARY.md >$(BOOK)/src/SUMMARY.md
	@rm $(BOOK)/src/docs/SUMMARY.md
	@sed -i 's#(docs/SUMMARY.md)#(toc.html)#' $(BOOK)/src/README.md
	$(TARGET)/tools/bin/mdbook build $(BOOK) --dest-dir $(CURDIR)/target/book

build: tools
	$(CARGO) build --release -p weir

tools:
	@command -v c++ >/dev/null && command -v make >/dev/null && perl -e 'use FindBin; use IPC::Cmd; use Pod::Usage' 2>/dev/null || test "$$(id -u)" != 0 || \
		{ apt-get update && apt-get install -y --no-install-recommends g++ make perl; }

logrotate:
	@command -v logrotate >/dev/null || test -x /usr/sbin/logrotate || test "$$(id -u)" != 0 || \
		{ apt-get update && apt-get install -y --no-install-recommends logrotate; }

servers: ## what the sinks are tested against: stand-ins in Python, and nginx and ClickHouse; docker-registry; Node.js
	@command -v python3 >/dev/null || test "$$(id -u)" != 0 || \
		{ apt-get update && apt-get install -y --no-install-recommends python3 python3-venv; }
	@python3 tests/servers/setup.py $(TARGET)/tmp --packages >/dev/null

plugins: build ## the plugins that weir ships, and those that test it, as components in target/plugins
	$(WEIR) plugin build $(dir $(PLUGINS)) --out target/plugins

fmt:
	$(CARGO) fmt --all

clean:
	$(CARGO) clean

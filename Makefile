# Everything there is to do with the project: `make` lists it.

CARGO  ?= cargo
PREFIX ?= /usr/local
TARGET := $(or $(CARGO_TARGET_DIR),target)
TRIPLE := $(shell uname -m)-unknown-linux-gnu
# Nobody throws through the C++ and C of a release, and no panic passes them: without the tables for that it is three
# quarters of a mebibyte less. The rest is as in .cargo/config.toml.
LEAN   := CXXFLAGS="-DNDEBUG -g0 -fno-exceptions -fno-rtti -fno-asynchronous-unwind-tables -fno-unwind-tables" \
	CFLAGS="-fno-asynchronous-unwind-tables -fno-unwind-tables"
# glibc linked in: one file that runs on every Linux of this architecture, and starts without relocating itself.
LINKED := -C target-feature=+crt-static -C relocation-model=static
# On x86_64, where Rust links by LLD, a command does not run the hundreds of initialisers of the gRPC core (build.rs).
WHOLE  := $(LEAN) $(if $(filter x86_64-%,$(TRIPLE)),DEFER_INITIALISERS=1) RUSTFLAGS="$(LINKED)" $(CARGO)
# Without the gateway nobody catches a panic: it aborts, and there are no tables for unwinding.
SMALL  := $(LEAN) CARGO_PROFILE_RELEASE_PANIC=abort \
	RUSTFLAGS="$(LINKED) -C force-unwind-tables=no -C link-arg=-Wl,--no-eh-frame-hdr" $(CARGO)
BINARY := $(TARGET)/$(TRIPLE)/release/provost
# What `make static` builds in; nothing (`make static FEATURES=`): the small program, without gRPC and TLS.
FEATURES ?= gateway
# Debian keeps servers, which the tests run, where the PATH of a user does not lead.
export PATH := $(PATH):/usr/sbin:/sbin

# The C++ of the gRPC core is compiled once for each profile, which takes by far the longest of everything. Call it with the
# folder of the profile below the target directory, and what it takes.
announce = @ls $(TARGET)/$(1)/build/grpcio-sys-*/output >/dev/null 2>&1 || \
	echo 'make: the first build compiles the gRPC core (C++): $(2) on two processors'

.PHONY: help build demo test loom check bench static faults install clean

help:
	@echo 'make build    the program, as $(TARGET)/release/provost'
	@echo 'make demo     supervises real programs before your eyes, and breaks them (two minutes with the build)'
	@echo 'make test     all tests'
	@echo 'make loom     the start of a provider in every order of threads that there is (loom)'
	@echo 'make check    format, lints, house rules'
	@echo 'make bench    figures beside the bare machine and other supervisors (docs/benchmarks.md)'
	@echo 'make static   one static binary, as $(TARGET)/provost-static; FEATURES= makes a small one without gRPC and TLS'
	@echo 'make faults   all tests, many more rounds of each, with cgroups and without (90 minutes): $(TARGET)/faults/page.md'
	@echo 'make install  program, manual page and completions below DESTDIR and PREFIX=$(PREFIX)'
	@echo 'make clean    removes $(TARGET)'
	@echo
	@echo 'What is missing of the programs that these need is installed first (Debian, as root).'

build:
	tests/install.sh build
	$(call announce,release,about 15 minutes)
	$(LEAN) $(CARGO) build --release --locked

demo:
	@command -v cc >/dev/null || tests/install.sh build
	@[ -e $(TARGET)/demo/provost ] || echo 'make: building provost without gRPC and TLS, for about a minute'
	$(CARGO) build --locked --profile demo --no-default-features
	packaging/demo.sh $(TARGET)/demo/provost

test:
	tests/install.sh build
	tests/install.sh tests
	$(call announce,debug,about 8 minutes)
	$(CARGO) test --locked

# A package of its own: the rest of the program is not compiled for it.
loom:
	tests/install.sh build
	$(CARGO) test --manifest-path tests/loom/Cargo.toml --target-dir $(TARGET)/loom --locked

check:
	tests/install.sh build
	$(call announce,debug,about 8 minutes)
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) test --locked --test tidy
	@buf=$$(command -v buf || ls $(TARGET)/clients/node/node_modules/@bufbuild/buf-linux-*/bin/buf 2>/dev/null); \
	if [ -n "$$buf" ]; then $$buf lint; \
	else echo 'make: buf is not installed (tests/install.sh tests does it): proto/ is not linted'; fi
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny check; \
	else echo 'make: cargo-deny is not installed: licences and advisories are not checked'; fi

bench:
	tests/install.sh build
	tests/install.sh bench
	$(call announce,$(TRIPLE)/release,about 15 minutes)
	$(WHOLE) bench --locked --target $(TRIPLE) --bench bench -- $(BENCH)

static:
	$(if $(FEATURES),tests/install.sh build)
	$(if $(FEATURES),$(call announce,$(TRIPLE)/release,about 15 minutes))
	$(if $(FEATURES),$(WHOLE),$(SMALL)) build --release --locked --target $(TRIPLE) --no-default-features --features '$(FEATURES)'
	packaging/prove-static.sh $(BINARY) $(TARGET)/provost-static $(if $(FEATURES),16777216)

faults:
	tests/install.sh build
	tests/install.sh tests
	$(call announce,release,about 15 minutes)
	$(LEAN) $(CARGO) build --release --locked --examples
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-$$(($$(nproc) + 4))} PROVOST_TEST_ROUNDS=$(or $(ROUNDS),10) \
		tests/faults.sh run $(TARGET)/faults \
		env $(LEAN) $(CARGO) test --release --locked --no-fail-fast --lib --test it -- --show-output

install: build
	packaging/install.sh $(TARGET)/release/provost "$(DESTDIR)$(PREFIX)"

clean:
	$(CARGO) clean

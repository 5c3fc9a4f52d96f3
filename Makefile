# Everything there is to do with the project: `make` lists it.

CARGO  ?= cargo
PREFIX ?= /usr/local
TARGET := $(or $(CARGO_TARGET_DIR),target)
TRIPLE := $(shell uname -m)-unknown-linux-gnu
# glibc linked in: one file that runs on every Linux of this architecture, and starts without relocating itself.
# Without tables for unwinding: a panic aborts.
STATIC := CFLAGS="-fno-asynchronous-unwind-tables -fno-unwind-tables" RUSTFLAGS="-C target-feature=+crt-static \
	-C relocation-model=static -C force-unwind-tables=no" $(CARGO)
BINARY := $(TARGET)/$(TRIPLE)/release/provost
# Debian keeps servers, which the tests run, where the PATH of a user does not lead.
export PATH := $(PATH):/usr/sbin:/sbin

.PHONY: help build demo test check bench static faults install clean

help:
	@echo 'make build    the program, as $(TARGET)/release/provost'
	@echo 'make demo     supervises real programs before your eyes, and breaks them (a few seconds)'
	@echo 'make test     all tests; installs the programs that they run (Debian, as root)'
	@echo 'make check    format, lints, house rules'
	@echo 'make bench    figures beside the bare machine and other supervisors (docs/benchmarks.md)'
	@echo 'make static   one static binary, as $(TARGET)/provost-static, without TLS; FEATURES=gateway: with'
	@echo 'make faults   the tests that kill things, many more rounds of each (long)'
	@echo 'make install  program, manual page and completions below DESTDIR and PREFIX=$(PREFIX)'
	@echo 'make clean    removes $(TARGET)'

build:
	$(CARGO) build --release --locked

demo:
	$(CARGO) build --locked
	packaging/demo.sh $(TARGET)/debug/provost

test:
	tests/install.sh tests
	$(CARGO) test --locked

check:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) test --locked --test tidy

bench:
	tests/install.sh bench
	$(STATIC) bench --locked --target $(TRIPLE) --bench bench -- $(BENCH)

static:
	$(STATIC) build --release --locked --target $(TRIPLE) --no-default-features --features '$(FEATURES)'
	packaging/prove-static.sh $(BINARY) $(TARGET)/provost-static $(if $(FEATURES),8388608)

faults:
	tests/install.sh tests
	$(CARGO) build --release --locked --examples
	PROVOST_TEST_ROUNDS=$(or $(ROUNDS),10) $(CARGO) test --release --locked --test it

install: build
	packaging/install.sh $(TARGET)/release/provost "$(DESTDIR)$(PREFIX)"

clean:
	$(CARGO) clean

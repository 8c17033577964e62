# MusicFS: `make help` lists what can be made. Needs a Rust toolchain; what else is missing is installed or named.

SHELL := /bin/bash
export MUSIC AT WAIT PREFIX DESTDIR BENCH

.PHONY: help mount umount test check bench install build

help:  ## Show this list
	@sed -n 's/^\([a-z]*\): .*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

mount:  ## Build and mount MUSIC=~/Music at AT=~/mnt; without MUSIC, a library made for a first look
	@scripts/mount

umount:  ## Unmount AT=DIR, or what was mounted last
	@scripts/umount

build:  ## Build the release binary
	cargo build --release -p musicfs-bin

test:  ## Run all tests
	scripts/test

check:  ## Check formatting, lints and documentation
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy -p musicfs-bin --all-targets --features failpoints -- -D warnings
	scripts/example fmt --check
	scripts/example clippy --all-targets -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --quiet

bench:  ## Measure, beside the plain disk and whichever peers are installed
	scripts/bench

install:  ## Install under PREFIX=/usr/local: binary, mount helper, manual, completions, systemd units
	scripts/install

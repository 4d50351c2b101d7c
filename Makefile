# The two commands a person needs: `make up` and `make test`. Everything else is `cargo xtask`.

ARCH   ?= $(shell uname -m)
TARGET := $(ARCH)-unknown-linux-gnu
BINARY := target/$(TARGET)/release/corten
# Functions of the same instructions become one. GNU's linkers, which other architectures use, have no such flag.
FOLD_x86_64 := -C link-arg=-Wl,--icf=all
SUDO   := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: up build deps test size clean-cluster

## Build the release binary and start a one-node cluster with a demonstration.
up: build
	$(SUDO) $(BINARY) up --demo

## The static release binary, by the default linker: with mold 1.10 a static executable ends in libc's start-up. For arm64: `make build ARCH=aarch64` with Debian's gcc-aarch64-linux-gnu.
build: deps
	RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static" \
		cargo rustc --release --target $(TARGET) --package corten --bin corten -- $(FOLD_$(ARCH))

## All tests; the last line says how many passed and failed.
test: deps
	@sh .ci/kubectl
	cargo xtask test

## Debian packages that building and testing need.
deps:
	@sh .ci/deps

## Whether the stripped binary is within its budget.
size: build
	cargo xtask size $(BINARY)

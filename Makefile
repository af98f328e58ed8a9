# The two commands of the README are `make demo` and `make test`; both install what they miss.
CARGO ?= cargo
TARGET := target/$(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')/release

.PHONY: demo test build check bench clean install-build install-test

demo: install-build build
	$(TARGET)/brisk-demo

test: install-test build
	$(CARGO) test --release --workspace

build: install-build
	$(CARGO) build --release --workspace

check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings

install-build:
	@scripts/install build

install-test: install-build
	@scripts/install test

clean:
	$(CARGO) clean

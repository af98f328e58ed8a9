# The two commands of the README are `make demo` and `make test`; both install what they miss.
CARGO ?= cargo
# Asked for when a recipe runs, since the compiler may be installed by its prerequisites.
TARGET = target/$(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')/release

# Images and a layer for the comparisons; made in bench/images/out where they are not given.
IMAGES ?= bench/images/out
LAYOUT ?= $(IMAGES)/python
ROUNDS ?= 5

# Files of runc's suite that every change is tried with.
SAMPLE := delete exec hooks kill list mask mounts pause ps run seccomp state tty umask userns

.PHONY: demo test build check check-python check-redis bench conformance conformance-sample \
	snapshotter-conformance clean install-build install-test install-bench bench-index \
	bench-index-8g bench-chunks bench-cold bench-warm bench-yield bench-runtime

demo: install-build build
	$(TARGET)/brisk-demo

test: install-test build
	$(CARGO) test --release --workspace

build: install-build
	$(CARGO) build --release --workspace

check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings

# Lazy starts of real images against runc on their unpacked bundles. Needs root and the network.
check-python check-redis: check-%: build install-test $(IMAGES)/%/index.json
	BRISK_LAYOUT=$(abspath $(IMAGES)/$*) $(CARGO) test --release --workspace --test workloads -- \
		--ignored --nocapture --exact $*

# runc's integration suite with brisk-runtime and with runc, side by side. Needs root and the network.
# conformance-sample takes a part that lasts about a minute.
conformance conformance-sample: install-build
	scripts/install conformance
	$(CARGO) build --release -p brisk-runtime
	tests/conformance/compare target/$@ $(TARGET)/brisk-runtime \
		$(if $(filter %-sample,$@),$(SAMPLE:%=%.bats))

# containerd's conformance suite for snapshotters with brisk daemon. Needs root and the network.
snapshotter-conformance: build
	scripts/install snapshotter-conformance
	tests/snapshotter-conformance/run target/snapshotter-conformance $(TARGET)/brisk

# Each prints a table of ratios from one run in which the contenders take turns.
bench: bench-index bench-chunks bench-cold bench-yield bench-warm bench-runtime

bench-index: build $(LAYOUT)/index.json
	$(TARGET)/brisk-compare --rounds $(ROUNDS) index $(LAYOUT)
# Not part of `bench`: minutes of one processor.
bench-index-8g: build
	$(TARGET)/brisk-compare big
bench-chunks: build $(LAYOUT)/index.json
	$(TARGET)/brisk-compare --rounds $(ROUNDS) chunks $(LAYOUT)
bench-cold: build $(LAYOUT)/index.json
	$(TARGET)/brisk-compare --rounds $(ROUNDS) cold $(LAYOUT)
bench-yield: build $(LAYOUT)/index.json
	$(TARGET)/brisk-compare --rounds $(ROUNDS) yield $(LAYOUT)
bench-warm: build $(LAYOUT)/index.json
	$(TARGET)/brisk-compare --rounds $(ROUNDS) warm $(LAYOUT)

bench-runtime: build install-bench
	$(TARGET)/brisk-compare --rounds 30 runtime

# The image itself needs root and the network.
%/index.json: | install-bench
	bench/images/mkimg.py $(dir $*) $(notdir $*)

install-build:
	@scripts/install build

install-test: install-build
	@scripts/install test

install-bench: install-build
	@scripts/install bench

clean:
	$(CARGO) clean

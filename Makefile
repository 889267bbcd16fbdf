# knarr: `make run` starts a node and shows a sample answering, `make test` is everything CI runs.
#
# Each target installs the Debian packages it needs (as root, only those that are missing) and says which.

CARGO   ?= cargo
PREFIX  ?= /usr/local
DESTDIR ?=
HOST    := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
TARGET  := $(or $(CARGO_TARGET_DIR),target)
BIN     := $(TARGET)/$(HOST)/release
BINARIES := knarr knarr-runtime knarr-monitor
TESTED  := $(TARGET)/$(HOST)/tested

RUN_PACKAGES  := gcc nftables iproute2 busybox-static docker-registry curl
TEST_PACKAGES := etcd-server $(RUN_PACKAGES) runc criu podman skopeo umoci buildah fuse-overlayfs containerd openssl conntrack jq cpio xz-utils kmod tmux git \
                 netcat-openbsd iputils-ping procps containernetworking-plugins qemu-system-x86 libseccomp-dev

.PHONY: build tested tested-small tested-debug run test bench soak lint install test-vm clean

build:
	$(CARGO) build --release --locked -p knarr -p knarr-monitor
	$(CARGO) build --profile small --locked -p knarr-runtime
	install -m 0755 $(TARGET)/$(HOST)/small/knarr-runtime $(BIN)/knarr-runtime

# What the tests run: the runtime and the monitor as they are shipped, and knarr as the tests compile it anyway (an
# optimised one takes longer to build than all tests take to run). It is built together with them: alone its crates would
# have other features, and all be compiled twice.
#
# The two builds go side by side: the end of an optimised one keeps one processor busy. They share their jobs.
tested:
	+@$(MAKE) --no-print-directory -j$(shell nproc) tested-small tested-debug
	install -d $(TESTED)
	install -m 0755 $(TARGET)/$(HOST)/debug/knarr $(BIN)/knarr-monitor $(TARGET)/$(HOST)/small/knarr-runtime $(TESTED)

tested-small:
	+$(CARGO) build --release --locked -p knarr-monitor
	+$(CARGO) build --profile small --locked -p knarr-runtime

tested-debug:
	+$(CARGO) build --workspace --bins --tests --locked

# ONCE=1: the same, then stop everything and leave nothing behind.
run:
	@scripts/install-packages $(RUN_PACKAGES)
	@$(MAKE) --no-print-directory build
	@KNARR_BIN_DIR=$(abspath $(BIN)) ONCE=$(ONCE) scripts/run-sample

test:
	@scripts/install-packages $(TEST_PACKAGES)
	@$(MAKE) --no-print-directory tested
	@KNARR_BIN_DIR=$(abspath $(TESTED)) CARGO=$(CARGO) scripts/test

# The kernel suites in a small virtual machine with pure cgroup v2.
test-vm:
	@scripts/install-packages $(TEST_PACKAGES)
	@$(MAKE) --no-print-directory tested
	@KNARR_BIN_DIR=$(abspath $(TESTED)) CARGO=$(CARGO) scripts/test-vm

bench:
	@scripts/install-packages $(TEST_PACKAGES) crun hyperfine
	@$(MAKE) --no-print-directory build
	@KNARR_BIN_DIR=$(abspath $(BIN)) scripts/bench

soak:
	@scripts/install-packages $(TEST_PACKAGES)
	@$(MAKE) --no-print-directory build
	@KNARR_BIN_DIR=$(abspath $(BIN)) CARGO=$(CARGO) scripts/soak

lint:
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --workspace --all-targets --locked --target-dir $(TARGET)/lint -- -D warnings

install: build
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/systemd/system
	install -m 0755 $(addprefix $(BIN)/,$(BINARIES)) $(DESTDIR)$(PREFIX)/bin
	for unit in knarr knarr-agent knarr-server knarr-engine knarr-run; do \
	  sed 's|@BINDIR@|$(PREFIX)/bin|' packaging/$$unit.service > $(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit.service; done
	install -d $(DESTDIR)$(PREFIX)/share/man/man1
	$(BIN)/knarr man $(DESTDIR)$(PREFIX)/share/man/man1
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions \
	  $(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	$(BIN)/knarr completions bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/knarr
	$(BIN)/knarr completions zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_knarr
	$(BIN)/knarr completions fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/knarr.fish

clean:
	$(CARGO) clean

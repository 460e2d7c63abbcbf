# `make` alone lists what can be done here.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
CARGO ?= cargo
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
MUSL := $(patsubst %-gnu,%-musl,$(HOST))
# The static executable is built for size; `make build` builds for speed.
# It is built for musl where that target is installed, else for the host's own.
STATIC_TARGET = $(if $(wildcard $(shell rustc --print target-libdir --target $(MUSL) 2>/dev/null)),$(MUSL),$(HOST))
STATIC_MAX := 2097152
# Where the tests and cargo look; not every environment says all of it.
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/local/sbin:/usr/sbin:/sbin
# A registry that does not answer at once is asked again.
export CARGO_NET_RETRY ?= 10
# The tests run the program as a router distribution builds it: with overflow checks.
TAPVS ?= $(abspath $(or $(CARGO_TARGET_DIR),target))/debug/tapvs
export TAPVS

# tool=package: what the build and the tests need beyond Rust.
BUILD_TOOLS := cc=gcc ld=binutils
DEMO_TOOLS := $(BUILD_TOOLS) ip=iproute2 sysctl=procps curl=curl ping=iputils-ping ethtool=ethtool python3=python3 \
	timeout=coreutils awk=mawk
TOOLS := $(DEMO_TOOLS) tcpdump=tcpdump iperf3=iperf3 socat=socat dig=bind9-dnsutils wrk=wrk vsftpd=vsftpd lftp=lftp \
	unshare=util-linux watch=procps openssl=openssl ipvsadm=ipvsadm ldirectord=ldirectord \
	prometheus-node-exporter=prometheus-node-exporter

# Where `make install` puts what `make build` has built.
DESTDIR ?=
PREFIX ?= /usr/local
PROGRAM ?= target/release/tapvs
SBIN = $(DESTDIR)$(PREFIX)/sbin
SHARE = $(DESTDIR)$(PREFIX)/share
BASH_DIR = $(SHARE)/bash-completion/completions
FISH_DIR = $(SHARE)/fish/vendor_completions.d
ZSH_DIR = $(SHARE)/zsh/site-functions
IPVSADM := ipvsadm ipvsadm-save ipvsadm-restore

# What `make bench` needs besides.
BENCH_TOOLS := haproxy=haproxy nginx=nginx nft=nftables valgrind=valgrind
# ROUNDS and SECONDS of each test; SCENES (nat4 dr6 …), TESTS (tcp1 udp …) and SUTS (tapvs nft …) are all
# where they are empty.
ROUNDS := 5
SECONDS := 2
SCENES :=
TESTS :=
SUTS :=

.DEFAULT_GOAL := help
.PHONY: help deps bench-deps build static install install-ipvsadm uninstall docs demo scale test netns conformance cross soak bench \
	lint ci clean

help: ## list these targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "  make %-15s %s\n", $$1, $$2 }'

deps: ## install what is missing beyond Rust (Debian packages); nothing missing, nothing done
	@lacking() {
	    for pair in $(TOOLS); do command -v "$${pair%%=*}" >/dev/null || printf ' %s' "$${pair#*=}"; done
	    [ -e /usr/include/stdio.h ] || printf ' libc6-dev'
	}
	missing="$(MISSING)$$(lacking)"
	command -v $(CARGO) >/dev/null || echo "deps: no cargo: install Rust 1.85 or newer first (https://rustup.rs)"
	[ -n "$$missing" ] || exit 0
	command -v apt-get >/dev/null || { echo "deps: install these by your own package manager:$$missing"; exit 1; }
	[ "$$(id -u)" = 0 ] || { echo "deps: as root, run: apt-get install$$missing"; exit 1; }
	echo "deps: installing$$missing"
	# Nobody is asked, and nothing is started. A machine that has just been started may be installing something
	# itself, a mirror may not answer at once, and an index that is old or not whole may still do.
	export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l RUNLEVEL=1
	apt="apt-get -y -o DPkg::Lock::Timeout=600 -o Acquire::Retries=5"
	install="$$apt install --no-install-recommends $$missing"
	$$install >/dev/null 2>&1 || for pause in 0 10 30; do
	    sleep "$$pause"
	    $$apt update >/dev/null || true
	    $$install && break
	done
	installed=$$missing
	# What counts is what is there, whatever a package's own scripts have complained of.
	missing="$$(lacking)"
	[ -z "$$missing" ] || { echo "deps: these could not be installed:$$missing"; exit 1; }
	# The tests start servers of their own; the ones that the packages start are nobody's wish.
	for daemon in vsftpd ldirectord prometheus-node-exporter; do
	    case "$$installed " in *" $$daemon "*)
	        systemctl disable --now "$$daemon" >/dev/null 2>&1 || service "$$daemon" stop >/dev/null 2>&1 || true ;;
	    esac
	done

bench-deps: TOOLS += $(BENCH_TOOLS)
bench-deps: MISSING = $(if $(wildcard /usr/lib/nginx/modules/ngx_stream_module.so),, libnginx-mod-stream)
bench-deps: deps

build: ## build target/release/tapvs
	$(CARGO) build --locked --release

static: ## build the static executable, stripped, and print its size (2 MiB at most; STATIC_TARGET= for another machine)
	@target=$(STATIC_TARGET) words=$${target//-/_} cc=$${CC:-gcc}
	if [ "$${target%%-*}" != "$(firstword $(subst -, ,$(HOST)))" ]; then
	    # Another processor: Debian's compiler of its name, unless CC says which, compiles and links.
	    case $$target in
	    armv7-*hf) cross=arm-linux-gnueabihf-gcc ;;
	    arm*) cross=arm-linux-gnueabi-gcc ;;
	    powerpc64le-*) cross=powerpc64le-linux-gnu-gcc ;;
	    *) cross=$${target%%-*}-linux-gnu-gcc ;;
	    esac
	    cc=$${CC:-$$cross}
	    command -v "$$cc" >/dev/null || { echo "static: no $$cc here (gcc-$${cc%-gcc} in Debian); CC= names the compiler for $$target"; exit 1; }
	    [ -e "$$(rustc --print target-libdir --target "$$target")" ] \
	        || { echo "static: no Rust for $$target here: rustup target add $$target"; exit 1; }
	    export "CARGO_TARGET_$${words^^}_LINKER=$$cc" "CC_$$words=$$cc"
	fi
	case $$target in
	*-musl*)
	    # tun-tap's C file wants the kernel's headers, which the host's compiler knows where to find.
	    export "CC_$$words=$$cc" ;;
	*) echo "static: for $$target; smaller where Rust has its musl target" ;;
	esac
	export CARGO_PROFILE_RELEASE_OPT_LEVEL=z
	flags='-C target-feature=+crt-static -C strip=symbols -C relocation-model=static -C force-unwind-tables=no'
	flags="$$flags -C link-arg=-fuse-ld=bfd -C link-arg=-Wl,-T,$(CURDIR)/dist/static.ld"
	RUSTFLAGS=$$flags $(CARGO) build --locked --release --target "$$target"
	file=target/$$target/release/tapvs
	size=$$(stat -c %s "$$file")
	echo "$$file: $$size bytes"
	[ "$$size" -le $(STATIC_MAX) ] || { echo "more than $(STATIC_MAX) bytes"; exit 1; }

install: ## install the program, manual pages and completions (PREFIX=/usr/local, DESTDIR=, PROGRAM=)
	@[ -x "$(PROGRAM)" ] || $(MAKE) build
	install -D -m 755 "$(PROGRAM)" "$(SBIN)/tapvs"
	for page in man/*.[58]; do
	    install -D -m 644 "$$page" "$(SHARE)/man/man$${page##*.}/$${page##*/}"
	done
	install -D -m 644 completions/tapvs.bash "$(BASH_DIR)/tapvs"
	install -D -m 644 completions/tapvs.fish "$(FISH_DIR)/tapvs.fish"
	install -D -m 644 completions/_tapvs "$(ZSH_DIR)/_tapvs"

install-ipvsadm: install ## and make it the host's ipvsadm, by links of that name and its scripts'
	@for name in $(IPVSADM); do
	    link=$(SBIN)/$$name
	    [ "$$(readlink "$$link")" = tapvs ] || ln -s tapvs "$$link"
	    ln -sf tapvs "$(BASH_DIR)/$$name"
	    ln -sf tapvs.fish "$(FISH_DIR)/$$name.fish"
	done

uninstall: ## take away what they have put there
	@for name in $(IPVSADM); do
	    [ "$$(readlink "$(SBIN)/$$name")" = tapvs ] || continue
	    rm -f "$(SBIN)/$$name" "$(BASH_DIR)/$$name" "$(FISH_DIR)/$$name.fish"
	done
	for page in man/*.[58]; do
	    rm -f "$(SHARE)/man/man$${page##*.}/$${page##*/}"
	done
	rm -f "$(SBIN)/tapvs" "$(BASH_DIR)/tapvs" "$(FISH_DIR)/tapvs.fish" "$(ZSH_DIR)/_tapvs"

docs: ## write manual pages and completions anew; a test tells when they are stale
	UPDATE=1 $(CARGO) test --locked --test docs

demo: TOOLS = $(DEMO_TOOLS)
demo: deps build ## watch three servers share the requests of a client, by NAT, direct routing and tunnel
	@TAPVS=$(CURDIR)/target/release/tapvs netns-tests/demo.sh

scale: deps build ## what 10,000 services cost (as root)
	@TAPVS=$(CURDIR)/target/release/tapvs netns-tests/scale.sh

test: deps ## run every test: unit, scenario and (as root) namespace tests
	@netns-tests/all

netns: deps ## run the namespace tests alone; `make netns T=02-dr` runs one
	@$(CARGO) build --locked
	netns-tests/run $(T)

conformance: ## play every story at the kernel's IPVS and at tapvs, and compare; `C=name` plays some
	@$(CARGO) build --locked --bin tapvs --example story
	python3 conformance/play.py $(C)

# A 32-bit target with the other byte order: whatever leans on either shows there.
CROSS := powerpc-unknown-linux-gnu
cross: ## run the core's tests on an emulated 32-bit big-endian machine
	@missing=
	for pair in powerpc-linux-gnu-gcc=gcc-powerpc-linux-gnu qemu-ppc=qemu-user; do
	    command -v "$${pair%%=*}" >/dev/null || missing="$$missing $${pair#*=}"
	done
	[ -e /usr/powerpc-linux-gnu/include/stdio.h ] || missing="$$missing libc6-dev-powerpc-cross"
	[ -z "$$missing" ] || { echo "cross: installing$$missing"
	    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$missing >/dev/null; }
	[ -e "$$(rustc --print target-libdir --target $(CROSS))" ] || rustup target add $(CROSS)
	export CARGO_TARGET_POWERPC_UNKNOWN_LINUX_GNU_LINKER=powerpc-linux-gnu-gcc
	export CARGO_TARGET_POWERPC_UNKNOWN_LINUX_GNU_RUNNER='qemu-ppc -L /usr/powerpc-linux-gnu'
	$(CARGO) test --locked --target $(CROSS) --lib --test scenarios --test rules --test malformed

bench: bench-deps build ## measure tapvs beside the kernel's NAT, proxies and the ceiling; writes docs/bench.md (an hour)
	@$(CARGO) build --locked --release --examples
	benches/run.py --rounds $(ROUNDS) --seconds $(SECONDS) --scenes "$(SCENES)" --tests "$(TESTS)" --suts "$(SUTS)"

soak: TOOLS += nft=nftables
soak: deps build ## carry 10 GB through each method, summed at both ends, with loss and every MTU (GB=… for less)
	@TAPVS=$(CURDIR)/target/release/tapvs netns-tests/soak

lint: ## formatting, clippy and shellcheck, all fatal
	@echo "cargo fmt --check"
	$(CARGO) fmt --check
	echo "cargo clippy"
	$(CARGO) clippy --locked --all-targets -- -D warnings
	command -v shellcheck >/dev/null || { echo "no shellcheck here: the scripts were not looked at"; exit 0; }
	echo "shellcheck"
	shellcheck netns-tests/*.sh netns-tests/run netns-tests/all netns-tests/as-ipvsadm netns-tests/soak conformance/init benches/budget .ci/run dist/tapvs.init completions/tapvs.bash
	shellcheck -s sh dist/tapvs.openwrt

ci: deps lint test ## what a change must pass

clean: ## remove what was built
	$(CARGO) clean

.ONESHELL:

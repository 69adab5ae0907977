# pawl. A plain `make` works right after checkout; `./configure` is optional
# and only writes config.mk. `make help` lists the targets.
#
# Everything is found by wildcard: a new raft/x.c, proto/x.c, server/x.c,
# client/x.c or tests/<dir>/test_x.c needs no line here. Each flavour builds in
# a directory of its own:
#     make B=build/asan SAN="-fsanitize=address,undefined"
#     make B=build/clang CC=clang

-include config.mk

PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
DOCDIR ?= $(PREFIX)/share/doc/pawl
MANDIR ?= $(PREFIX)/share/man
DESTDIR ?=
CC ?= cc
AR ?= ar
OBJCOPY ?= objcopy
INSTALL ?= install
CFLAGS ?= -O2 -g
B ?= build/release
SAN ?=
WERROR ?=

VERSION := $(shell cat VERSION 2>/dev/null || echo 0.0.0)
COMMIT := $(shell git rev-parse --short HEAD 2>/dev/null || echo $(VERSION))
SONAME := libpawl.so.$(firstword $(subst ., ,$(VERSION)))

# ---- what it stands on ------------------------------------------------------
# One line each: configure reads the first.
PKGS := libevent_core libevent_extra libnghttp2 libprotobuf-c sqlite3 libcrypto libxxhash
LIBPAWL_PKGS := libevent_core libevent_extra libnghttp2 libprotobuf-c
CTL_PKGS := smartcols json-c
ifndef PKG_LIBS
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS := $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lpthread
endif
ifndef CHECK_LIBS
CHECK_CFLAGS := $(shell pkg-config --cflags check 2>/dev/null)
CHECK_LIBS := $(shell pkg-config --libs check 2>/dev/null)
endif
LIBPAWL_LIBS := $(shell pkg-config --libs $(LIBPAWL_PKGS) 2>/dev/null)
CTL_LIBS := $(shell pkg-config --libs $(CTL_PKGS) 2>/dev/null)

# One line that says what is missing, instead of a page of errors.
GOALS := $(or $(MAKECMDGOALS),all)
SELF_SUFFICIENT := bench clean demo deps dist format help lint
ifneq ($(filter-out $(SELF_SUFFICIENT),$(GOALS)),)
FOUND := $(shell pkg-config --exists $(PKGS) $(CTL_PKGS) && command -v protoc-c)
ifneq ($(filter check%,$(GOALS)),)
FOUND := $(and $(FOUND),$(CHECK_LIBS))
endif
ifeq ($(FOUND),)
$(error $(shell scripts/deps --say $(if $(filter check%,$(GOALS)),--test)))
endif
endif

# ---- flags ------------------------------------------------------------------
WARN := -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes \
	-Wmissing-prototypes -Wvla
CPPFLAGS_ALL := -D_GNU_SOURCE -DPAWL_VERSION=\"$(VERSION)\" \
	-I. -isystem $(B)/gen $(PKG_CFLAGS) $(CPPFLAGS)
CFLAGS_ALL := -std=c11 $(WARN) $(CFLAGS) $(SAN)
LDFLAGS_ALL := -Wl,--as-needed $(LDFLAGS) $(SAN)
# For what libpawl.so takes in; PAWL_API in pawl.h says what it shows.
PIC := -fPIC -fvisibility=hidden

# ---- what there is ----------------------------------------------------------
PROTOS := $(wildcard proto/*.proto proto/etcd/*.proto)
GEN_C := $(PROTOS:proto/%.proto=$(B)/gen/%.pb-c.c)
GEN_H := $(GEN_C:.c=.h)
HEADERS := $(wildcard raft/*.h proto/*.h server/*.h client/*.h tests/*.h tests/*/*.h)

CORE_SRC := $(filter-out raft/store%.c,$(wildcard raft/*.c))
RAFT_SRC := $(wildcard raft/*.c)
PROTO_SRC := $(wildcard proto/*.c)
SERVER_SRC := $(filter-out server/main.c,$(wildcard server/*.c))
CTL_SRC := $(wildcard client/ctl_*.c)
LIBPAWL_SRC := $(filter-out $(CTL_SRC) client/pawlctl.c,$(wildcard client/*.c))
objects = $(patsubst %.c,$(B)/%.o,$(1))

RAFT_A := $(B)/libraft.a
# The same code with the claims that cost a scan (ASSERT_SLOW), for its tests.
RAFT_SLOW_A := $(B)/slow/libraft.a
PROTO_A := $(B)/libproto.a
SERVER_A := $(B)/libserver.a
CLIENT_A := $(B)/libclient.a
CTL_A := $(B)/libctl.a
# What is installed: the client and the rpc layer, showing only pawl.h's names.
PAWL_A := $(B)/libpawl.a
PAWL_SO := $(B)/$(SONAME)

# Each tests/<dir>/test_*.c is a program of its own; other .c files there are
# helpers that all tests of that directory link, but for main*.c and bench_*.c.
TEST_SRC := $(wildcard tests/raft/test_*.c tests/proto/test_*.c \
	tests/server/test_*.c tests/client/test_*.c tests/sim/test_*.c \
	tests/bench/test_*.c)
TESTS := $(TEST_SRC:%.c=$(B)/%)
test_helpers = $(call objects,$(filter-out \
	tests/$(1)/test_%.c tests/$(1)/main%.c tests/$(1)/bench_%.c,\
	$(wildcard tests/$(1)/*.c)))
FUZZERS := $(patsubst %.c,$(B)/%,$(wildcard tests/fuzz/fuzz_*.c))
SIM := $(if $(wildcard tests/sim/main.c),$(B)/sim)
# Programs with the rpc client side; they find pawld two directories up.
E2E_PROGRAMS := $(patsubst %.c,$(B)/%,$(wildcard tests/e2e/test_*.c))
E2E_TESTS := $(E2E_PROGRAMS) $(wildcard tests/e2e/test_*.sh)
# A test program that runs longer than this hangs.
TEST_TIMEOUT_S ?= 300

PROGRAMS := $(if $(wildcard server/main.c),$(B)/pawld) \
	$(if $(wildcard client/pawlctl.c),$(B)/pawlctl)
LIBRARIES := $(if $(LIBPAWL_SRC),$(PAWL_A) $(PAWL_SO))

all: $(PROGRAMS) $(LIBRARIES) ## pawld, pawlctl, libpawl

# ---- rules ------------------------------------------------------------------
# One short line a command; V=1 shows the commands.
ifeq ($(V),)
say = @printf '  %-7s%s\n' $(1) $@;
endif

# Files that change when what they hold does: no object outlives its flags, no
# simulator its commit.
$(B)/flags: HELD = $(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(LDFLAGS_ALL)
$(B)/commit: HELD = $(COMMIT)
$(B)/flags $(B)/commit: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(HELD)' | cmp -s - $@ || printf '%s\n' '$(HELD)' >$@

$(B)/gen/%.pb-c.c $(B)/gen/%.pb-c.h: proto/%.proto
	@mkdir -p $(B)/gen
	$(call say,PROTOC)protoc-c -Iproto --c_out=$(B)/gen $<

$(B)/gen/%.o: $(B)/gen/%.c $(B)/flags | $(GEN_H)
	$(call say,CC)$(CC) -std=c11 -w $(CPPFLAGS_ALL) $(CFLAGS) $(SAN) $(PIC) -MD -MP \
		-c -o $@ $<

COMPILE = $(call say,CC)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(WERROR) \
	$(EXTRA_CFLAGS) -MD -MP -c -o $@ $<

$(B)/%.o: %.c $(B)/flags | $(GEN_H)
	@mkdir -p $(@D)
	$(COMPILE)

$(B)/slow/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(COMPILE)

$(B)/proto/%.o $(B)/client/%.o: EXTRA_CFLAGS = $(PIC)
$(B)/slow/%.o: EXTRA_CFLAGS = -DPAWL_SLOW_ASSERTS
$(B)/tests/%.o: EXTRA_CFLAGS = $(CHECK_CFLAGS)

$(RAFT_A): $(call objects,$(RAFT_SRC))
$(RAFT_SLOW_A): $(RAFT_SRC:%.c=$(B)/slow/%.o)
$(PROTO_A): $(call objects,$(PROTO_SRC)) $(GEN_C:.c=.o)
$(SERVER_A): $(call objects,$(SERVER_SRC))
$(CLIENT_A): $(call objects,$(LIBPAWL_SRC))
$(CTL_A): $(call objects,$(CTL_SRC))
$(PAWL_A): $(B)/libpawl.o
%.a:
	@rm -f $@
	$(call say,AR)$(AR) rcs $@ $^

$(B)/libpawl.o: $(call objects,$(LIBPAWL_SRC) $(PROTO_SRC)) $(GEN_C:.c=.o)
	$(call say,LD)$(CC) -r -nostdlib -o $@ $^
	@$(OBJCOPY) --localize-hidden $@
$(PAWL_SO): $(B)/libpawl.o
	$(call say,LD)$(CC) $(LDFLAGS_ALL) -shared -Wl,-soname,$(SONAME) -o $@ $^ $(LIBPAWL_LIBS)

LINK = $(call say,LD)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(PKG_LIBS)

$(B)/pawld: $(B)/server/main.o $(SERVER_A) $(RAFT_A) $(PROTO_A)
	$(LINK)
$(B)/pawlctl: $(B)/client/pawlctl.o $(CTL_A) $(CLIENT_A) $(PROTO_A)
	$(LINK) $(CTL_LIBS)
$(B)/pawl-bench: $(B)/tests/bench/main.o $(call test_helpers,bench) $(PROTO_A)
	$(LINK) -lm

# tests/bench/bench_x.c measures one part alone.
$(B)/bench_%: $(B)/tests/bench/bench_%.o $(SERVER_A) $(RAFT_A) $(PROTO_A)
	$(LINK) -lm
$(B)/tests/sim/main.o: EXTRA_CFLAGS = -DPAWL_COMMIT=\"$(COMMIT)\"
$(B)/tests/sim/main.o: $(B)/commit
$(B)/sim: $(B)/tests/sim/main.o $(call test_helpers,sim) $(SERVER_A) $(RAFT_SLOW_A) $(PROTO_A)
	$(LINK)

# What each kind of test links.
$(B)/tests/raft/test_%: $(B)/tests/raft/test_%.o $(call test_helpers,raft) $(RAFT_SLOW_A)
	$(LINK) $(CHECK_LIBS)
$(B)/tests/proto/test_%: $(B)/tests/proto/test_%.o $(call test_helpers,proto) $(PROTO_A)
	$(LINK) $(CHECK_LIBS)
$(B)/tests/server/test_%: $(B)/tests/server/test_%.o $(call test_helpers,server) $(SERVER_A) $(RAFT_A) $(PROTO_A)
	$(LINK) $(CHECK_LIBS)
$(B)/tests/client/test_%: $(B)/tests/client/test_%.o $(call test_helpers,client) $(CTL_A) $(CLIENT_A) $(PROTO_A)
	$(LINK) $(CTL_LIBS) $(CHECK_LIBS)
$(B)/tests/sim/test_%: $(B)/tests/sim/test_%.o $(call test_helpers,sim) $(SERVER_A) $(RAFT_SLOW_A) $(PROTO_A)
	$(LINK) $(CHECK_LIBS)
$(B)/tests/e2e/test_%: $(B)/tests/e2e/test_%.o $(call test_helpers,e2e) $(PROTO_A)
	$(LINK) $(CHECK_LIBS)
$(B)/tests/bench/test_%: $(B)/tests/bench/test_%.o $(call test_helpers,bench) $(PROTO_A)
	$(LINK) $(CHECK_LIBS)
# tests/fuzz/replay.c runs kept inputs; with CC=clang SAN=-fsanitize=fuzzer,address
# the fuzzer's own main takes its place.
$(B)/tests/fuzz/fuzz_%: $(B)/tests/fuzz/fuzz_%.o \
		$(if $(findstring fuzzer,$(SAN)),,$(B)/tests/fuzz/replay.o) \
		$(SERVER_A) $(CLIENT_A) $(RAFT_A) $(PROTO_A)
	$(LINK)

-include $(shell find $(B) -name '*.d' 2>/dev/null)

# ---- checks -----------------------------------------------------------------
# Every test runs, whatever the others do; count-tests then adds up and fails
# if one failed. Its line of counts comes last.
check: $(TESTS:%=%.ran) check-layers check-headers ## unit tests, layers, headers: about a minute
	@scripts/count-tests $(TESTS:%=%.log)

%.ran: %
	@scripts/run-test $<.log $(TEST_TIMEOUT_S) $<

check-asan: ## the same with address and undefined sanitizers
	+@$(MAKE) --no-print-directory check B=build/asan \
		SAN="-fsanitize=address,undefined -fno-sanitize-recover=undefined"

# The core and the simulator have one thread: nothing for it to see there.
check-tsan: ## tests of what has threads, with the thread sanitizer
	+@$(MAKE) --no-print-directory check B=build/tsan SAN=-fsanitize=thread \
		TEST_SRC="$(wildcard tests/proto/test_*.c tests/server/test_*.c \
		tests/client/test_*.c tests/bench/test_*.c)"

check-layers: $(call objects,$(CORE_SRC)) ## who includes whom, and what the core links to
	@scripts/check-layers $(if $(SAN),--san) $^

check-headers: $(HEADERS:%=$(B)/%.ok) $(B)/pawl.h.alone.ok ## each header compiles on its own

$(B)/%.h.ok: %.h $(B)/flags | $(GEN_H)
	@mkdir -p $(@D)
	@printf '#include "%s"\n' $< | $(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) \
		$(WERROR) $(CHECK_CFLAGS) -MD -MP -MT $@ -MF $@.d -fsyntax-only -x c -
	@touch $@

# What is installed must do without our flags and directories, and for C++.
$(B)/pawl.h.alone.ok: client/pawl.h
	@echo '#include "client/pawl.h"' | \
		$(CC) -std=c99 -Wall -Wextra -pedantic -Werror -fsyntax-only -x c -
	@if command -v $(CXX) >/dev/null; then echo '#include "client/pawl.h"' | \
		$(CXX) -Wall -Wextra -pedantic -Werror -fsyntax-only -x c++ -; fi
	@touch $@

check-sim: $(SIM) ## simulated clusters, two minutes; SEED=0x5eed RUNS=1: one of them again
	@for sim in $(SIM); do \
		$$sim $(if $(WORLD),--world $(WORLD)) $(if $(SEED),--seed $(SEED)) \
			$(if $(RUNS),--runs $(RUNS)); done

check-e2e: $(PROGRAMS) $(E2E_PROGRAMS) ## real servers, real sockets, kill -9: minutes
	@for t in $(E2E_TESTS); do \
		B=$(B) scripts/run-test $(B)/$${t#$(B)/}.log $(TEST_TIMEOUT_S) $$t; done
	@scripts/count-tests $(foreach t,$(E2E_TESTS),$(B)/$(t:$(B)/%=%).log)

check-fuzz: $(FUZZERS) ## replay the kept inputs of every fuzz target
	@for f in $(FUZZERS); do \
		$$f tests/fuzz/corpus/$${f##*/fuzz_} || exit 1; done

bench: ## pawl and etcd side by side; QUICK=1: a minute
	@scripts/bench

# ---- the rest ---------------------------------------------------------------
demo: ## three servers, a killed leader, a lock with its token
	@scripts/demo

deps: ## install the packages that are missing (Debian)
	@scripts/deps --all

format: ## lay out the sources as .clang-format says
	@scripts/format

lint: ## clang-tidy, cppcheck, shellcheck
	@scripts/lint

install: all ## to DESTDIR, under PREFIX (/usr/local)
	$(INSTALL) -d $(addprefix $(DESTDIR),$(BINDIR) $(LIBDIR)/pkgconfig \
		$(INCLUDEDIR) $(DOCDIR) $(MANDIR)/man1)
	$(INSTALL) -m 755 $(PROGRAMS) $(DESTDIR)$(BINDIR)
	$(INSTALL) -m 644 $(PAWL_A) $(DESTDIR)$(LIBDIR)
	$(INSTALL) -m 755 $(PAWL_SO) $(DESTDIR)$(LIBDIR)
	ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/libpawl.so
	$(INSTALL) -m 644 client/pawl.h $(DESTDIR)$(INCLUDEDIR)
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' \
		-e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' -e 's|@VERSION@|$(VERSION)|' \
		-e 's|@REQUIRES@|$(LIBPAWL_PKGS)|' client/pawl.pc.in \
		>$(DESTDIR)$(LIBDIR)/pkgconfig/pawl.pc
	$(INSTALL) -m 644 client/pawlctl.1 $(DESTDIR)$(MANDIR)/man1
	$(INSTALL) -m 644 COPYING README.md ARCHITECTURE.md NEWS.md \
		$(DESTDIR)$(DOCDIR)

print-cppflags: $(GEN_H) # for scripts/lint
	@echo '$(subst \",",$(CPPFLAGS_ALL)) $(CHECK_CFLAGS)'

dist: ## build/pawl-VERSION.tar.gz
	@scripts/dist

clean: ## remove everything that was built
	rm -rf build

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 16

.PHONY: all bench check check-asan check-e2e check-fuzz check-headers \
	check-layers check-sim check-tsan clean demo deps dist format help install lint \
	print-cppflags FORCE
.SECONDARY:

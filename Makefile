# pawl. A plain `make` works right after checkout; `./configure` is optional
# and only writes config.mk. `make help` lists the targets.

-include config.mk

PREFIX ?= /usr/local
DESTDIR ?=
CC ?= cc
AR ?= ar
CFLAGS ?= -O2 -g
B ?= build/release
SAN ?=
J ?= $(shell nproc)

VERSION := $(shell cat VERSION 2>/dev/null || echo 0.0.0)
PKGS := libevent_core libevent_extra libnghttp2 libprotobuf-c sqlite3 libcrypto libxxhash
PKG_CFLAGS ?= $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS ?= $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lpthread
CHECK_CFLAGS ?= $(shell pkg-config --cflags check 2>/dev/null)
CHECK_LIBS ?= $(shell pkg-config --libs check 2>/dev/null)

WARN := -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes \
	-Wmissing-prototypes -Wvla
WERROR ?=
CPPFLAGS_ALL := -D_GNU_SOURCE -DPAWL_VERSION='"$(VERSION)"' \
	-I. -isystem $(B)/gen $(PKG_CFLAGS) $(CPPFLAGS)
CFLAGS_ALL := -std=c11 $(WARN) $(WERROR) $(CFLAGS) $(SAN)
LDFLAGS_ALL := $(LDFLAGS) $(SAN)

# ---- what there is: every directory by wildcard ----------------------------
PROTOS := $(wildcard proto/*.proto proto/etcd/*.proto)
GEN_C := $(PROTOS:proto/%.proto=$(B)/gen/%.pb-c.c)
GEN_H := $(GEN_C:.c=.h)

CORE_SRC := $(filter-out raft/store.c,$(wildcard raft/*.c))
RAFT_SRC := $(wildcard raft/*.c)
PROTO_SRC := $(wildcard proto/*.c)
SERVER_SRC := $(filter-out server/main.c,$(wildcard server/*.c))
LIBPAWL_SRC := $(filter-out client/pawlctl%.c client/ctl_%.c,$(wildcard client/*.c))
CTL_SRC := $(wildcard client/pawlctl*.c client/ctl_*.c)
objects = $(patsubst %.c,$(B)/%.o,$(1))

RAFT_A := $(B)/libraft.a
PROTO_A := $(B)/libproto.a
SERVER_A := $(B)/libserver.a
PAWL_A := $(B)/libpawl.a

# Each tests/<dir>/test_*.c is a program of its own; other .c files there are
# helpers that all tests of that directory link.
TEST_SRC := $(wildcard tests/raft/test_*.c tests/proto/test_*.c \
	tests/server/test_*.c tests/client/test_*.c tests/sim/test_*.c)
TESTS := $(TEST_SRC:%.c=$(B)/%)
test_helpers = $(call objects,$(filter-out tests/$(1)/test_%.c tests/$(1)/main%.c,$(wildcard tests/$(1)/*.c)))

PROGRAMS := $(if $(wildcard server/main.c),$(B)/pawld) \
	$(if $(wildcard client/pawlctl.c),$(B)/pawlctl)

all: $(PROGRAMS) $(PAWL_A) ## pawld, pawlctl, libpawl

# ---- rules ------------------------------------------------------------------
$(B)/gen/%.pb-c.c $(B)/gen/%.pb-c.h: proto/%.proto
	@mkdir -p $(B)/gen
	protoc-c -Iproto --c_out=$(B)/gen $<

$(B)/gen/%.o: $(B)/gen/%.c | $(GEN_H)
	$(CC) -std=c11 -w $(CPPFLAGS_ALL) $(CFLAGS) $(SAN) -c -o $@ $<

$(B)/%.o: %.c | $(GEN_H)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(EXTRA_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/tests/%.o: EXTRA_CFLAGS = $(CHECK_CFLAGS)

$(RAFT_A): $(call objects,$(RAFT_SRC))
$(PROTO_A): $(call objects,$(PROTO_SRC)) $(GEN_C:.c=.o)
$(SERVER_A): $(call objects,$(SERVER_SRC))
$(PAWL_A): $(call objects,$(LIBPAWL_SRC))
%.a:
	@rm -f $@
	$(AR) rcs $@ $^

$(B)/pawld: $(B)/server/main.o $(SERVER_A) $(RAFT_A) $(PROTO_A)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(PKG_LIBS)
$(B)/pawlctl: $(call objects,$(CTL_SRC)) $(PAWL_A) $(PROTO_A)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(PKG_LIBS) $(CTL_LIBS)

# What each kind of test links.
$(B)/tests/raft/test_%: $(B)/tests/raft/test_%.o $(call test_helpers,raft) $(RAFT_A)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(PKG_LIBS) $(CHECK_LIBS)
$(B)/tests/proto/test_%: $(B)/tests/proto/test_%.o $(call test_helpers,proto) $(PROTO_A)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(PKG_LIBS) $(CHECK_LIBS)
$(B)/tests/server/test_%: $(B)/tests/server/test_%.o $(call test_helpers,server) $(SERVER_A) $(RAFT_A) $(PROTO_A)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(PKG_LIBS) $(CHECK_LIBS)
$(B)/tests/client/test_%: $(B)/tests/client/test_%.o $(call test_helpers,client) $(PAWL_A) $(PROTO_A)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(PKG_LIBS) $(CHECK_LIBS)
$(B)/tests/sim/test_%: $(B)/tests/sim/test_%.o $(call test_helpers,sim) $(RAFT_A)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(PKG_LIBS) $(CHECK_LIBS)

%.ran: %
	@$< >$<.log 2>&1 && tail -n 1 $<.log || { cat $<.log; exit 1; }

-include $(shell find $(B) -name '*.d' 2>/dev/null)

# ---- targets ----------------------------------------------------------------
check: $(TESTS:%=%.ran) ## units, scripts, a short simulation

clean: ## remove everything that was built
	rm -rf build

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile

.PHONY: all check clean help
.SECONDARY:

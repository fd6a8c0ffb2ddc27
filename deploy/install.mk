# make install, make uninstall, make docs. Included by the Makefile.
#
# What is installed stands once, in INSTALL_ROWS: mode:source:target, mode "link" for a symbolic link. PREFIX defaults to
# /usr/local; configuration goes to PREFIX/etc, for the prefix /usr to /etc.

BINDIR := $(PREFIX)/bin
INCLUDEDIR := $(PREFIX)/include
MANDIR := $(PREFIX)/share/man
SYSCONFDIR ?= $(if $(filter /usr,$(PREFIX)),/etc,$(PREFIX)/etc)
UNITDIR ?= $(LIBDIR)/systemd/system
CONFIG := $(SYSCONFDIR)/flashcored/flashcored.conf
STAGE := $(BUILD)/install

INSTALL_ROWS = \
    $(foreach program,$(filter $(addprefix $(BUILD)/,flashcored bench_client flashcorectl),$(ARTIFACTS)), \
        0755:$(program):$(BINDIR)/$(notdir $(program))) \
    $(if $(wildcard $(BUILD)/flashcore-cuda.so),0755:$(BUILD)/flashcore-cuda.so:$(ENGINE_DIR)/flashcore-cuda.so) \
    0755:$(BUILD)/libflashcore-client.so:$(LIBDIR)/$(SONAME) \
    link:$(SONAME):$(LIBDIR)/libflashcore-client.so \
    0644:$(BUILD)/libflashcore-client.a:$(LIBDIR)/libflashcore-client.a \
    0644:client/flashcore.h:$(INCLUDEDIR)/flashcore.h \
    0644:$(STAGE)/flashcore.pc:$(LIBDIR)/pkgconfig/flashcore.pc \
    0755:$(BUILD)/libflashcore-client-cuda.so:$(LIBDIR)/$(CUDA_SONAME) \
    link:$(CUDA_SONAME):$(LIBDIR)/libflashcore-client-cuda.so \
    0644:$(BUILD)/libflashcore-client-cuda.a:$(LIBDIR)/libflashcore-client-cuda.a \
    0644:client/flashcore_cuda.h:$(INCLUDEDIR)/flashcore_cuda.h \
    0644:$(STAGE)/flashcore-cuda.pc:$(LIBDIR)/pkgconfig/flashcore-cuda.pc \
    0644:$(STAGE)/flashcored.service:$(UNITDIR)/flashcored.service \
    0644:deploy/flashcored-devices.service:$(UNITDIR)/flashcored-devices.service \
    0644:deploy/flashcored.sysusers:$(LIBDIR)/sysusers.d/flashcored.conf \
    0644:deploy/flashcored.tmpfiles:$(LIBDIR)/tmpfiles.d/flashcored.conf \
    $(foreach file,$(wildcard deploy/prometheus/*),0644:$(file):$(PREFIX)/share/flashcored/$(notdir $(file))) \
    $(foreach page,$(wildcard docs/man/*.1),0644:$(page):$(MANDIR)/man1/$(notdir $(page))) \
    $(foreach page,$(wildcard docs/man/*.8),0644:$(page):$(MANDIR)/man8/$(notdir $(page)))

# Folders of our own, and such as a prefix may not have had before us: removed when they are empty.
INSTALL_FOLDERS = $(ENGINE_DIR) $(PREFIX)/share/flashcored $(dir $(CONFIG)) $(UNITDIR) $(dir $(UNITDIR)) $(LIBDIR)/sysusers.d \
                  $(LIBDIR)/tmpfiles.d $(LIBDIR)/pkgconfig

define split_row
mode=$${row%%:*}; rest=$${row#*:}; from=$${rest%%:*}; to="$(DESTDIR)$${rest#*:}"
endef

.PHONY: docs stage

stage:
	@mkdir -p $(STAGE)
	@sed -e 's|/usr/local/etc/|$(SYSCONFDIR)/|; s|/usr/local/|$(PREFIX)/|' deploy/flashcored.service \
	    > $(STAGE)/flashcored.service
	@for name in flashcore flashcore-cuda; do \
	    sed -e 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@VERSION@|$(VERSION)|' deploy/$$name.pc.in \
	        > $(STAGE)/$$name.pc || exit 1; \
	done

install: all stage ## install under PREFIX (/usr/local), into DESTDIR when packaging
	@set -e; for row in $(INSTALL_ROWS); do \
	    $(split_row); \
	    mkdir -p "$$(dirname "$$to")"; \
	    if [ "$$mode" = link ]; then ln -sf "$$from" "$$to"; else install -m "$$mode" "$$from" "$$to"; fi; \
	done
	@# A configuration someone may have edited is never overwritten.
	@mkdir -p "$(DESTDIR)$(dir $(CONFIG))"
	@[ -e "$(DESTDIR)$(CONFIG)" ] || install -m 0644 deploy/flashcored.conf "$(DESTDIR)$(CONFIG)"
	@if [ -z "$(DESTDIR)" ] && [ -n "$(filter /usr /usr/local,$(PREFIX))" ]; then ldconfig 2>/dev/null || true; \
	    echo "installed under $(PREFIX); now: systemd-sysusers && systemctl daemon-reload && systemctl enable --now flashcored"; \
	fi

uninstall: ## remove what install put there; an edited configuration stays
	@for row in $(INSTALL_ROWS) $(if $(wildcard $(BUILD)/flashcore-cuda.so),,0:0:$(ENGINE_DIR)/flashcore-cuda.so); do \
	    $(split_row); rm -f "$$to"; \
	done
	@if cmp -s deploy/flashcored.conf "$(DESTDIR)$(CONFIG)"; then rm -f "$(DESTDIR)$(CONFIG)"; \
	elif [ -e "$(DESTDIR)$(CONFIG)" ]; then echo "kept $(DESTDIR)$(CONFIG): it was edited"; fi
	@for folder in $(INSTALL_FOLDERS); do \
	    [ ! -d "$(DESTDIR)$$folder" ] || rmdir --ignore-fail-on-non-empty "$(DESTDIR)$$folder"; \
	done

# --- made from the option tables -----------------------------------------------------------------------------------

DOCS := $(BUILD)/tools/docs
$(DOCS): $(call objects,$(wildcard tools/doc*.c)) $(BUILD)/libtestee.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(LDFLAGS) -o $@ $^ $(DAEMON_LIBS) $(TOOL_LIBS)

docs: $(DOCS) ## write the sample config and the manual pages' lists anew from the option tables
	@$(DOCS) config > deploy/flashcored.conf
	@$(DOCS) metrics > docs/metrics.md
	@for page in docs/man/*.[18]; do \
	    name=$${page##*/}; $(DOCS) $${name%.*} < $$page > $(BUILD)/tools/$$name && cp $(BUILD)/tools/$$name $$page || exit 1; \
	done

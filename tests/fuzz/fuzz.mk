# The codec, whole sessions of the service, the local channel and the config file under libFuzzer; the Makefile includes this.

.PHONY: fuzz

FUZZ_SECONDS ?= 60
FUZZ_RUNS ?=
FUZZ_CC ?= clang
FUZZ_FLAGS := -std=c11 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined
FUZZ_TARGETS ?= request reply session local config

FUZZ_LIBS := -lmsgpackc -linih -lm

# Everything a target may need; the linker takes what it does.
FUZZ_SRC := $(PROTO_SRC) $(PLAN_SRC) $(filter-out daemon/main.c daemon/nng_listener_fix.c daemon/engine_loader.c,$(DAEMON_SRC)) \
            tests/support/fake_engine.c tests/fuzz/entry.c tests/fuzz/session.c

# The targets share the time, or get FUZZ_RUNS inputs each; new finds go to build-fuzz, and so does an input that breaks
# something. A target's own patience (20 s) ends before libFuzzer's, which has less to tell.
FUZZ_BOUND := $(if $(FUZZ_RUNS),-runs=$(FUZZ_RUNS),-max_total_time=$$(( ($(FUZZ_SECONDS) + 4) / $(words $(FUZZ_TARGETS)) )))

fuzz: $(FUZZ_TARGETS:%=build-fuzz/fuzz_%) ## fuzz codec, sessions, local channel and config for FUZZ_SECONDS (60) or FUZZ_RUNS inputs each; needs clang
	@for target in $(FUZZ_TARGETS); do \
	    mkdir -p build-fuzz/corpus/$$target; \
	    build-fuzz/fuzz_$$target $(FUZZ_BOUND) -max_len=4096 -timeout=30 \
	        -dict=tests/fuzz/keys.dict -artifact_prefix=build-fuzz/$$target- -print_final_stats=1 \
	        build-fuzz/corpus/$$target tests/fuzz/corpus/$$target >build-fuzz/$$target.log 2>&1 || \
	        { tail -40 build-fuzz/$$target.log; exit 1; }; \
	    echo "fuzz_$$target: $$(awk '/number_of_executed_units/ { print $$2 }' build-fuzz/$$target.log) inputs, all held"; \
	done

# What drives and checks is no guide to new inputs: without it a session takes a third less.
build-fuzz/obj/tests/support/%.o build-fuzz/obj/tests/fuzz/session.o: FUZZ_FLAGS := $(filter-out -fsanitize=fuzzer%,$(FUZZ_FLAGS)) -fsanitize=address,undefined

build-fuzz/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)$(FUZZ_CC) $(CPPFLAGS) $(FUZZ_FLAGS) -pthread -MMD -MP -c -o $@ $<

build-fuzz/libfuzz.a: $(FUZZ_SRC:%.c=build-fuzz/obj/%.o)
	$(call say,AR,$@)rm -f $@ && ar rcs $@ $^

build-fuzz/fuzz_%: build-fuzz/obj/tests/fuzz/fuzz_%.o build-fuzz/libfuzz.a
	$(call say,LINK,$@)$(FUZZ_CC) $(FUZZ_FLAGS) -pthread -o $@ $^ $(FUZZ_LIBS)

.PRECIOUS: build-fuzz/obj/%.o
-include $(patsubst %.c,build-fuzz/obj/%.d,$(FUZZ_SRC) $(FUZZ_TARGETS:%=tests/fuzz/fuzz_%.c))

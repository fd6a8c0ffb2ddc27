# The codec under libFuzzer; the Makefile includes this.

.PHONY: fuzz

FUZZ_SECONDS ?= 60
FUZZ_CC ?= clang
FUZZ_FLAGS := -std=c11 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined
FUZZ_TARGETS := request reply

# The targets share the time; new finds go to build-fuzz, and so does an input that breaks something.
fuzz: $(FUZZ_TARGETS:%=build-fuzz/fuzz_%) ## fuzz the codec for FUZZ_SECONDS (60); needs clang
	@for target in $(FUZZ_TARGETS); do \
	    mkdir -p build-fuzz/corpus/$$target; \
	    build-fuzz/fuzz_$$target -max_total_time=$$(( ($(FUZZ_SECONDS) + 1) / 2 )) -max_len=4096 -timeout=10 \
	        -dict=tests/fuzz/keys.dict -artifact_prefix=build-fuzz/$$target- -print_final_stats=1 \
	        build-fuzz/corpus/$$target tests/fuzz/corpus/$$target >build-fuzz/$$target.log 2>&1 || \
	        { tail -40 build-fuzz/$$target.log; exit 1; }; \
	    echo "fuzz_$$target: $$(awk '/number_of_executed_units/ { print $$2 }' build-fuzz/$$target.log) inputs, all held"; \
	done

build-fuzz/fuzz_%: tests/fuzz/fuzz_%.c tests/fuzz/entry.c $(PROTO_SRC) $(wildcard proto/*.h proto/*.def tests/fuzz/*.h)
	@mkdir -p $(@D)
	$(FUZZ_CC) $(CPPFLAGS) $(FUZZ_FLAGS) -o $@ $(filter %.c,$^) -lmsgpackc -lm

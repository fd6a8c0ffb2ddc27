# Which lines of proto/, daemon/ and client/ the tests reach; the Makefile includes this. gcc's own gcov counts, so that
# nothing more has to be installed.

.PHONY: coverage coverage-run

COVERAGE_FLAGS := -O0 --coverage -fprofile-update=atomic
COVERAGE_FOLDERS := proto daemon client
COVERAGE_TESTS ?= unit
COVERAGE_LEAST := proto=95
COVERAGE_OPTIONS ?=
REPLAYS := request reply session local config
REPLAY_BIN := $(REPLAYS:%=$(BUILD)/tests/fuzz/replay_%)

coverage: ## lines and branches that the unit tests and the fuzzers' corpus reach; fails below 95 % of proto/'s lines
	@$(MAKE) --no-print-directory MODE=coverage CUDA=no coverage-run

# Counts of an earlier run would be added to.
coverage-run: all tests $(REPLAY_BIN)
	@find $(BUILD) -name '*.gcda' -delete
	@tests/run $(BUILD) $(COVERAGE_TESTS)
	@for name in $(REPLAYS); do $(BUILD)/tests/fuzz/replay_$$name tests/fuzz/corpus/$$name || exit 1; done
	@tests/coverage/report.py $(OBJ) $(COVERAGE_FOLDERS) --least $(COVERAGE_LEAST) $(COVERAGE_OPTIONS)

# A fuzzer's entry over the files of a folder, built like the tests.
$(BUILD)/tests/fuzz/replay_%: $(OBJ)/tests/fuzz/replay.o $(OBJ)/tests/fuzz/fuzz_%.o $(OBJ)/tests/fuzz/entry.o \
                              $(OBJ)/tests/fuzz/session.o $(BUILD)/libsupport.a $(BUILD)/libtestee.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(LDFLAGS) -o $@ $^ $(DAEMON_LIBS)

# The maths is not measured, and would take minutes. The unit tests' own objects are for what headers hold.
ifeq ($(MODE),coverage)
$(foreach folder,$(COVERAGE_FOLDERS) tests/unit,$(call objects,$(wildcard $(folder)/*.c))): CFLAGS += $(COVERAGE_FLAGS)
LDFLAGS += --coverage
endif

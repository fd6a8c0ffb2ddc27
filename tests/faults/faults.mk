# Injected failures: tests/faults. Not in the sanitizers' builds, whose runtimes have to come first in a process.
FAULTS_SRC := $(filter-out tests/faults/preload.c,$(wildcard tests/faults/*.c))
FAULTS_SUPPORT_SRC := $(filter-out $(wildcard tests/faults/test_*.c),$(FAULTS_SRC))
FAULTS_BIN := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/faults/test_*.c))

$(BUILD)/tests/libfaults.so: $(OBJ)/tests/faults/preload.o
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(LDFLAGS) -shared -o $@ $^ -ldl

$(BUILD)/tests/faults/%: $(OBJ)/tests/faults/%.o $(call objects,$(FAULTS_SUPPORT_SRC) $(E2E_SUPPORT_SRC)) $(BUILD)/libsupport.a \
                         $(BUILD)/libflashcore-client.so $(BUILD)/libtestee.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(LDFLAGS) -Wl,-rpath,'$$ORIGIN/../..' -o $@ $^ $(CHECK_LIBS) $(DAEMON_LIBS) $(TOOL_LIBS)

.PHONY: faults-tests faults
faults-tests: $(if $(filter release,$(MODE)),$(BUILD)/tests/libfaults.so $(FAULTS_BIN) $(FAKE_ENGINE))

# On the CPU engine, then what differs with the other one, on the fake runtime.
FAULTS_CUDA := --engine cuda --cuda-engine $(BUILD)/tests/flashcore-cuda-fake.so

faults: all faults-tests ## make every call fail that the daemon depends on, one after the other, and see that it gets over it
	@FC_FAULTS_ALL=1 FC_TEST_TIMEOUT=7200 tests/run $(BUILD) faults
	@tail -qn 1 $(BUILD)/tests/faults/*.log
	@FC_FAULTS_ALL=1 FC_TEST_TIMEOUT=7200 FC_TEST_ENGINE_ARGS='$(FAULTS_CUDA)' tests/run $(BUILD) faults
	@tail -qn 1 $(BUILD)/tests/faults/*.log

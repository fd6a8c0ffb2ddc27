# The CUDA kernels on the CPU, by g++ alone (tests/emulate/README.md); the Makefile includes this.

# Not for the sanitizers: their runtimes do not know of fibers.
.PHONY: emulate emulate-races emulate-tests emulate-planted

EMULATE := $(BUILD)/emulate
EMULATE_OBJ := $(OBJ)/emulate
EMULATE_SRC := $(wildcard tests/emulate/*.cpp)
EMULATE_HOST_SRC := kernels/attention.c kernels/reference.c kernels/reference_error.c kernels/cuda_launch.c $(wildcard kernels/plan*.c) \
                    proto/status.c proto/vocab.c

# Half precision by the processor's own instructions where it has them.
EMULATE_ISA := $(if $(shell grep -m1 -w avx2 /proc/cpuinfo 2>/dev/null | grep -w fma),-mavx2 -mfma)
# Not position-independent: shared memory and threadIdx are then one instruction away.
EMULATE_CXXFLAGS := -std=c++17 -O3 -g $(EMULATE_ISA) -fno-pie -fno-strict-aliasing -ffp-contract=fast -Wall -Wextra \
                    -Wno-unknown-pragmas -Wno-unused-function -Wno-sign-compare -fno-threadsafe-statics
EMULATE_CPPFLAGS := -Itests/emulate/include
# As device code of the newest target.
EMULATE_DEVICE := -D__CUDACC__ -D__CUDA_ARCH__=900 -D__CUDA_ARCH_FEAT_SM90_ALL=1 -include cuda_runtime.h -x c++

emulate: $(EMULATE)/test_kernels ## build the CUDA kernels for the CPU: build/emulate/test_kernels

$(EMULATE_OBJ)/%.cu.o: %.cu $(FLAGS_STAMP)
	@mkdir -p $(@D)
	$(call say,CXX,$<)g++ $(EMULATE_CPPFLAGS) -I. $(EMULATE_CXXFLAGS) $(EMULATE_DEVICE) -MMD -MP -c $< -o $@

$(EMULATE_OBJ)/%.cpp.o: %.cpp $(FLAGS_STAMP)
	@mkdir -p $(@D)
	$(call say,CXX,$<)g++ $(EMULATE_CPPFLAGS) -I. $(EMULATE_CXXFLAGS) -MMD -MP -c $< -o $@

$(EMULATE_OBJ)/%.o: %.c $(FLAGS_STAMP)
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(EMULATE_CPPFLAGS) $(CPPFLAGS) $(filter-out -fPIC,$(CFLAGS)) -fno-pie $(OPENMP) -MMD -MP -c $< -o $@

# driver_types.c compares with the real cuda.h, of which there is a part here.
EMULATE_COMMON_OBJ := $(EMULATE_SRC:%=$(EMULATE_OBJ)/%.o) \
                      $(patsubst %.c,$(EMULATE_OBJ)/%.o,$(filter-out %/driver_types.c,$(GPU_TEST_SRC)) $(EMULATE_HOST_SRC))

$(EMULATE)/test_kernels: $(CUDA_SRC:%=$(EMULATE_OBJ)/%.o) $(EMULATE_COMMON_OBJ)
	@mkdir -p $(@D)
	$(call say,LINK,$@)g++ -no-pie -o $@ $^ $(OPENMP) -lm

# The same with every access of the kernels to shared memory looked at (races.h). make emulate-races
EMULATE_RACES := $(EMULATE)/test_kernels_races
EMULATE_RACES_OBJ := $(CUDA_SRC:%=$(OBJ)/emulate-races/%.o)

$(OBJ)/emulate-races/%.cu.o: %.cu $(FLAGS_STAMP)
	@mkdir -p $(@D)
	$(call say,CXX,$<)g++ $(EMULATE_CPPFLAGS) -I. $(EMULATE_CXXFLAGS) -fsanitize=thread $(EMULATE_DEVICE) \
	    -MMD -MP -c $< -o $@

$(EMULATE_RACES): $(EMULATE_RACES_OBJ) $(EMULATE_COMMON_OBJ)
	@mkdir -p $(@D)
	$(call say,LINK,$@)g++ -no-pie -o $@ $^ $(OPENMP) -lm

emulate-races: $(EMULATE_RACES) ## run the emulated kernels with a look for accesses that no barrier orders
	$(EMULATE_RACES) --small

# The emulator's own tests.
EMULATE_CHECK_SRC := $(wildcard tests/emulate/check/*.cu)
EMULATE_CHECK := $(BUILD)/tests/emulate/test_emulator

$(EMULATE_OBJ)/tests/emulate/check/races.cu.o: private EMULATE_CXXFLAGS += -fsanitize=thread

$(EMULATE_CHECK): $(EMULATE_CHECK_SRC:%=$(EMULATE_OBJ)/%.o) $(EMULATE_SRC:%=$(EMULATE_OBJ)/%.o) \
                  $(patsubst %.c,$(EMULATE_OBJ)/%.o,$(EMULATE_HOST_SRC)) $(CUDA_SRC:%=$(EMULATE_OBJ)/%.o)
	@mkdir -p $(@D)
	$(call say,LINK,$@)g++ -no-pie -o $@ $^ $(CHECK_LIBS) $(OPENMP) -lm

# One program a rung, for tests/run.
EMULATE_RUNGS := $(shell awk -F '"' '/FC_ENGINE_CUDA/ { print $$2 }' kernels/kernel.def)
EMULATE_RUNG_TESTS := $(EMULATE_RUNGS:%=$(BUILD)/tests/emulate/test_%)

$(EMULATE_RUNG_TESTS): tests/emulate/rung
	@mkdir -p $(@D)
	@cp $< $@

# A C++ compiler is not among what the rest needs: without one there is nothing to emulate with.
emulate-tests: $(if $(CXX_FOUND),$(EMULATE)/test_kernels $(EMULATE_CHECK) $(EMULATE_RUNG_TESTS))

# The same program around the one kernel that a bug was planted in (tests/gpu/planted.txt); the launch table's other rows
# stay empty.
$(EMULATE)/planted/%: tests/gpu/planted.txt tests/gpu/plant $(EMULATE_COMMON_OBJ) $(CUDA_SRC) \
                      $(wildcard kernels/*.cuh kernels/*.h kernels/*.def)
	@mkdir -p $(@D)
	$(call say,PLANT,$@)tests/gpu/plant $* $(EMULATE_OBJ)/planted/$*
	$(if $(V),,@)g++ $(EMULATE_CPPFLAGS) -I$(EMULATE_OBJ)/planted/$* -I. $(EMULATE_CXXFLAGS) -w $(EMULATE_DEVICE) \
	    -c $(EMULATE_OBJ)/planted/$*/kernels/$(call planted_rung,$*).cu -o $(EMULATE_OBJ)/planted/$*/kernel.o
	$(if $(V),,@)g++ -no-pie -Wl,--unresolved-symbols=ignore-all -o $@ $(EMULATE_OBJ)/planted/$*/kernel.o \
	    $(EMULATE_COMMON_OBJ) $(OPENMP) -lm

emulate-planted: $(PLANTED:%=$(EMULATE)/planted/%) ## plant the known bugs one by one: the emulated tests have to find each
	@tests/emulate/planted $(BUILD)

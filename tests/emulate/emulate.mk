# The CUDA kernels on the CPU, by g++ alone (tests/emulate/README.md); the Makefile includes this.

.PHONY: emulate emulate-planted

EMULATE := $(BUILD)/emulate
EMULATE_OBJ := $(OBJ)/emulate
EMULATE_SRC := $(wildcard tests/emulate/*.cpp)
EMULATE_HOST_SRC := kernels/attention.c kernels/reference.c kernels/cuda_launch.c $(wildcard kernels/plan*.c) \
                    proto/status.c proto/vocab.c

# Half precision by the processor's own instructions where it has them.
EMULATE_ISA := $(if $(shell grep -m1 -w avx2 /proc/cpuinfo 2>/dev/null | grep -w fma),-mavx2 -mfma)
# Not position-independent: shared memory and threadIdx are then one instruction away.
EMULATE_CXXFLAGS := -std=c++17 -O3 -g $(EMULATE_ISA) -fno-pie -fno-strict-aliasing -ffp-contract=fast -Wall -Wextra \
                    -Wno-unknown-pragmas -Wno-unused-function -Wno-sign-compare
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

EMULATE_COMMON_OBJ := $(EMULATE_SRC:%=$(EMULATE_OBJ)/%.o) \
                      $(patsubst %.c,$(EMULATE_OBJ)/%.o,$(GPU_TEST_SRC) $(EMULATE_HOST_SRC))

$(EMULATE)/test_kernels: $(CUDA_SRC:%=$(EMULATE_OBJ)/%.o) $(EMULATE_COMMON_OBJ)
	@mkdir -p $(@D)
	$(call say,LINK,$@)g++ -no-pie -Wl,--wrap=fc_cuda_launch_find -o $@ $^ $(OPENMP) -lm

# The emulator's own tests.
EMULATE_CHECK_SRC := $(wildcard tests/emulate/check/*.cu)
EMULATE_CHECK := $(BUILD)/tests/emulate/test_emulator

$(EMULATE_CHECK): $(EMULATE_CHECK_SRC:%=$(EMULATE_OBJ)/%.o) $(EMULATE_SRC:%=$(EMULATE_OBJ)/%.o) \
                  $(patsubst %.c,$(EMULATE_OBJ)/%.o,$(EMULATE_HOST_SRC)) $(CUDA_SRC:%=$(EMULATE_OBJ)/%.o)
	@mkdir -p $(@D)
	$(call say,LINK,$@)g++ -no-pie -Wl,--wrap=fc_cuda_launch_find -o $@ $^ $(CHECK_LIBS) $(OPENMP) -lm

# The planted bugs of tests/gpu, found without a GPU, too: the program around the one kernel with the bug in it.
$(EMULATE)/planted/%: tests/gpu/planted.txt tests/gpu/plant $(EMULATE_COMMON_OBJ) $(CUDA_SRC) \
                      $(wildcard kernels/*.cuh kernels/*.h kernels/*.def)
	@mkdir -p $(@D)
	$(call say,PLANT,$@)tests/gpu/plant $* $(EMULATE_OBJ)/planted/$*
	$(if $(V),,@)g++ $(EMULATE_CPPFLAGS) -I$(EMULATE_OBJ)/planted/$* -I. $(EMULATE_CXXFLAGS) -w $(EMULATE_DEVICE) \
	    -c $(EMULATE_OBJ)/planted/$*/kernels/$(call planted_rung,$*).cu -o $(EMULATE_OBJ)/planted/$*/kernel.o
	$(if $(V),,@)g++ -no-pie -Wl,--wrap=fc_cuda_launch_find -Wl,--unresolved-symbols=ignore-all -o $@ \
	    $(EMULATE_OBJ)/planted/$*/kernel.o $(EMULATE_COMMON_OBJ) $(OPENMP) -lm

emulate-planted: $(PLANTED:%=$(EMULATE)/planted/%) ## run the kernels' planted bugs on the CPU: each has to be found
	@failed=0; for bug in $(PLANTED); do \
	    $(EMULATE)/planted/$$bug --small >$(EMULATE)/planted/$$bug.log 2>&1; code=$$?; \
	    if [ $$code -eq 1 ]; then echo "found   $$bug"; else echo "MISSED  $$bug (exit $$code)"; failed=1; fi; \
	done; exit $$failed

# flashcored: one Makefile, no recursion but for installing packages first. `make help` lists the targets.
#
# A new source file needs no line here: folders are globbed by role.
#   proto/*.c                     everywhere
#   kernels/*.c                   the daemon (but kernels/cuda_*.c and kernels/*.cu: the CUDA engine's shared object)
#   kernels/cpu_<isa>.c           compiled for that instruction set, see CPU_ISA_<isa>
#   daemon/*.c                    the daemon
#   client/{bench,ctl,tool}_*.c   bench_client, flashcorectl, and what the two share
#   client/cuda_*.c               libflashcore-client-cuda; all other client/*.c: libflashcore-client
#   tests/unit/test_*.c           one Check program each; tests/support/*.c is an archive all tests link
#   tests/e2e/test_*.c            one Check program each, driving the built daemon
#   tests/abuse/*.c               one program that drives it with peers of the worst kind

VERSION := 0.1.0
MODE ?= release
PREFIX ?= /usr/local
DESTDIR ?=
CC := gcc
NVCC ?= $(shell command -v nvcc 2>/dev/null || ls /usr/local/cuda/bin/nvcc 2>/dev/null)
CUDA ?= $(if $(NVCC),yes,no)

BUILD := $(if $(filter release,$(MODE)),build,build-$(MODE))
OBJ := $(BUILD)/obj

LIBDIR := $(PREFIX)/lib
ENGINE_DIR := $(LIBDIR)/flashcore

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla -Wformat=2 -Werror
OPT_release := -O2 -g
OPT_asan := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
OPT_tsan := -O1 -g -fsanitize=thread
OPT_coverage := -O1 -g
SANITIZE := $(filter -fsanitize=%,$(OPT_$(MODE)))
# gcc's libgomp is not instrumented for TSan, so that build has no OpenMP: the cpu kernel runs on one thread.
OPENMP := $(if $(filter tsan,$(MODE)),,-fopenmp)

PKGS := libuv inih libmicrohttpd
CPPFLAGS += -I. -D_GNU_SOURCE -DFC_VERSION='"$(VERSION)"'
CFLAGS += -std=c11 $(OPT_$(MODE)) $(WARNINGS) -fPIC -fvisibility=hidden -fno-strict-aliasing -pthread
CFLAGS += $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
LDFLAGS += $(SANITIZE) -pthread
DAEMON_LIBS := -lnng -lmsgpackc -lssl -lcrypto $(shell pkg-config --libs $(PKGS) 2>/dev/null) $(OPENMP) -ldl -lm
CLIENT_LIBS := -lmsgpackc -lssl -lcrypto -lm
TOOL_LIBS := -ljansson
CHECK_LIBS := $(shell pkg-config --libs check 2>/dev/null)

CPU_ISA_portable := -O3
CPU_ISA_avx2 := -O3 -mavx2 -mfma -mf16c
CPU_ISA_avx512 := -O3 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512bf16 -mfma -mf16c
CPU_ISA_amx := $(CPU_ISA_avx512) -mamx-tile -mamx-bf16

# One short line a step; V=1 shows the commands.
say = $(if $(V),,@printf '  %-5s %s\n' $(1) $(2) && )

objects = $(patsubst %,$(OBJ)/%.o,$(basename $(1)))

PROTO_SRC := $(wildcard proto/*.c)
# Without libraries: all that the CUDA engine needs.
PROTO_WORD_SRC := $(filter-out proto/codec% proto/plain_file.c proto/tls.c,$(PROTO_SRC))
KERNEL_SRC := $(filter-out $(wildcard kernels/cuda_*.c),$(wildcard kernels/*.c))
DAEMON_SRC := $(wildcard daemon/*.c)
BENCH_SRC := $(wildcard client/bench_*.c)
CTL_SRC := $(wildcard client/ctl_*.c)
TOOL_SRC := $(wildcard client/tool_*.c)
CLIENT_CUDA_SRC := $(wildcard client/cuda_*.c)
CLIENT_SRC := $(filter-out $(BENCH_SRC) $(CTL_SRC) $(TOOL_SRC) $(CLIENT_CUDA_SRC),$(wildcard client/*.c))
CUDA_HOST_SRC := $(wildcard kernels/cuda_*.c)
CUDA_SRC := $(wildcard kernels/*.cu)
PLAN_SRC := kernels/attention.c kernels/plan.c kernels/plan_shape.c
CUDA_SHARED_SRC := $(PLAN_SRC)
UNIT_SRC := $(wildcard tests/unit/test_*.c)
E2E_SRC := $(wildcard tests/e2e/test_*.c)
SUPPORT_SRC := $(wildcard tests/support/*.c)
E2E_SUPPORT_SRC := $(filter-out $(E2E_SRC),$(wildcard tests/e2e/*.c))
ABUSE_SRC := $(wildcard tests/abuse/*.c)
FAKE_SRC := $(wildcard tests/fake/*.c)
UNIT_BIN := $(patsubst tests/%.c,$(BUILD)/tests/%,$(UNIT_SRC))
E2E_BIN := $(patsubst tests/%.c,$(BUILD)/tests/%,$(E2E_SRC))
ABUSE_BIN := $(BUILD)/tests/abuse/test_abuse

ARTIFACTS := $(if $(wildcard daemon/main.c),$(BUILD)/flashcored) \
             $(if $(wildcard client/bench_main.c),$(BUILD)/bench_client) \
             $(if $(wildcard client/ctl_main.c),$(BUILD)/flashcorectl) \
             $(if $(CLIENT_SRC),$(BUILD)/libflashcore-client.so $(BUILD)/libflashcore-client.a) \
             $(if $(CLIENT_CUDA_SRC),$(BUILD)/libflashcore-client-cuda.so $(BUILD)/libflashcore-client-cuda.a)
ifeq ($(CUDA)-$(MODE),yes-release)
ARTIFACTS += $(if $(CUDA_SRC),$(BUILD)/flashcore-cuda.so)
endif
FAKE_ENGINE := $(if $(FAKE_SRC),$(BUILD)/tests/flashcore-cuda-fake.so $(BUILD)/tests/flashcore-cuda-fake-plain.so)
BENCH_BIN := $(addprefix $(BUILD)/bench/,local_hop service_floors service_echo $(if $(filter yes,$(CUDA)),gpu_floors))
FAKE_NVML := $(BUILD)/tests/nvml/libnvidia-ml.so.1
FAKE_DRIVER := $(if $(wildcard tests/fake/driver/*.c),$(BUILD)/tests/driver/libcuda.so.1)
EXAMPLES := $(patsubst client/examples/%.c,$(BUILD)/examples/%,$(wildcard client/examples/*.c))
CXX_FOUND := $(shell command -v g++)

.PHONY: all help deps demo gpu-tests examples check check-unit check-e2e check-bench lint lint-sass l4-model tests bench-cpu bench-kernels bench-local bench-service abuse soak install uninstall clean
.DEFAULT_GOAL := all

all: $(ARTIFACTS) ## build everything this machine can (the CUDA engine only where nvcc is)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## install the Debian packages that are missing (deploy/packages.txt)
	@deploy/install-deps

demo: ## set up, build, start a daemon, verify and time the benchmark problem, stop it
	@deploy/install-deps
	@$(MAKE) --no-print-directory all
	@deploy/demo $(BUILD)

check: ## set up, build and run every test that needs no GPU
	@deploy/install-deps
	@$(MAKE) --no-print-directory all tests emulate-tests faults-tests
	@tests/run $(BUILD) unit emulate e2e faults
	@FC_TEST_ENGINE_ARGS='$(FAULTS_CUDA)' tests/run $(BUILD) faults

check-unit: tests ## run the unit tests alone
	@tests/run $(BUILD) unit

check-e2e: all tests ## run the end-to-end tests alone
	@tests/run $(BUILD) e2e

lint: all $(FAKE_ENGINE) ## check layers, headers, symbols, format, static analysis, scripts, manuals, GPU evidence
	@tests/lint/run $(BUILD)

lint-sass: all $(BUILD)/tests/sass/plan ## read the CUDA engine's machine code: no spills, tensor-core instructions, registers (nvcc, PyPI)
	@NVCC='$(NVCC)' tests/sass/run $(BUILD) judge check

l4-model: all $(BUILD)/tests/sass/plan ## predict the kernels' times on an L4 anew and write them into docs/l4.md (nvcc, PyPI)
	@NVCC='$(NVCC)' tests/sass/run $(BUILD) record

tests: $(UNIT_BIN) $(E2E_BIN) $(ABUSE_BIN) $(FAKE_ENGINE) $(FAKE_DRIVER) $(FAKE_NVML) $(BUILD)/tools/docs examples

examples: $(EXAMPLES) ## build the client library's examples, as its users would

# --- objects -------------------------------------------------------------------------------------------------------

# $* is the stem of the rule that compiles: kernels/cpu_avx2.
$(OBJ)/kernels/cpu_%.o: CFLAGS += $(CPU_ISA_$(patsubst cpu_%,%,$(notdir $*)))
$(OBJ)/kernels/%.o: CFLAGS += $(OPENMP) -ffp-contract=off

# Rebuild when a flag changes: the stamp holds them.
FLAGS_STAMP := $(BUILD)/flags
FLAGS_NOW := $(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) $(NVCC)
$(shell mkdir -p $(BUILD); printf '%s\n' '$(subst ','\'',$(FLAGS_NOW))' | cmp -s - $(FLAGS_STAMP) || \
        printf '%s\n' '$(subst ','\'',$(FLAGS_NOW))' > $(FLAGS_STAMP))

# Only this object knows the prefix: another one does not rebuild everything.
PREFIX_STAMP := $(BUILD)/prefix
$(shell echo '$(PREFIX)' | cmp -s - $(PREFIX_STAMP) || echo '$(PREFIX)' > $(PREFIX_STAMP))
$(OBJ)/daemon/engine_loader.o: CPPFLAGS += -DFC_ENGINE_DIR='"$(ENGINE_DIR)"'
$(OBJ)/daemon/engine_loader.o: $(PREFIX_STAMP)

$(OBJ)/%.o: %.c $(FLAGS_STAMP)
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

# --- programs and libraries ----------------------------------------------------------------------------------------

DAEMON_OBJ := $(call objects,$(PROTO_SRC) $(KERNEL_SRC) $(DAEMON_SRC))
CLIENT_OBJ := $(call objects,$(PROTO_SRC) $(CLIENT_SRC))
CLIENT_CUDA_OBJ := $(call objects,$(CLIENT_CUDA_SRC))
TOOL_OBJ := $(call objects,$(TOOL_SRC))
# The load tester verifies against the reference, and needs nothing else of kernels/.
REFERENCE_OBJ := $(call objects,kernels/reference.c kernels/reference_error.c kernels/attention.c)

$(BUILD)/flashcored: $(DAEMON_OBJ)
	$(call say,LINK,$@)$(CC) $(LDFLAGS) -rdynamic -o $@ $^ $(DAEMON_LIBS)

SONAME := libflashcore-client.so.0
$(BUILD)/libflashcore-client.so: $(CLIENT_OBJ)
	$(call say,LINK,$@)$(CC) $(LDFLAGS) -shared -Wl,-soname,$(SONAME) -o $@ $^ $(CLIENT_LIBS)
	@ln -sf $(@F) $(BUILD)/$(SONAME)

# It finds the driver at run time, and is no other library's user: callers link both.
CUDA_SONAME := libflashcore-client-cuda.so.0
$(BUILD)/libflashcore-client-cuda.so: $(CLIENT_CUDA_OBJ)
	$(call say,LINK,$@)$(CC) $(LDFLAGS) -shared -Wl,-soname,$(CUDA_SONAME) -o $@ $^ -ldl
	@ln -sf $(@F) $(BUILD)/$(CUDA_SONAME)

# One relocatable object each, so that the archives too hide everything but the API.
$(BUILD)/libflashcore-client.a: $(CLIENT_OBJ)
$(BUILD)/libflashcore-client-cuda.a: $(CLIENT_CUDA_OBJ)
$(BUILD)/libflashcore-client.a $(BUILD)/libflashcore-client-cuda.a:
	$(call say,LINK,$@)$(LD) -r -o $(@:.a=.o) $^
	$(if $(V),,@)objcopy --localize-hidden $(@:.a=.o)
	$(call say,AR,$@)rm -f $@ && $(AR) rcs $@ $(@:.a=.o)

$(BUILD)/bench_client: $(call objects,$(BENCH_SRC)) $(TOOL_OBJ) $(REFERENCE_OBJ) $(CLIENT_OBJ) $(CLIENT_CUDA_OBJ)
	$(call say,LINK,$@)$(CC) $(LDFLAGS) -o $@ $^ $(CLIENT_LIBS) $(TOOL_LIBS) $(OPENMP) -ldl

$(BUILD)/flashcorectl: $(call objects,$(CTL_SRC)) $(TOOL_OBJ) $(CLIENT_OBJ)
	$(call say,LINK,$@)$(CC) $(LDFLAGS) -o $@ $^ $(CLIENT_LIBS) $(TOOL_LIBS)

# Examples are C99 and, where a compiler is, C++; they link the shared libraries (those of *_cuda.c the one for CUDA, too) and
# nothing else.
EXAMPLE_LIBS := -L$(BUILD) -lflashcore-client -Wl,-rpath,$(abspath $(BUILD))
$(BUILD)/examples/%: client/examples/%.c client/flashcore.h client/flashcore_cuda.h \
                     $(BUILD)/libflashcore-client.so $(BUILD)/libflashcore-client-cuda.so
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) -std=c99 -pedantic $(WARNINGS) $(SANITIZE) -Iclient -o $@ $< $(EXAMPLE_LIBS) \
	    $(if $(filter %_cuda,$@),-lflashcore-client-cuda)
	$(if $(CXX_FOUND),$(if $(V),,@)$(CXX_FOUND) -std=c++11 -Wall -Wextra -Werror -Iclient -fsyntax-only -x c++ $<)

# --- the CUDA engine -----------------------------------------------------------------------------------------------

CUDA_HOME := $(patsubst %/bin/nvcc,%,$(realpath $(NVCC)))
CUDA_ARCH := -gencode arch=compute_80,code=sm_80 -gencode arch=compute_89,code=sm_89 \
             -gencode arch=compute_90a,code=sm_90a -gencode arch=compute_80,code=compute_80
NVCCFLAGS := -std=c++17 -O3 -lineinfo $(CUDA_ARCH) -Xcompiler -fPIC,-fvisibility=hidden,-Wall,-Wextra \
             -I. -Werror all-warnings

# "sm_80 sm_89 ...": the engine says which GPUs it was built for. A change of them builds the kernels anew.
comma := ,
CUDA_TARGETS = $(patsubst code=%,%,$(filter code=%,$(subst $(comma), ,$(CUDA_ARCH))))
TARGETS_STAMP := $(BUILD)/cuda-targets
$(shell echo '$(CUDA_ARCH)' | cmp -s - $(TARGETS_STAMP) || echo '$(CUDA_ARCH)' > $(TARGETS_STAMP))
$(OBJ)/kernels/cuda_%.o: CPPFLAGS += -I$(CUDA_HOME)/include
$(OBJ)/kernels/cuda_targets.o: CPPFLAGS += -DFC_CUDA_TARGETS='"$(CUDA_TARGETS)"'
$(OBJ)/kernels/cuda_targets.o $(patsubst %.cu,$(OBJ)/%.cu.o,$(CUDA_SRC)): $(TARGETS_STAMP)

$(OBJ)/%.cu.o: %.cu $(FLAGS_STAMP)
	@mkdir -p $(@D)
	$(call say,NVCC,$<)$(NVCC) $(NVCCFLAGS) -MMD -MP -MF $(@:.o=.d) -c $< -o $@

$(BUILD)/flashcore-cuda.so: $(patsubst %.cu,$(OBJ)/%.cu.o,$(CUDA_SRC)) \
                            $(call objects,$(CUDA_HOST_SRC) $(CUDA_SHARED_SRC) $(PROTO_WORD_SRC))
	$(call say,LINK,$@)$(NVCC) -shared -cudart static -Xcompiler -static-libstdc++,-static-libgcc -Xlinker --exclude-libs,ALL -o $@ $^

# --- the GPU tests -------------------------------------------------------------------------------------------------

# They run on a machine that has a GPU, its driver and libc, and nothing else: everything else is linked in. To carry less,
# build for its architecture alone: make gpu-tests BUILD=build-h100 CUDA_ARCH='-gencode arch=compute_90a,code=sm_90a'.
GPU_TEST_SRC := $(wildcard tests/gpu/*.c)
GPU_TEST_LINK = $(shell $(CC) -print-file-name=libgomp.a) -cudart static -Xcompiler -pthread,-static-libstdc++,-static-libgcc -lm
GPU_TEST_OBJ := $(call objects,$(GPU_TEST_SRC) $(PLAN_SRC) kernels/reference.c kernels/reference_error.c kernels/cuda_launch.c \
                               proto/status.c proto/vocab.c)
CUDA_OBJ := $(patsubst %.cu,$(OBJ)/%.cu.o,$(CUDA_SRC))
PLANTED := $(shell awk '!/^\#/ { print $$1 }' tests/gpu/planted.txt 2>/dev/null)
PLANT_ARCH := -gencode arch=compute_90a,code=sm_90a

$(OBJ)/tests/gpu/%.o: CPPFLAGS += -I$(CUDA_HOME)/include
$(OBJ)/tests/gpu/%.o: CFLAGS += $(OPENMP)

gpu-tests: $(BUILD)/gpu/test_kernels $(BUILD)/gpu/digests.json $(BUILD)/gpu/flashcore-cuda.so \
           $(BUILD)/gpu/broken.so $(PLANTED:%=$(BUILD)/gpu/planted/%) $(BENCH_BIN) ## build what to carry to a machine with a GPU, for tests/gpu/run.sh

$(BUILD)/gpu/test_kernels: $(GPU_TEST_OBJ) $(CUDA_OBJ)
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(NVCC) -o $@ $^ $(GPU_TEST_LINK)

# What the objects were made of, as they were made.
$(BUILD)/gpu/digests.json: tests/gpu/evidence.py $(CUDA_OBJ)
	@mkdir -p $(@D)
	$(call say,MAKE,$@)python3 $< digest --nvcc $(NVCC) >$@

$(BUILD)/gpu/flashcore-cuda.so: $(BUILD)/flashcore-cuda.so
	@mkdir -p $(@D)
	@cp $< $@

# Preloaded into a daemon, it breaks the GPU under it: tests/gpu/broken.py.
$(BUILD)/gpu/broken.so: tests/gpu/broken.cu
	@mkdir -p $(@D)
	$(call say,NVCC,$@)$(NVCC) $(NVCCFLAGS) -shared -cudart static $< -o $@

# The same program around the one kernel that a bug was planted in, for one architecture: it has to fail. The other
# kernels are left out of it, and their rows of the launch table empty.
planted_rung = $(shell awk '$$1 == "$(1)" { print $$2 }' tests/gpu/planted.txt)
$(BUILD)/gpu/planted/%: tests/gpu/planted.txt tests/gpu/plant $(GPU_TEST_OBJ) $(CUDA_SRC) $(wildcard kernels/*.cuh kernels/*.h kernels/*.def)
	@mkdir -p $(@D)
	$(call say,PLANT,$@)tests/gpu/plant $* $(OBJ)/planted/$*
	$(if $(V),,@)$(NVCC) -I$(OBJ)/planted/$* $(filter-out $(CUDA_ARCH) -lineinfo -Werror all-warnings,$(NVCCFLAGS)) $(PLANT_ARCH) \
	    -c $(OBJ)/planted/$*/kernels/$(call planted_rung,$*).cu -o $(OBJ)/planted/$*/kernel.o
	$(if $(V),,@)$(NVCC) -o $@ $(OBJ)/planted/$*/kernel.o $(GPU_TEST_OBJ) $(GPU_TEST_LINK) \
	    -Xcompiler -no-pie -Xlinker --unresolved-symbols=ignore-all,-s

# The engine's host code as it is, on a CUDA runtime of our own that runs the reference and fails when told to.
$(OBJ)/fake/%.o: CPPFLAGS := -Itests/fake/include $(CPPFLAGS)
$(OBJ)/fake/%.o: %.c $(FLAGS_STAMP)
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(OBJ)/fake/kernels/cuda_targets.o: CPPFLAGS += -DFC_CUDA_TARGETS='"sm_80 sm_89 sm_90a compute_80"'
$(OBJ)/fake-plain/kernels/cuda_targets.o: CPPFLAGS := -DFC_CUDA_TARGETS='"sm_89 compute_89"' $(CPPFLAGS)

FAKE_ALL_SRC := $(FAKE_SRC) $(CUDA_HOST_SRC) $(CUDA_SHARED_SRC) kernels/reference.c kernels/reference_error.c $(PROTO_WORD_SRC)
$(BUILD)/tests/flashcore-cuda-fake.so: $(patsubst %.c,$(OBJ)/fake/%.o,$(FAKE_ALL_SRC))
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(LDFLAGS) -shared -o $@ $^ -lm

# The same, built for nothing that is Hopper's own.
$(OBJ)/fake-plain/%.o: %.c $(FLAGS_STAMP)
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/tests/flashcore-cuda-fake-plain.so: $(OBJ)/fake-plain/kernels/cuda_targets.o \
                       $(patsubst %.c,$(OBJ)/fake/%.o,$(filter-out kernels/cuda_targets.c,$(FAKE_ALL_SRC)))
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(LDFLAGS) -shared -o $@ $^ -lm

# A driver of our own under the driver's name, for what looks for it with dlopen.
$(FAKE_DRIVER): $(call objects,$(wildcard tests/fake/driver/*.c))
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(LDFLAGS) -shared -Wl,-soname,$(@F) -o $@ $^

# Programs that are linked with it find it loaded already.
FAKE_DRIVER_USERS := $(BUILD)/tests/unit/test_client_cuda $(BUILD)/tests/e2e/test_arena_device
$(FAKE_DRIVER_USERS): $(FAKE_DRIVER)
$(FAKE_DRIVER_USERS): private LDFLAGS += -Wl,-rpath,'$$ORIGIN/../driver'

# The driver's management library.
$(FAKE_NVML): $(call objects,$(wildcard tests/fake/nvml/*.c))
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(LDFLAGS) -shared -o $@ $^

# --- tests ---------------------------------------------------------------------------------------------------------

# An archive, so that a test links only what it uses.
MAIN_OBJ := $(OBJ)/daemon/main.o $(OBJ)/client/bench_main.o $(OBJ)/client/ctl_main.o
TESTEE_OBJ := $(filter-out $(MAIN_OBJ),$(sort $(DAEMON_OBJ) $(CLIENT_OBJ) $(CLIENT_CUDA_OBJ) $(TOOL_OBJ) \
                            $(call objects,$(BENCH_SRC) $(CTL_SRC))))
$(BUILD)/libtestee.a: $(TESTEE_OBJ)
	$(call say,AR,$@)rm -f $@ && $(AR) rcs $@ $^

# Likewise: a test that stubs a module does not get the helpers that need the real one.
$(BUILD)/libsupport.a: $(call objects,$(SUPPORT_SRC))
	$(call say,AR,$@)rm -f $@ && $(AR) rcs $@ $^

$(BUILD)/tests/unit/%: $(OBJ)/tests/unit/%.o $(BUILD)/libsupport.a $(BUILD)/libtestee.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) $(filter-out %.o,$^) $(CHECK_LIBS) $(DAEMON_LIBS) $(TOOL_LIBS)

# Says what the plan makes of a problem, to the model of docs/l4.md.
$(BUILD)/tests/sass/plan: $(OBJ)/tests/sass/plan.o $(BUILD)/libtestee.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(LDFLAGS) -o $@ $^ $(DAEMON_LIBS)

# Counts and refuses the codec's allocations, of which there are none.
$(BUILD)/tests/unit/test_codec: private LDFLAGS += -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc

# Makes allocations of the modules it links fail in turn (tests/support/failing_alloc.h).
$(BUILD)/tests/unit/test_%_memory: private LDFLAGS += -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc

# Replays the fuzzers' corpus through their own entry.
$(BUILD)/tests/unit/test_codec_corpus: $(OBJ)/tests/fuzz/entry.o

# The client calls of these come from the shared library that ships; the archive gives the rest (the reference).
$(BUILD)/tests/e2e/%: $(OBJ)/tests/e2e/%.o $(call objects,$(E2E_SUPPORT_SRC)) $(BUILD)/libsupport.a \
                      $(BUILD)/libflashcore-client.so $(BUILD)/libtestee.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(LDFLAGS) -Wl,-rpath,'$$ORIGIN/../..' -o $@ $^ $(CHECK_LIBS) $(DAEMON_LIBS) $(TOOL_LIBS)

$(ABUSE_BIN): $(call objects,$(ABUSE_SRC) $(E2E_SUPPORT_SRC)) $(BUILD)/libsupport.a \
                      $(BUILD)/libflashcore-client.so $(BUILD)/libtestee.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(LDFLAGS) -Wl,-rpath,'$$ORIGIN/../..' -o $@ $^ $(CHECK_LIBS) $(DAEMON_LIBS) $(TOOL_LIBS)

include deploy/install.mk
include tests/fuzz/fuzz.mk
include tests/emulate/emulate.mk
include tests/coverage/coverage.mk
include tests/faults/faults.mk

# --- soak ----------------------------------------------------------------------------------------------------------

HOURS ?= 0.5
SOAK_OPTIONS ?=
soak: all ## everything at once for HOURS (0.5), every answer verified, memory and descriptors watched
	@python3 tests/soak/soak.py --build $(BUILD) --seconds $$(awk 'BEGIN { print 3600 * $(HOURS) }') $(SOAK_OPTIONS)

COUNT ?= 2000
ABUSE_OPTIONS ?=
abuse: all $(ABUSE_BIN) ## ill-treat the daemon COUNT (2000) times in every way over every way in, while an honest client works
	@FC_TEST_BUILD=$(BUILD) LSAN_OPTIONS="suppressions=tests/lsan.supp:print_suppressions=0" \
	    $(ABUSE_BIN) --count $(COUNT) $(ABUSE_OPTIONS)

# --- benchmarks ----------------------------------------------------------------------------------------------------

BENCH_PYTHON ?= python3
CPU_OBJ := $(call objects,$(PLAN_SRC) kernels/cpu.c $(wildcard kernels/cpu_*.c) proto/status.c proto/vocab.c)
$(BUILD)/flashcore-cpu.so: $(call objects,tests/bench/cpu_entry.c) $(CPU_OBJ)
	$(call say,LINK,$@)$(CC) $(LDFLAGS) -shared -o $@ $^ $(OPENMP) -lm

bench-kernels: $(BUILD)/flashcore-cuda.so $(BUILD)/gpu/digests.json ## time the CUDA kernels beside PyTorch's (a GPU, BENCH_PYTHON)
	$(BENCH_PYTHON) tests/bench/bench_kernels.py --library $< --digests $(BUILD)/gpu/digests.json --out docs/bench
	tests/bench/kernel_report.py docs/bench/kernels_h100.json --readme README.md

bench-cpu: $(BUILD)/flashcore-cpu.so ## time the cpu kernel against PyTorch (BENCH_PYTHON: a Python that has torch)
	$(BENCH_PYTHON) tests/bench/cpu_vs_torch.py --library $< --out docs/bench

# What a machine takes for the parts of a request without any service: tests/bench/floor.h.
FLOOR_OBJ := $(call objects,tests/bench/floor.c kernels/attention.c proto/status.c proto/vocab.c)

$(BUILD)/bench/local_hop: $(call objects,tests/bench/local_hop.c $(PROTO_SRC)) $(FLOOR_OBJ)
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(LDFLAGS) -o $@ $(sort $^) $(CLIENT_LIBS)

$(BUILD)/bench/service_floors: $(call objects,tests/bench/service_floors.c) $(CPU_OBJ) $(FLOOR_OBJ)
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(LDFLAGS) -o $@ $(sort $^) $(OPENMP) -lm

$(BUILD)/bench/service_echo: $(call objects,tests/bench/service_echo.c) $(FLOOR_OBJ)
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(LDFLAGS) -o $@ $^ -lnng -lm

# Finds the engine one folder up, where it is built.
$(OBJ)/tests/bench/gpu_floors.o: CPPFLAGS += -I$(CUDA_HOME)/include
$(BUILD)/bench/gpu_floors: $(call objects,tests/bench/gpu_floors.c) $(FLOOR_OBJ) $(BUILD)/flashcore-cuda.so
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(NVCC) -cudart static -o $@ $(filter %.o,$^) -L$(BUILD) -l:flashcore-cuda.so -Xlinker '-rpath,$$ORIGIN/..'

# The same program on the fake runtime, to see that it runs.
$(BUILD)/bench/gpu_floors_fake: $(patsubst %.c,$(OBJ)/fake/%.o,tests/bench/gpu_floors.c tests/bench/floor.c $(FAKE_ALL_SRC))
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(LDFLAGS) -o $@ $^ -lm

bench-service: all $(BENCH_BIN) ## time the service beside its floors and a Python gRPC peer (BENCH_PYTHON: one that has torch, grpcio, protobuf)
	@tests/bench/bench_service.py --build $(BUILD) --out docs/bench --readme README.md --peer-python $(BENCH_PYTHON)

ROUNDS ?= 5
bench-overload: all ## offer the daemon up to eight times what it can do, and floods beside polite clients (cpu engine; ROUNDS, 5)
	@tests/bench/bench_overload.py --build $(BUILD) --out docs/bench --rounds $(ROUNDS)

# The runs of tests/bench/test_service.py want what no GPU is needed for.
check-bench: all $(filter-out %/gpu_floors,$(BENCH_BIN)) $(BUILD)/bench/gpu_floors_fake $(FAKE_ENGINE) $(FAKE_DRIVER) ## see that bench-service and bench-overload still run
	@FC_TEST_BUILD=$(BUILD) tests/bench/test_service.py

bench-local: all $(BUILD)/bench/local_hop ## time the local channel's ping against bare sockets, in one run
	@tests/bench/local_hop.sh $(BUILD)

.SECONDARY:
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

clean: ## remove every build folder
	rm -rf build build-*

/* The fake's side of the page that tests/faults share with a daemon: see tests/faults/faults.h. */
#include "tests/fake/fake_state.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static fc_fault_page *open_page(void)
{
    const char *path = getenv("FC_FAULTS");
    int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return NULL;
    void *page = mmap(NULL, sizeof(fc_fault_page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return page != MAP_FAILED ? page : NULL;
}

static fc_fault_page *page(void)
{
    static fc_fault_page *opened;
    static bool has_looked;
    if (!has_looked)
        opened = open_page();
    has_looked = true;
    return opened;
}

cudaError_t fake_fault(fc_fault_row call)
{
    return page() != NULL ? (cudaError_t)fc_fault_take(page(), call, FC_FAULT_BY_ENGINE, 0) : cudaSuccess;
}

void fake_fault_note_live(long live)
{
    if (page() != NULL)
        atomic_store(&page()->cuda_live, (int)live);
}

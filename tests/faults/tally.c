/* See tally.h. */
#include "tests/faults/tally.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef struct row {
    char name[48];
    unsigned counts[FC_OUTCOME_COUNT];
} row;

typedef struct tally {
    pthread_mutex_t lock;
    unsigned used;
    row rows[FC_TALLY_ROWS];
} tally;

static tally *shared;

static const struct {
    const char *name, *text;
    bool is_good;
} OUTCOMES[] = {
#define FC_OUTCOME(symbol, name, is_good, text) {name, text, is_good},
#include "tests/faults/outcomes.def"
};

bool fc_outcome_is_good(fc_outcome outcome)
{
    return OUTCOMES[outcome].is_good;
}

const char *fc_outcome_name(fc_outcome outcome)
{
    return OUTCOMES[outcome].name;
}

void *fc_tally_share(size_t size_bytes)
{
    void *bytes = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (bytes == MAP_FAILED)
        abort();
    return bytes;
}

void fc_tally_open(void)
{
    pthread_mutexattr_t attributes;
    shared = fc_tally_share(sizeof *shared);
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&shared->lock, &attributes);
}

void fc_tally_add(const char *name, fc_outcome outcome)
{
    pthread_mutex_lock(&shared->lock);
    unsigned at = 0;
    while (at < shared->used && strcmp(shared->rows[at].name, name) != 0)
        at++;
    if (at == shared->used && at < FC_TALLY_ROWS)
        snprintf(shared->rows[shared->used++].name, sizeof shared->rows[at].name, "%s", name);
    if (at < FC_TALLY_ROWS)
        shared->rows[at].counts[outcome]++;
    pthread_mutex_unlock(&shared->lock);
}

unsigned fc_tally_count(fc_outcome outcome)
{
    unsigned count = 0;
    for (unsigned i = 0; i < shared->used; i++)
        count += shared->rows[i].counts[outcome];
    return count;
}

static void print_row(const char *name, const unsigned *counts)
{
    unsigned faults = 0;
    for (int i = 0; i < FC_OUTCOME_COUNT; i++)
        faults += i != FC_OUTCOME_NOT_REACHED ? counts[i] : 0;
    printf("%-28s %7u", name, faults);
    for (int i = 0; i < FC_OUTCOME_COUNT; i++)
        printf(" %9u", counts[i]);
    printf("\n");
}

void fc_tally_print(const char *title)
{
    unsigned totals[FC_OUTCOME_COUNT];
    printf("%-28s %7s", title, "faults");
    for (int i = 0; i < FC_OUTCOME_COUNT; i++)
        printf(" %9s", OUTCOMES[i].name);
    printf("\n");
    for (unsigned i = 0; i < shared->used; i++)
        print_row(shared->rows[i].name, shared->rows[i].counts);
    for (int i = 0; i < FC_OUTCOME_COUNT; i++)
        totals[i] = fc_tally_count((fc_outcome)i);
    print_row("all", totals);
}

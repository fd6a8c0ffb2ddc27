#include "tests/abuse/crew.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* A daemon that is being started anew refuses for a moment. */
#define AGAIN_MS 5

struct fc_crew_tally {
    atomic_uint next, done, refused;
};

static void do_once(fc_crew_tally *tally, fc_abuser *abuser, const fc_deed *deed, uint32_t i)
{
    if (deed->act(abuser, i)) {
        atomic_fetch_add(&tally->done, 1);
        return;
    }
    atomic_fetch_add(&tally->refused, 1);
    poll(NULL, 0, AGAIN_MS);
}

typedef struct assignment {
    const fc_site *site;
    const fc_deed *deed;
    fc_road road;
    uint32_t number, count;
} assignment;

/* What one of them does; orders and reports are its ends. */
static void work(const assignment *what, fc_crew_tally *tally, int orders, int reports)
{
    static fc_abuser abuser;
    char word = 0;
    fc_abuser_open(&abuser, what->site, what->road, what->deed->bytes, what->number);
    while (atomic_load(&tally->done) < what->count)
        do_once(tally, &abuser, what->deed, atomic_fetch_add(&tally->next, 1));
    fc_abuser_let_go(&abuser);
    ck_assert_int_eq(write(reports, &word, 1), 1);
    abuser.is_last = true;
    if (read(orders, &word, 1) == 1)
        for (;;)
            do_once(tally, &abuser, what->deed, atomic_fetch_add(&tally->next, 1));
    fc_abuser_close(&abuser);
}

void fc_crew_start(fc_crew *out_crew, const fc_site *site, const fc_deed *deed, fc_road road, uint32_t count)
{
    int orders[2], reports[2];
    pid_t parent = getpid();
    ck_assert_int_eq(pipe2(orders, O_CLOEXEC), 0);
    ck_assert_int_eq(pipe2(reports, O_CLOEXEC), 0);
    out_crew->tally = mmap(NULL, sizeof *out_crew->tally, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(out_crew->tally != MAP_FAILED);
    for (uint32_t i = 0; i < FC_CREW_SIZE; i++) {
        assignment what = {.site = site, .deed = deed, .road = road, .number = i, .count = count};
        out_crew->pids[i] = fork();
        ck_assert_int_ge(out_crew->pids[i], 0);
        if (out_crew->pids[i] != 0)
            continue;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(EXIT_FAILURE);
        close(orders[1]);
        close(reports[0]);
        work(&what, out_crew->tally, orders[0], reports[1]);
        _exit(EXIT_SUCCESS);
    }
    close(orders[0]);
    close(reports[1]);
    out_crew->orders = orders[1];
    out_crew->reports = reports[0];
}

uint32_t fc_crew_done(const fc_crew *crew)
{
    return atomic_load(&crew->tally->done);
}

uint32_t fc_crew_refused(const fc_crew *crew)
{
    return atomic_load(&crew->tally->refused);
}

void fc_crew_go_on(const fc_crew *crew)
{
    static const char words[FC_CREW_SIZE];
    ck_assert_int_eq(write(crew->orders, words, sizeof words), (ssize_t)sizeof words);
}

void fc_crew_dismiss(fc_crew *crew)
{
    for (int i = 0; i < FC_CREW_SIZE; i++) {
        int status = 0;
        kill(crew->pids[i], SIGKILL);
        ck_assert_int_eq(waitpid(crew->pids[i], &status, 0), crew->pids[i]);
        ck_assert_msg(WIFSIGNALED(status), "abuser %d failed", i);
    }
    close(crew->orders);
    close(crew->reports);
    munmap(crew->tally, sizeof *crew->tally);
}

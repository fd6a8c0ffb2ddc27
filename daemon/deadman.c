/* A thread that waits for a stop that should come first. */
#include "daemon/deadman.h"

#include "daemon/clock.h"
#include "daemon/log.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

struct fc_deadman {
    pthread_t thread;
    pthread_mutex_t lock; /* guards is_stopped */
    pthread_cond_t stopped;
    bool is_stopped;
    struct timespec deadline;
    const char *what;
    fc_exit code;
};

static void *watch(void *context)
{
    fc_deadman *deadman = context;
    int error = 0;
    pthread_mutex_lock(&deadman->lock);
    while (!deadman->is_stopped && error == 0)
        error = pthread_cond_timedwait(&deadman->stopped, &deadman->lock, &deadman->deadline);
    if (!deadman->is_stopped) {
        fc_log(FC_LOG_WARN, "gave_up", fc_log_text("what", deadman->what), fc_log_int("exit", deadman->code));
        fc_exit_now(deadman->code);
    }
    pthread_mutex_unlock(&deadman->lock);
    return NULL;
}

fc_status fc_deadman_start(uint64_t timeout_ns, const char *what, fc_exit code, fc_deadman **out_deadman)
{
    fc_deadman *deadman = malloc(sizeof *deadman);
    if (deadman == NULL)
        return FC_NO_MEMORY;
    *deadman = (fc_deadman){.deadline = fc_clock_timespec(fc_clock_now_ns() + timeout_ns), .what = what, .code = code};
    fc_clock_cond_init(&deadman->stopped);
    pthread_mutex_init(&deadman->lock, NULL);
    if (pthread_create(&deadman->thread, NULL, watch, deadman) != 0)
        goto free_deadman;
    *out_deadman = deadman;
    return FC_OK;
free_deadman:
    pthread_mutex_destroy(&deadman->lock);
    pthread_cond_destroy(&deadman->stopped);
    free(deadman);
    return FC_INTERNAL;
}

void fc_deadman_stop(fc_deadman *deadman)
{
    if (deadman == NULL)
        return;
    pthread_mutex_lock(&deadman->lock);
    deadman->is_stopped = true;
    pthread_cond_signal(&deadman->stopped);
    pthread_mutex_unlock(&deadman->lock);
    pthread_join(deadman->thread, NULL);
    pthread_mutex_destroy(&deadman->lock);
    pthread_cond_destroy(&deadman->stopped);
    free(deadman);
}

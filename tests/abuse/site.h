/* The daemon that is abused: every way in is open, whoever ends by itself as its documentation says is started again as
 * a supervisor would, and what it holds is looked at from outside. Main thread of one test.
 */
#ifndef FC_TESTS_ABUSE_SITE_H
#define FC_TESTS_ABUSE_SITE_H

#include "tests/e2e/harness.h"
#include "tests/support/certs.h"

/* Ways in: FC_ROAD(symbol, word). */
#define FC_ROADS(FC_ROAD)                                                                                              \
    FC_ROAD(IPC, "ipc")                                                                                                \
    FC_ROAD(TCP, "tcp")                                                                                                \
    FC_ROAD(TLS, "tls+tcp")                                                                                            \
    FC_ROAD(LOCAL, "local")                                                                                            \
    FC_ROAD(HTTP, "metrics")                                                                                           \
    FC_ROAD(ADMIN, "admin")

typedef enum fc_road {
#define FC_ROAD_SYMBOL(symbol, word) FC_ROAD_##symbol,
    FC_ROADS(FC_ROAD_SYMBOL) FC_ROAD_COUNT
} fc_road;

const char *fc_road_name(fc_road road);

#define FC_SITE_LEAKS_MAX 64        /* --leaked-pipes, as it is by default */
#define FC_SITE_CONNECTIONS_MAX 256 /* of a user or host, where there is a limit */
#define FC_SITE_MESSAGE_BYTES (48u << 20)
/* From SIGTERM to the end at most: --drain-timeout, --close-timeout, and what a process takes to go. */
#define FC_SITE_DRAIN_MS 2000
#define FC_SITE_CLOSE_MS 2000
#define FC_SITE_END_MS (FC_SITE_DRAIN_MS + FC_SITE_CLOSE_MS + 1000)

/* Before that: how long connections have to stay to count as never closing, and how often they are counted. Meanwhile
 * they go on counting for --connections-per-uid, and more may be refused. */
#define FC_SITE_NOTICE_MS 7000

typedef struct fc_site_restart {
    uint64_t from_us, to_us; /* from when nng hung, at the earliest, until it was ready again */
} fc_site_restart;

#define FC_SITE_RESTARTS_MAX 1000

typedef struct fc_site {
    fc_e2e_daemon daemon;
    fc_certs certs;
    fc_cert server, client;
    bool has_limit; /* of connections: who is past it is refused, and an honest client of the same user with him */
    char address[FC_ROAD_COUNT][FC_E2E_PATH_BYTES]; /* URLs, or the path or address of the others */
    uint64_t never_closing;                         /* connections, the most that were counted before a restart */
    uint32_t restart_count;
    fc_site_restart restarts[FC_SITE_RESTARTS_MAX];
} fc_site;

/* What a daemon holds. */
typedef struct fc_site_view {
    uint64_t descriptors, memory_kib;
} fc_site_view;

void fc_site_start(fc_site *out_site, bool has_limit);

/* The flags a daemon at the same place has, NULL-terminated; they point into the site. */
#define FC_SITE_ARGS_MAX 32
void fc_site_args(const fc_site *site, const char *out_args[FC_SITE_ARGS_MAX]);

/* Looks; false while it is not there to be looked at. */
bool fc_site_look(const fc_site *site, fc_site_view *out_view);

/* A number of its stats; -1: it does not answer now. */
double fc_site_counter(const fc_site *site, const char *name);

/* Waits so long for what a descriptor says (-1: none) or the daemon's end, and starts it anew when it ended by itself
 * because of connections that never closed; any other end fails the test. True: the descriptor is readable. */
bool fc_site_watch(fc_site *site, int fd, int wait_ms);

/* SIGTERM; how many milliseconds it took to end. Fails when it takes too long or ends with another code than asked
 * for (0, 3: cut short because peers do not read; 1: it was about to fail anyway). The folder is removed. */
uint64_t fc_site_end(fc_site *site);

#endif

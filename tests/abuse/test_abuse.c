/* Abuses a daemon in every way its socket libraries are known or feared to take badly, over every way in, while an
 * honest client works: test_abuse [--count N] [--only TEXT] [--json FILE]. A row is one deed (deeds.c) on one road; N
 * times of the quickest, fewer of the others. Without --count a few of each, for CI.
 *
 * A row is good when the daemon never ends but where it counted connections that never close (then it is started anew,
 * as a supervisor would, and must hold no more than at first), every honest request is answered right, what the daemon
 * holds goes back to what it held before, and it ends in time when told to while the abuse goes on.
 */
#include "tests/abuse/crew.h"
#include "tests/abuse/outcome.h"
#include "tests/e2e/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FEW 24
#define LOOK_MS 50
#define PROGRESS_US 10000000u
/* Without a deed done for so long, everybody is stuck. */
#define STUCK_MS 120000
/* What peers leave is gone by then: handshakes end after 10 s, HTTP connections after 5 s. */
#define REST_MS 40000
/* So many honest requests at least. */
#define HONEST_LEAST 3
/* Abuses to be under way again before the daemon is told to end. */
#define UNDER_WAY 6

static fc_outcome *outcomes; /* shared with the processes Check runs the rows in */
static size_t outcome_count;
static uint32_t most_count = FEW; /* of the quickest deeds */

typedef struct row {
    fc_outcome *outcome;
    fc_site site;
    fc_crew crew;
} row;

static void look(row *r)
{
    fc_site_view view;
    fc_outcome *o = r->outcome;
    if (!fc_site_look(&r->site, &view))
        return;
    o->descriptors_after = view.descriptors;
    o->memory_after_kib = view.memory_kib;
    if (view.descriptors > o->descriptors_worst)
        o->descriptors_worst = view.descriptors;
    if (view.memory_kib > o->memory_worst_kib)
        o->memory_worst_kib = view.memory_kib;
}

static void note_leaks(row *r)
{
    fc_outcome *o = r->outcome;
    double leaks = fc_site_counter(&r->site, "pipes_leaked");
    if (leaks > (double)o->never_closing)
        o->never_closing = (uint64_t)leaks;
    if (r->site.never_closing > o->never_closing)
        o->never_closing = r->site.never_closing;
}

static void show_progress(const row *r, uint32_t count, uint64_t *next_us)
{
    if (fc_e2e_now_us() < *next_us)
        return;
    *next_us += PROGRESS_US;
    printf("   ... %s, %s: %u of %u, %llu descriptors, %llu MiB, %u restarts\n", fc_road_name(r->outcome->road),
           r->outcome->deed->name, fc_crew_done(&r->crew), count, (unsigned long long)r->outcome->descriptors_after,
           (unsigned long long)r->outcome->memory_after_kib / 1024u, r->site.restart_count);
    fflush(stdout);
}

/* Until each abuser has said that the deeds are done. */
static void watch_crew(row *r, uint32_t count)
{
    uint64_t next_us = fc_e2e_now_us() + PROGRESS_US;
    uint64_t stuck_us = 0;
    uint32_t done = UINT32_MAX;
    for (int reports = 0; reports < FC_CREW_SIZE;) {
        char words[FC_CREW_SIZE];
        if (fc_site_watch(&r->site, r->crew.reports, LOOK_MS)) {
            ssize_t got = read(r->crew.reports, words, sizeof words);
            ck_assert_msg(got > 0, "the abusers have failed");
            reports += (int)got;
        }
        look(r);
        show_progress(r, count, &next_us);
        if (fc_crew_done(&r->crew) != done) {
            done = fc_crew_done(&r->crew);
            stuck_us = fc_e2e_end_us(STUCK_MS);
        }
        ck_assert_msg(fc_e2e_now_us() < stuck_us, "stuck after %u of %u", done, count);
    }
}

/* Connections until there are too many that never close, and the daemon has been started anew. */
static void heal(row *r)
{
    static fc_abuser visitor;
    uint32_t restarts = r->site.restart_count;
    fc_abuser_open(&visitor, &r->site, FC_ROAD_IPC, 0, 0);
    for (uint32_t i = 0; r->site.restart_count == restarts; i++) {
        sp_peer peer;
        ck_assert_msg(i < 100 * FC_SITE_LEAKS_MAX, "connections never close, and nothing is done about it");
        if (fc_abuser_reach(&visitor, FC_REACH_GREETED, &peer))
            sp_peer_close(&peer);
        fc_site_watch(&r->site, -1, i < 2 * FC_SITE_LEAKS_MAX ? 0 : LOOK_MS);
        note_leaks(r);
    }
    fc_abuser_close(&visitor);
}

static void let_rest(row *r)
{
    uint64_t end_us = fc_e2e_end_us(REST_MS);
    do {
        fc_site_watch(&r->site, -1, LOOK_MS);
        look(r);
        note_leaks(r);
    } while (r->outcome->descriptors_after > r->outcome->descriptors_before &&
             fc_site_counter(&r->site, "pipes_leaked") <= 0 && fc_e2e_now_us() < end_us);
}

/* What the daemon held for peers goes back, or is counted, and then a restart gives it back. */
static void come_to_rest(row *r)
{
    let_rest(r);
    if (r->outcome->descriptors_after <= r->outcome->descriptors_before ||
        fc_site_counter(&r->site, "pipes_leaked") <= 0)
        return;
    heal(r);
    let_rest(r);
}

static void end_in_the_middle(row *r)
{
    uint32_t done = fc_crew_done(&r->crew);
    fc_crew_go_on(&r->crew);
    while (fc_crew_done(&r->crew) < done + UNDER_WAY)
        fc_site_watch(&r->site, -1, 1);
    r->outcome->end_ms = fc_site_end(&r->site);
    fc_crew_dismiss(&r->crew);
}

static void watch_polite(row *r, const fc_polite *polite)
{
    uint64_t end_us = fc_e2e_end_us(STUCK_MS);
    while (fc_polite_answered(polite) < HONEST_LEAST && fc_e2e_now_us() < end_us)
        fc_site_watch(&r->site, -1, 1);
}

static void run_row(fc_outcome *o)
{
    static row r;
    char fault[320];
    uint32_t count = most_count / (o->deed->share > 0 ? o->deed->share : 1);
    count = count > 0 ? count : 1;
    r.outcome = o;
    fc_site_start(&r.site, o->deed->is_filling);
    look(&r);
    o->descriptors_before = o->descriptors_after;
    o->memory_before_kib = o->memory_after_kib;
    uint64_t began_us = fc_e2e_now_us();
    fc_crew_start(&r.crew, &r.site, o->deed, o->road, count);
    fc_polite *polite = fc_polite_start(&r.site, o->road, o->deed->is_filling);
    watch_crew(&r, count);
    o->seconds = (double)(fc_e2e_now_us() - began_us) / 1e6;
    o->done = fc_crew_done(&r.crew);
    o->refused = fc_crew_refused(&r.crew);
    watch_polite(&r, polite);
    fc_polite_stop(polite, &r.site, &o->polite);
    come_to_rest(&r);
    o->restarts = r.site.restart_count;
    end_in_the_middle(&r);
    o->is_over = true;
    o->is_good = !fc_outcome_has_fault(o, fault, sizeof fault);
    fc_outcome_print(o);
    ck_assert_msg(o->is_good, "%s, %s: %s", fc_road_name(o->road), o->deed->name, fault);
}

START_TEST(abuse_harms_nobody)
{
    run_row(&outcomes[_i]);
}
END_TEST

/* Every deed on every road it is for whose "road, name" holds the text. */
static void list_rows(const char *only)
{
    for (size_t i = 0; i < FC_DEED_COUNT; i++) {
        for (int road = 0; road < FC_ROAD_COUNT; road++) {
            char name[64];
            snprintf(name, sizeof name, "%s, %s", fc_road_name((fc_road)road), FC_DEEDS[i].name);
            if ((FC_DEEDS[i].roads & 1u << road) != 0 && (only == NULL || strstr(name, only) != NULL))
                outcomes[outcome_count++] = (fc_outcome){.deed = &FC_DEEDS[i], .road = (fc_road)road};
        }
    }
}

static bool read_args(int argc, char **argv, const char **out_only, const char **out_json)
{
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc)
            return false;
        if (strcmp(argv[i], "--count") == 0)
            most_count = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--only") == 0)
            *out_only = argv[i + 1];
        else if (strcmp(argv[i], "--json") == 0)
            *out_json = argv[i + 1];
        else
            return false;
    }
    return most_count > 0;
}

int main(int argc, char **argv)
{
    const char *only = NULL, *json = NULL;
    if (!read_args(argc, argv, &only, &json)) {
        fprintf(stderr, "usage: test_abuse [--count N] [--only TEXT] [--json FILE]\n");
        return EXIT_FAILURE;
    }
    outcomes = mmap(NULL, FC_DEED_COUNT * FC_ROAD_COUNT * sizeof *outcomes, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (outcomes == MAP_FAILED)
        return EXIT_FAILURE;
    list_rows(only);
    Suite *suite = suite_create("abuse");
    TCase *tcase = fc_e2e_case(suite, "abuse");
    tcase_set_timeout(tcase, 0); /* every wait in it has its limit */
    tcase_add_loop_test(tcase, abuse_harms_nobody, 0, (int)outcome_count);
    fc_outcome_print_head();
    int code = fc_e2e_main(suite);
    fc_outcome_print_sums(outcomes, outcome_count);
    if (json != NULL && !fc_outcome_write_json(outcomes, outcome_count, json)) {
        fprintf(stderr, "%s cannot be written\n", json);
        return EXIT_FAILURE;
    }
    return code;
}

#include "tests/abuse/outcome.h"

#include "tests/abuse/crew.h"

#include <stdio.h>
#include <string.h>

/* A sanitizer keeps what was freed. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define JUDGES_MEMORY 0
#else
#define JUDGES_MEMORY 1
#endif

/* What the process may keep: its allocator's caches, and the messages that were under way at once, a request and a
 * reply of each abuser and, of those that died, as many again. */
static uint64_t memory_limit_kib(const fc_outcome *outcome)
{
    return 128u * 1024u + 4u * FC_CREW_SIZE * (uint64_t)outcome->deed->bytes / 1024u;
}

bool fc_outcome_has_fault(const fc_outcome *o, char *out_text, size_t out_bytes)
{
    out_text[0] = '\0';
    if (o->polite.wrong > 0)
        snprintf(out_text, out_bytes, "%llu wrong answers", (unsigned long long)o->polite.wrong);
    else if (o->polite.lost > 0)
        snprintf(out_text, out_bytes, "%llu honest requests lost: %s", (unsigned long long)o->polite.lost,
                 o->polite.why);
    else if (o->polite.answered == 0)
        snprintf(out_text, out_bytes, "no honest request was answered");
    else if (o->refused > 0 && o->restarts == 0 && !o->deed->is_filling)
        snprintf(out_text, out_bytes, "%u times the daemon was not there, or hung up", o->refused);
    else if (o->descriptors_after > o->descriptors_before)
        snprintf(out_text, out_bytes, "%llu descriptors are still held",
                 (unsigned long long)(o->descriptors_after - o->descriptors_before));
    else if (JUDGES_MEMORY && o->memory_after_kib > o->memory_before_kib + memory_limit_kib(o))
        snprintf(out_text, out_bytes, "%llu MiB of memory are still held",
                 (unsigned long long)(o->memory_after_kib - o->memory_before_kib) / 1024u);
    return out_text[0] != '\0';
}

void fc_outcome_print_head(void)
{
    printf("%-8s %-25s %7s %7s %8s %5s %5s %7s %13s %5s %8s %11s %6s\n", "way in", "abuse", "times", "/s", "honest",
           "wrong", "lost", "worst", "descriptors", "leaks", "restarts", "MiB", "end");
    printf("%-8s %-25s %7s %7s %8s %5s %5s %7s %13s %5s %8s %11s %6s\n", "", "", "", "", "answers", "", "", "ms",
           "before/worst/", "", "", "before/", "ms");
    printf("%82s %13s %5s %8s %11s\n", "", "after", "", "", "after");
}

void fc_outcome_print(const fc_outcome *o)
{
    char descriptors[48], memory[48], fault[320] = "";
    snprintf(descriptors, sizeof descriptors, "%llu/%llu/%llu", (unsigned long long)o->descriptors_before,
             (unsigned long long)o->descriptors_worst, (unsigned long long)o->descriptors_after);
    snprintf(memory, sizeof memory, "%llu/%llu", (unsigned long long)o->memory_before_kib / 1024u,
             (unsigned long long)o->memory_after_kib / 1024u);
    if (o->is_over)
        fc_outcome_has_fault(o, fault, sizeof fault);
    else
        snprintf(fault, sizeof fault, "did not run to its end");
    printf("%-8s %-25s %7u %7.0f %8llu %5llu %5llu %7.0f %13s %5llu %8u %11s %6llu%s%s\n", fc_road_name(o->road),
           o->deed->name, o->done, o->seconds > 0 ? o->done / o->seconds : 0.0, (unsigned long long)o->polite.answered,
           (unsigned long long)o->polite.wrong, (unsigned long long)o->polite.lost, (double)o->polite.worst_us / 1000.0,
           descriptors, (unsigned long long)o->never_closing, o->restarts, memory, (unsigned long long)o->end_ms,
           fault[0] != '\0' ? "  FAULT: " : "", fault);
    fflush(stdout);
}

void fc_outcome_print_sums(const fc_outcome *outcomes, size_t count)
{
    unsigned long long done = 0, answered = 0, wrong = 0, lost = 0, excused = 0, leaks = 0, restarts = 0, end_ms = 0;
    unsigned bad = 0;
    for (size_t i = 0; i < count; i++) {
        const fc_outcome *o = &outcomes[i];
        done += o->done;
        answered += o->polite.answered;
        wrong += o->polite.wrong;
        lost += o->polite.lost;
        excused += o->polite.excused;
        leaks += o->never_closing;
        restarts += o->restarts;
        end_ms = o->end_ms > end_ms ? o->end_ms : end_ms;
        bad += !o->is_good;
    }
    printf(
        "%zu rows, %u of them with a fault; %llu abuses; honest requests: %llu answered, %llu wrong, %llu lost, %llu "
        "turned away by a restart; %llu connections counted as never closing, %llu restarts; the slowest end took "
        "%llu ms\n",
        count, bad, done, answered, wrong, lost, excused, leaks, restarts, end_ms);
}

bool fc_outcome_write_json(const fc_outcome *outcomes, size_t count, const char *path)
{
    FILE *file = fopen(path, "w");
    if (file == NULL)
        return false;
    fprintf(file, "[");
    for (size_t i = 0; i < count; i++) {
        const fc_outcome *o = &outcomes[i];
        fprintf(file,
                "%s\n {\"road\": \"%s\", \"abuse\": \"%s\", \"reply_bytes\": %zu, \"count\": %u, \"refused\": %u, "
                "\"seconds\": %.3f, \"answered\": %llu, \"wrong\": %llu, \"lost\": %llu, \"turned_away\": %llu, "
                "\"worst_us\": %llu, \"descriptors\": [%llu, %llu, %llu], \"never_closing\": %llu, \"restarts\": %u, "
                "\"memory_kib\": [%llu, %llu, %llu], \"end_ms\": %llu, \"good\": %s}",
                i > 0 ? "," : "", fc_road_name(o->road), o->deed->name, o->deed->bytes, o->done, o->refused, o->seconds,
                (unsigned long long)o->polite.answered, (unsigned long long)o->polite.wrong,
                (unsigned long long)o->polite.lost, (unsigned long long)o->polite.excused,
                (unsigned long long)o->polite.worst_us, (unsigned long long)o->descriptors_before,
                (unsigned long long)o->descriptors_worst, (unsigned long long)o->descriptors_after,
                (unsigned long long)o->never_closing, o->restarts, (unsigned long long)o->memory_before_kib,
                (unsigned long long)o->memory_worst_kib, (unsigned long long)o->memory_after_kib,
                (unsigned long long)o->end_ms, o->is_good ? "true" : "false");
    }
    fprintf(file, "\n]\n");
    return fclose(file) == 0;
}

/* docs/metrics.md, from what the daemon says about its metrics (# HELP, # TYPE and the labels of a sample). */
#include "daemon/metrics.h"
#include "tools/doc.h"

#include <stdlib.h>
#include <string.h>

static void print_family(const char *name, const char *type, const char *help, const char *sample)
{
    size_t name_bytes = strlen(name);
    char labels[64] = "";
    const char *label =
        strncmp(sample, name, name_bytes) == 0 && sample[name_bytes] == '{' ? sample + name_bytes + 1 : "";
    while (strchr(label, '=') != NULL && strchr(label, '}') != NULL && label[0] != '}') {
        size_t used = strlen(labels);
        snprintf(labels + used, sizeof labels - used, "%s`%.*s`", used > 0 ? ", " : "", (int)strcspn(label, "="),
                 label);
        label = strchr(label, '"') + 1;
        label += strcspn(label, "\"") + 1;
        label += label[0] == ',';
    }
    printf("| `%s` | %s | %s | %s |\n", name, type, labels, help);
}

/* Families follow each other as HELP, TYPE, samples. */
static void print_families(char *text)
{
    char *save = NULL;
    char name[64] = "", help[256] = "", type[32] = "";
    for (char *line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
        if (sscanf(line, "# HELP %63s %255[^\n]", name, help) == 2)
            continue;
        if (sscanf(line, "# TYPE %*s %31s", type) == 1)
            continue;
        if (type[0] != '\0')
            print_family(name, type, help, line);
        type[0] = '\0';
    }
}

bool fc_doc_metrics(void)
{
    static fc_stats stats;
    const fc_metrics_about about = {.version = "v", .engine = "e", .device = "d"};
    const fc_process_stats process = {.cpu_seconds = 0};
    char *text = NULL;
    size_t bytes = 0;
    /* All zero: readings are there too. */
    if (fc_metrics_render(&stats, &about, &process, &text, &bytes) != FC_OK)
        return false;
    puts("# Metrics\n"
         "\n"
         "Made by `make docs` from daemon/stats.def, proto/vocab.def, proto/status.def and kernels/kernel.def. Served "
         "at\n"
         "`/metrics` by `flashcored --metrics ADDRESS`, text exposition format 0.0.4. What can be read on no machine "
         "but one\n"
         "with a GPU is absent elsewhere. `flashcorectl stats --json` shows the same numbers under the same names "
         "without "
         "prefix,\n"
         "`_total` and base units (`launch_us` for `flashcored_launch_seconds_total`). docs/runbook.md says what to do "
         "about\n"
         "them; deploy/prometheus/ has alert rules and a Grafana dashboard.\n"
         "\n"
         "| name | type | labels | meaning |\n"
         "|---|---|---|---|");
    print_families(text);
    free(text);
    return true;
}

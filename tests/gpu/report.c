/* See report.h. */
#include "tests/gpu/report.h"

#include <errno.h>
#include <math.h>
#include <string.h>

bool report_open(report *r, const char *path)
{
    if (path == NULL)
        return true;
    r->file = fopen(path, "w");
    if (r->file == NULL) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return false;
    }
    fprintf(r->file, "{\"columns\": [\"case\",\n"
                     " \"out relative error\", \"plain's\", \"out largest error\", \"plain's\", \"norm\", \"unit\",\n"
                     " \"lse relative error\", \"plain's\", \"lse largest error\", \"plain's\", \"norm\", \"unit\",\n"
                     " \"runs\", \"equal\", \"stray\"],\n\"rows\": [");
    return true;
}

static void write_number(FILE *file, double value)
{
    if (isfinite(value))
        fprintf(file, ",%.4g", value);
    else
        fprintf(file, ",1e999"); /* JSON has no word for it; readers make an infinity of this */
}

static void write_figures(FILE *file, const fc_reference_figures *f)
{
    write_number(file, f->error.relative_frobenius);
    write_number(file, f->plain.relative_frobenius);
    write_number(file, f->error.largest_absolute);
    write_number(file, f->plain.largest_absolute);
    write_number(file, f->norm);
    write_number(file, f->unit);
}

static double ratio(const fc_reference_figures *f)
{
    double allowed = 2 * f->plain.largest_absolute + f->unit;
    double allowed_relative = 2 * f->plain.relative_frobenius + (f->norm > 0 ? f->unit / f->norm : 0);
    double absolute = f->error.largest_absolute > 0 ? f->error.largest_absolute / allowed : 0;
    double relative = f->error.relative_frobenius > 0 ? f->error.relative_frobenius / allowed_relative : 0;
    return fmax(absolute, relative);
}

void report_add(report *r, fc_kernel kernel, const char *name, const char *label, const trial *t)
{
    report_tally *tally = &r->tallies[kernel];
    tally->run++;
    tally->failed += !t->is_right;
    if (t->is_right)
        tally->worst = fmax(tally->worst, fmax(ratio(&t->out), ratio(&t->lse)));
    if (r->file == NULL)
        return;
    fprintf(r->file, "%s\n[\"%s\",\"%s%s\"", r->row_count++ > 0 ? "," : "", fc_kernel_name(kernel), name, label);
    write_figures(r->file, &t->out);
    write_figures(r->file, &t->lse);
    fprintf(r->file, ",%d,%d,%lld]", t->run_count, t->equal_count, (long long)t->stray_count);
}

bool report_close(report *r, const char *device, bool is_whole)
{
    const char *comma = "";
    if (r->file == NULL)
        return true;
    fprintf(r->file, "],\n\"device\": \"%s\", \"whole\": %s, \"unsupported\": {", device, is_whole ? "true" : "false");
    for (int kernel = 0; kernel < FC_KERNEL_COUNT; kernel++) {
        const report_tally *t = &r->tallies[kernel];
        if (t->run + t->unsupported > 0)
            fprintf(r->file, "%s\"%s\": %d", comma, fc_kernel_name((fc_kernel)kernel), t->unsupported), comma = ", ";
    }
    fprintf(r->file, "}}\n");
    bool is_written = ferror(r->file) == 0;
    is_written = fclose(r->file) == 0 && is_written;
    r->file = NULL;
    if (!is_written)
        fprintf(stderr, "the report could not be written\n");
    return is_written;
}

int report_failures(const report *r)
{
    int failures = 0;
    for (int kernel = 0; kernel < FC_KERNEL_COUNT; kernel++)
        failures += r->tallies[kernel].failed;
    return failures;
}

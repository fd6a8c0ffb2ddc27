/* The latency-over-percentile curve. x: "nines", -log10(1 - p), so that 0, 90, 99, 99.9 % stand at equal distances, as
 * HdrHistogram's plots have it. y: time, linear from 0, or logarithmic when the tail is far from the middle.
 */
#include "client/bench_plot.h"

#include "client/bench_report.h"
#include "client/tool_text.h"

#include <math.h>
#include <string.h>

enum { WIDTH = 900, HEIGHT = 520, LEFT = 92, RIGHT = 872, TOP = 96, BOTTOM = 440 };
#define POINTS_PER_NINE 48
#define LOG_AXIS_RATIO 12.0
#define TICKS_MAX 24

typedef struct axis {
    double low, high; /* values at the ends */
    bool is_log;
    double ticks[TICKS_MAX];
    size_t tick_count;
} axis;

static double y_of(const axis *a, double us)
{
    if (us < a->low)
        us = a->low;
    double share = a->is_log ? log(us / a->low) / log(a->high / a->low) : (us - a->low) / (a->high - a->low);
    return BOTTOM - share * (BOTTOM - TOP);
}

/* 1, 2 or 5 times a power of ten, at least x. */
static double round_up(double x)
{
    double power = pow(10, floor(log10(x)));
    double lead = x / power;
    return power * (lead <= 1.0000001 ? 1 : lead <= 2.0000001 ? 2 : lead <= 5.0000001 ? 5 : 10);
}

static axis make_linear_axis(double max_us)
{
    axis a = {.low = 0};
    double step = round_up(max_us / 8);
    a.high = step * ceil(max_us * 1.02 / step);
    for (double tick = 0; tick <= a.high * 1.0001 && a.tick_count < TICKS_MAX; tick += step)
        a.ticks[a.tick_count++] = tick;
    return a;
}

static axis make_log_axis(double min_us, double max_us)
{
    static const double LEADS[] = {1, 2, 5};
    axis a = {.is_log = true};
    double power = pow(10, floor(log10(min_us)));
    a.low = power;
    for (size_t i = 0; i < 3 && power * LEADS[i] <= min_us; i++)
        a.low = power * LEADS[i];
    a.high = round_up(max_us * 1.02);
    for (; power <= a.high; power *= 10) {
        for (size_t i = 0; i < 3; i++) {
            double tick = power * LEADS[i];
            if (tick >= a.low * 0.9999 && tick <= a.high * 1.0001 && a.tick_count < TICKS_MAX)
                a.ticks[a.tick_count++] = tick;
        }
    }
    return a;
}

/* Times on the axis: round numbers, so no trailing zeros. */
static void print_tick(double us, FILE *out)
{
    if (us <= 0)
        fputc('0', out);
    else if (us >= 1e6)
        fprintf(out, "%g s", us / 1e6);
    else if (us >= 1e3)
        fprintf(out, "%g ms", us / 1e3);
    else
        fprintf(out, "%g us", us);
}

static void print_escaped(const char *text, FILE *out)
{
    for (; *text != '\0'; text++) {
        if (*text == '<')
            fputs("&lt;", out);
        else if (*text == '&')
            fputs("&amp;", out);
        else if ((unsigned char)*text >= ' ')
            fputc(*text, out);
    }
}

static void print_style(FILE *out)
{
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" role=\"img\">\n"
            "<style>\n"
            "  .page { fill: #ffffff } text { fill: #1f2328; font: 13px system-ui, 'DejaVu Sans', sans-serif }\n"
            "  .title { font-size: 18px; font-weight: 600 } .note { fill: #59636e }\n"
            "  .grid { stroke: #d1d9e0; stroke-width: 1 } .frame { stroke: #818b98; stroke-width: 1; fill: none }\n"
            "  .curve { stroke: #0969da; stroke-width: 2.5; fill: none; stroke-linejoin: round }\n"
            "  .under { fill: #0969da; fill-opacity: 0.10 } .dot { fill: #0969da } .value { font-weight: 600 }\n"
            "  @media (prefers-color-scheme: dark) {\n"
            "    .page { fill: #0d1117 } text { fill: #e6edf3 } .note { fill: #9198a1 }\n"
            "    .grid { stroke: #2f353d } .frame { stroke: #656c76 } .curve { stroke: #58a6ff }\n"
            "    .under { fill: #58a6ff; fill-opacity: 0.15 } .dot { fill: #58a6ff }\n"
            "  }\n"
            "</style>\n"
            "<rect class=\"page\" width=\"%d\" height=\"%d\" rx=\"6\"/>\n",
            WIDTH, HEIGHT, WIDTH, HEIGHT, WIDTH, HEIGHT);
}

static void print_titles(const fc_bench_options *options, const fc_bench_outcome *outcome, FILE *out)
{
    char shape[256] = "ping", load[160], line[512];
    const fc_tally *t = &outcome->total;
    if (options->op == FC_BENCH_ATTEND)
        fc_shape_text(&options->shape, shape, sizeof shape);
    fc_report_load_text(options, load, sizeof load);
    snprintf(line, sizeof line, "Latency by percentile: %s%s%s", shape, t->kernel[0] != '\0' ? ", kernel " : "",
             t->kernel);
    fprintf(out, "<text class=\"title\" x=\"24\" y=\"34\">");
    print_escaped(line, out);
    snprintf(line, sizeof line, "%s; %s requests/s, %s answers in %g s", load,
             fc_text_rate(fc_tally_rate(t, &outcome->window)).text, fc_text_count(t->latency.count).text,
             (double)(outcome->window.end_ns - outcome->window.begin_ns) / 1e9);
    fprintf(out, "</text>\n<text class=\"note\" x=\"24\" y=\"56\">");
    print_escaped(line, out);
    fprintf(out, "</text>\n<text class=\"note\" x=\"24\" y=\"75\">");
    snprintf(line, sizeof line, "%s%smin %s, mean %s, max %s", t->device, t->device[0] != '\0' ? "; " : "",
             fc_text_us((double)t->latency.min_ns / 1e3).text, fc_text_us(fc_histogram_mean_ns(&t->latency) / 1e3).text,
             fc_text_us((double)t->latency.max_ns / 1e3).text);
    print_escaped(line, out);
    fprintf(out, "</text>\n");
}

static void print_y_axis(const axis *a, const char *from, FILE *out)
{
    for (size_t i = 0; i < a->tick_count; i++) {
        double y = y_of(a, a->ticks[i]);
        fprintf(out, "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>", LEFT, RIGHT, y, y);
        fprintf(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">", LEFT - 10, y + 4.5);
        print_tick(a->ticks[i], out);
        fprintf(out, "</text>\n");
    }
    fprintf(out,
            "<text class=\"note\" transform=\"translate(22 %d) rotate(-90)\" text-anchor=\"middle\">"
            "latency, %s to receive%s</text>\n",
            (TOP + BOTTOM) / 2, from, a->is_log ? " (logarithmic)" : "");
}

static double x_of(double nines, double nines_max)
{
    return LEFT + nines / nines_max * (RIGHT - LEFT);
}

static double percent_of(double nines)
{
    return 100 * (1 - pow(10, -nines));
}

/* Percentiles with a line and a label, when enough answers tell them from the maximum. */
static const struct {
    double percent;
    const char *name;
} MARKS[] = {{0, "min"},      {50, "p50"},       {90, "p90"},        {99, "p99"},
             {99.9, "p99.9"}, {99.99, "p99.99"}, {99.999, "p99.999"}};
#define MARK_COUNT (sizeof MARKS / sizeof MARKS[0])

static double nines_of(double percent)
{
    return -log10(1 - percent / 100);
}

static double value_at(const fc_histogram *h, double nines)
{
    return nines <= 0 ? (double)h->min_ns / 1e3 : (double)fc_histogram_percentile_ns(h, percent_of(nines)) / 1e3;
}

static void print_x_axis(double nines_max, FILE *out)
{
    for (size_t i = 0; i < MARK_COUNT; i++) {
        double nines = nines_of(MARKS[i].percent);
        if (nines > nines_max + 1e-9)
            break;
        double x = x_of(nines, nines_max);
        fprintf(out, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>", x, x, TOP, BOTTOM);
        fprintf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%g %%</text>\n", x, BOTTOM + 20,
                MARKS[i].percent);
    }
    fprintf(out,
            "<text class=\"note\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">"
            "share of requests answered within that time (each step a tenth of what is left)</text>\n",
            (LEFT + RIGHT) / 2, BOTTOM + 46);
}

static void print_curve(const fc_histogram *h, const axis *a, double nines_max, FILE *out)
{
    int points = (int)(nines_max * POINTS_PER_NINE) + 1;
    for (int pass = 0; pass < 2; pass++) {
        if (pass == 0)
            fprintf(out, "<path class=\"under\" d=\"M%d %d", LEFT, BOTTOM);
        for (int i = 0; i <= points; i++) {
            double nines = nines_max * i / points;
            fprintf(out, "%s%.1f %.1f", pass == 1 && i == 0 ? "<path class=\"curve\" d=\"M" : "L",
                    x_of(nines, nines_max), y_of(a, value_at(h, nines)));
        }
        if (pass == 0)
            fprintf(out, "L%d %dZ", RIGHT, BOTTOM);
        fprintf(out, "\"/>\n");
    }
}

/* The curve never falls, so there is room below and right of a point, and above and left of it at the right edge. */
static void print_marks(const fc_histogram *h, const axis *a, double nines_max, FILE *out)
{
    double free_from_x = LEFT;
    for (size_t i = 0; i < MARK_COUNT; i++) {
        double nines = nines_of(MARKS[i].percent);
        double us = value_at(h, nines);
        double x = x_of(nines, nines_max), y = y_of(a, us);
        if (nines > nines_max + 1e-9)
            break;
        bool is_at_edge = x > RIGHT - 110;
        bool is_above = is_at_edge || y > BOTTOM - 26;
        fprintf(out, "<circle class=\"dot\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"/>", x, y);
        if (x < free_from_x || i == 0) /* the minimum stands in the subtitle; its label would hide p50's */
            continue;
        free_from_x = x + 110;
        fprintf(out, "<text class=\"value\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s %s</text>\n",
                x + (is_at_edge ? 0 : 7), y + (is_above ? -11 : 20), is_at_edge ? "end" : "start", MARKS[i].name,
                fc_text_us(us).text);
    }
}

void fc_plot_svg(const fc_bench_options *options, const fc_bench_outcome *outcome, FILE *out)
{
    const fc_histogram *h = &outcome->total.latency;
    print_style(out);
    print_titles(options, outcome, out);
    if (h->count == 0) {
        fprintf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">nothing was measured</text>\n</svg>\n", WIDTH / 2,
                HEIGHT / 2);
        return;
    }
    double min_us = fmax((double)h->min_ns / 1e3, 0.01), max_us = fmax((double)h->max_ns / 1e3, 0.01);
    double p50_us = fmax(value_at(h, nines_of(50)), 0.01);
    axis a = max_us / p50_us > LOG_AXIS_RATIO ? make_log_axis(min_us, max_us) : make_linear_axis(max_us);
    double nines_max = fmin(5, fmax(1, log10((double)h->count)));
    print_y_axis(&a, options->rate > 0 ? "intended send" : "client send", out);
    print_x_axis(nines_max, out);
    print_curve(h, &a, nines_max, out);
    print_marks(h, &a, nines_max, out);
    fprintf(out, "<rect class=\"frame\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"/>\n", LEFT, TOP, RIGHT - LEFT,
            BOTTOM - TOP);
    fprintf(out, "</svg>\n");
}

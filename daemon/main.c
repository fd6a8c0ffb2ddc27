/* flashcored: wires options, engine, service, transport and loop together, and chooses the exit code. */
#include "daemon/access.h"
#include "daemon/bus_guard.h"
#include "daemon/certificates.h"
#include "daemon/deadman.h"
#include "daemon/descriptor_room.h"
#include "daemon/engine_open.h"
#include "daemon/exit.h"
#include "daemon/gpu_watch.h"
#include "daemon/heap.h"
#include "daemon/log.h"
#include "daemon/loop.h"
#include "daemon/monitor.h"
#include "daemon/nng_detour.h"
#include "daemon/nng_gap.h"
#include "daemon/nng_tls.h"
#include "daemon/notify.h"
#include "daemon/options.h"
#include "daemon/pinned_pool.h"
#include "daemon/reload.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Names that have to be resolved may take a while. */
#define OPEN_TIMEOUT_NS (30 * FC_NS_PER_S)

/* Who may come in over UNIX sockets: the options, looked up. */
typedef struct doors {
    fc_access access;
    fc_socket_owner owner;
} doors;

/* The whole process, in order of creation. */
typedef struct process {
    int argc;
    char **argv;
    fc_options options;
    uint64_t start_ns;
    fc_notify notify;
    fc_loop *loop;
    fc_opened_engine opened;
    fc_service *service;
    fc_pinned_pool *message_pool; /* NULL: none */
    fc_transport *transport;
    fc_local *local;
    fc_monitor *monitor;     /* NULL: not wanted */
    fc_admin *admin;         /* likewise */
    fc_gpu_watch *gpu_watch; /* NULL: no GPU */
    doors doors;
} process;

static fc_status reload(void *context, fc_reason *out_reason)
{
    process *p = context;
    return fc_reload(p->argc, p->argv, &p->options, p->service, p->transport, out_reason);
}

static fc_status set(void *context, const fc_wire_request *request, fc_reason *out_reason)
{
    process *p = context;
    return fc_reload_set(request, &p->options, p->service, out_reason);
}

static fc_status create_service(process *p, fc_reason *out_reason)
{
    const fc_options *o = &p->options;
    fc_service_config config = {.ops = p->opened.ops,
                                .engine = p->opened.engine,
                                .engine_config = p->opened.config,
                                .lane_count = (uint32_t)o->lane_count,
                                .message_bytes = o->message_bytes,
                                .tensor_bytes = o->tensor_bytes,
                                .tokens = o->tokens,
                                .head_dim = FC_HEAD_DIM_MAX,
                                .arena_bytes = o->arena_bytes,
                                .arena_bytes_per_peer = o->arena_bytes_per_peer,
                                .device_arena_bytes = o->device_arena_bytes,
                                .device_arena_bytes_per_peer = o->device_arena_bytes_per_peer,
                                .access = p->doors.access,
                                .tunables = fc_reload_tunables(o),
                                .on_event = fc_loop_wake,
                                .event_context = p->loop};
    (void)fc_cpu_list_parse(o->lane_cpus, &config.lane_cpus, NULL); /* looked at before */
    return fc_service_create(&config, &p->service, out_reason);
}

/* Without its side socket a listener serves all the same. */
static void listen_beside(process *p, const char *url)
{
    fc_reason why = {""};
    const char *path = NULL;
    if (strncmp(url, "ipc://", 6) != 0)
        return;
    if (fc_local_listen(p->local, url + 6, &path, &why) == FC_OK) {
        fc_transport_set_side_socket(p->transport, path);
        fc_log(FC_LOG_INFO, "listening", fc_log_text("local", path));
    } else {
        fc_log(FC_LOG_WARN, "local_unavailable", fc_log_text("url", url), fc_log_text("reason", why.text));
    }
}

/* After the transport's opening: nng has to be up. */
static fc_status take_certificates(process *p, fc_reason *out_reason)
{
    fc_tls *tls = NULL;
    fc_status st = fc_certificates_load(&p->options, &tls, out_reason);
    if (tls != NULL) {
        fc_certificates_log(tls);
        fc_nng_tls_start(tls, fc_service_stats(p->service));
    }
    return st;
}

/* Without it messages are copied once more. */
static void open_message_pool(process *p)
{
    fc_reason why = {""};
    uint64_t size_bytes = p->options.pinned_message_bytes;
    if (p->opened.info.device.engine != FC_ENGINE_CUDA || size_bytes == 0 || !fc_nng_gap_is_in_effect())
        return;
    if (fc_pinned_pool_open(p->opened.ops, p->opened.engine, size_bytes, &p->message_pool, &why) == FC_OK)
        fc_nng_detour_open(p->message_pool);
    else
        fc_log(FC_LOG_WARN, "messages_not_pinned", fc_log_text("why", why.text));
}

static fc_status open_transport(process *p, fc_reason *out_reason)
{
    const fc_options *o = &p->options;
    /* On the CPU engine it would stay awake on a core that computes. */
    bool has_gpu = p->opened.info.device.engine == FC_ENGINE_CUDA;
    fc_local_config local = {.service = p->service,
                             .socket_mode = (uint32_t)o->socket_mode,
                             .socket_owner = &p->doors.owner,
                             .spin_ns = has_gpu ? o->spin_us * FC_NS_PER_US : 0};
    fc_transport_config config = {.service = p->service,
                                  .message_bytes = o->message_bytes,
                                  .ipc_mode = (uint32_t)o->socket_mode,
                                  .ipc_owner = &p->doors.owner,
                                  .pipes_leaked_max = (uint32_t)o->leaked_pipes};
    fc_status st = fc_transport_open(&config, &p->transport, out_reason);
    if (st == FC_OK)
        st = fc_local_open(&local, &p->local, out_reason);
    if (st == FC_OK)
        st = take_certificates(p, out_reason);
    for (uint32_t i = 0; st == FC_OK && i < o->listen.count; i++) {
        char url[FC_TRANSPORT_URL_BYTES];
        st = fc_transport_listen(p->transport, o->listen.urls[i], url, out_reason);
        if (st != FC_OK)
            break;
        fc_log(FC_LOG_INFO, "listening", fc_log_text("url", url));
        listen_beside(p, o->listen.urls[i]);
    }
    if (st == FC_OK)
        st = fc_local_start(p->local, out_reason);
    return st;
}

/* Under a watch: nng 1.5 locks itself out when it lacks memory, or a socket goes wrong, while it sets itself up. */
static fc_status open_transport_watched(process *p, fc_reason *out_reason)
{
    fc_deadman *deadman = NULL;
    if (fc_deadman_start(OPEN_TIMEOUT_NS, "opening sockets takes too long", FC_EXIT_FAILURE, &deadman) != FC_OK)
        fc_log(FC_LOG_WARN, "open_unwatched", fc_log_text("why", "no thread to watch it; it may hang"));
    fc_status st = open_transport(p, out_reason);
    fc_deadman_stop(deadman);
    return st;
}

static fc_status open_monitor(process *p, fc_reason *out_reason)
{
    const fc_options *o = &p->options;
    fc_monitor_config config = {
        .service = p->service, .options = o, .engine = p->opened.ops->name, .device = p->opened.info.device_name};
    fc_reason why = {""};
    if (o->metrics[0] == '\0')
        return FC_OK;
    fc_status st = fc_monitor_open(&config, &p->monitor, &why);
    if (st != FC_OK)
        return fc_fail(st, out_reason, "metrics: %s", why.text);
    fc_log(FC_LOG_INFO, "listening", fc_log_text("metrics", fc_monitor_address(p->monitor)));
    return FC_OK;
}

static fc_status open_admin(process *p, fc_reason *out_reason)
{
    fc_reason why = {""};
    if (p->options.admin_socket[0] == '\0')
        return FC_OK;
    fc_status st = fc_admin_open(p->options.admin_socket, fc_loop_administer, p->loop, &p->admin, &why);
    if (st != FC_OK)
        return fc_fail(st, out_reason, "admin-socket: %s", why.text);
    fc_log(FC_LOG_INFO, "listening", fc_log_text("admin", p->options.admin_socket));
    return FC_OK;
}

static void log_start(process *p)
{
    const fc_options *o = &p->options;
    char kernels[FC_KERNEL_LIST_BYTES];
    fc_log(FC_LOG_INFO, "ready", fc_log_text("version", FC_VERSION), fc_log_uint("pid", (uint64_t)getpid()),
           fc_log_text("engine", p->opened.ops->name), fc_log_text("device", p->opened.info.device_name),
           fc_log_text("kernels", fc_engine_kernel_list(&p->opened.info, kernels)),
           fc_log_text("default_kernel", fc_kernel_name(o->kernel)),
           fc_log_uint("lanes", fc_stats_get(fc_service_stats(p->service), FC_GAUGE_LANES)),
           fc_log_uint("listeners", o->listen.count), fc_log_uint("message_bytes", o->message_bytes),
           fc_log_uint("tensor_bytes", o->tensor_bytes), fc_log_uint("tokens", o->tokens),
           fc_log_uint("queue_requests", o->queue_requests), fc_log_uint("queue_bytes", o->queue_bytes),
           fc_log_uint("inflight_per_peer", o->inflight_per_peer), fc_log_uint("batch_requests", o->batch_requests),
           fc_log_real("start_ms", (double)(fc_clock_now_ns() - p->start_ns) / (double)FC_NS_PER_MS));
}

static fc_exit run(process *p)
{
    fc_transport_start(p->transport);
    log_start(p);
    if (fc_notify_send(&p->notify, "READY=1\nSTATUS=serving") != FC_OK)
        fc_log(FC_LOG_WARN, "notify_failed", fc_log_text("reason", "the supervisor's socket does not take messages"));
    fc_loop_config config = {.service = p->service,
                             .transport = p->transport,
                             .local = p->local,
                             .monitor = p->monitor,
                             .gpu_watch = p->gpu_watch,
                             .notify = &p->notify,
                             .options = &p->options,
                             .reload = reload,
                             .set = set,
                             .admin = p->admin,
                             .reload_context = p};
    fc_exit code = fc_loop_run(p->loop, &config);
    if (fc_service_has_given_up(p->service)) {
        /* A thread is in a call of the driver that may never end, and may write to anything it was given: nothing is
         * taken down. */
        fc_log(FC_LOG_ERROR, "stopped", fc_log_int("exit", code), fc_log_text("why", "a launch or an arena hangs"));
        fc_exit_now(code);
    }
    return code;
}

/* Everything from the start to the end of serving. Closing goes on under a watch: nng and a broken device may hang. */
static fc_exit serve(process *p)
{
    fc_reason why = {""};
    fc_exit code = FC_EXIT_FAILURE;
    fc_deadman *deadman = NULL;
    if (fc_notify_open(&p->notify, &why) != FC_OK)
        fc_log(FC_LOG_WARN, "notify_failed", fc_log_text("reason", why.text));
    fc_status st = fc_descriptor_room_check(p->options.listen.count, &why);
    if (st == FC_OK)
        st = fc_loop_create(&p->loop, &why);
    if (st == FC_OK)
        st = fc_engine_open(&p->options, &p->opened, &why);
    if (st == FC_OK)
        st = create_service(p, &why);
    if (st == FC_OK)
        open_message_pool(p);
    if (st == FC_OK)
        st = open_transport_watched(p, &why);
    if (st == FC_OK)
        st = open_monitor(p, &why);
    if (st == FC_OK && fc_gpu_watch_start(p->opened.info.device_uuid, NULL, &p->gpu_watch) != FC_OK)
        fc_log(FC_LOG_WARN, "gpu_unwatched", fc_log_text("why", "no memory or thread for it"));
    if (st == FC_OK)
        st = open_admin(p, &why);
    if (st == FC_OK)
        code = run(p);
    else
        fc_log(FC_LOG_ERROR, "cannot_start", fc_log_text("status", fc_status_name(st)),
               fc_log_text("reason", why.text));

    if (fc_deadman_start(p->options.close_timeout_ns, "closing sockets and lanes, close-timeout passed", code,
                         &deadman) != FC_OK)
        fc_log(FC_LOG_WARN, "close_unwatched", fc_log_text("why", "no thread to watch it; it may hang"));
    /* Stopped, it still says `draining`. And it leaves the arenas of connections that end as they are: clients ask
     * others for what lies in them. */
    if (p->service != NULL)
        fc_service_stop(p->service);
    fc_local_close(p->local); /* first: clients let go of it when the connection beside it ends */
    fc_transport_close(p->transport);
    fc_nng_tls_stop();
    fc_service_destroy(p->service);
    fc_nng_detour_close();
    fc_pinned_pool_close(p->message_pool);
    if (p->opened.engine != NULL)
        p->opened.ops->close(p->opened.engine);
    fc_deadman_stop(deadman);
    fc_loop_destroy(p->loop);
    fc_gpu_watch_stop(p->gpu_watch);
    fc_monitor_close(p->monitor); /* after the loop that polls it */
    fc_admin_close(p->admin);
    fc_notify_close(&p->notify);
    fc_log(FC_LOG_INFO, "stopped", fc_log_int("exit", code));
    return code;
}

static fc_status read_doors(const fc_options *o, doors *out_doors, fc_reason *out_reason)
{
    fc_reason why = {""};
    const char *option = "allow-uid";
    fc_status st = fc_access_read_uids(o->allow_uid, &out_doors->access.uids, &why);
    if (st == FC_OK) {
        option = "allow-gid";
        st = fc_access_read_gids(o->allow_gid, &out_doors->access.gids, &why);
    }
    if (st == FC_OK) {
        option = "socket-owner, socket-group";
        st = fc_access_read_owner(o->socket_owner, o->socket_group, &out_doors->owner, &why);
    }
    return st == FC_OK ? FC_OK : fc_fail(st, out_reason, "%s: %s", option, why.text);
}

/* Options that are right one by one, and right together. */
static fc_status read_options(int argc, char **argv, fc_options *out_options, doors *out_doors, fc_reason *out_reason)
{
    fc_engine_attempt_list attempts;
    fc_cpu_list cpus;
    fc_reason why;
    fc_tls *tls = NULL;
    fc_status st = fc_options_parse(argc, argv, out_options, out_reason);
    if (st == FC_OK && fc_cpu_list_parse(out_options->lane_cpus, &cpus, &why) != FC_OK)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "lane-cpus: %s", why.text);
    if (st == FC_OK && !out_options->help && !out_options->version)
        st = fc_certificates_load(out_options, &tls, out_reason);
    fc_tls_destroy(tls);
    if (st == FC_OK && !out_options->help && !out_options->version)
        st = read_doors(out_options, out_doors, out_reason);
    return st == FC_OK ? fc_engine_attempts(out_options->engine, out_options->kernel, &attempts, out_reason) : st;
}

/* The options that ask for an answer instead of a server. */
static bool show(const fc_options *options)
{
    if (options->help) {
        fc_options_print_help(stdout);
    } else if (options->version) {
        puts("flashcored " FC_VERSION);
    } else if (options->check_config) {
        puts("# ok");
        fc_options_print_effective(stdout, options);
    } else if (options->list_kernels) {
        fc_engine_list_kernels(stdout, options);
    } else {
        return false;
    }
    return true;
}

/* Whoever starts it may have closed some of 0, 1 and 2. A socket must not take their place: log lines would go into it,
 * and libuv aborts on closing a descriptor as low as that. */
static fc_status fill_standard_descriptors(fc_reason *out_reason)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", O_RDWR) != fd)
            return fc_fail(FC_IO, out_reason,
                           "standard descriptor %d is closed, and /dev/null cannot take its place: %s", fd,
                           strerror(errno));
    }
    return FC_OK;
}

int main(int argc, char **argv)
{
    static process p = {.notify = {.fd = -1}};
    fc_reason why;
    if (fill_standard_descriptors(&why) != FC_OK) {
        fprintf(stderr, "flashcored: %s\n", why.text);
        return FC_EXIT_FAILURE;
    }
    fc_heap_setup();
    p.start_ns = fc_clock_now_ns();
    p.argc = argc;
    p.argv = argv;
    if (read_options(argc, argv, &p.options, &p.doors, &why) != FC_OK) {
        fprintf(stderr, "flashcored: %s\nflashcored --help lists the options.\n", why.text);
        return FC_EXIT_USAGE;
    }
    fc_log_start(STDERR_FILENO, p.options.log_level);
    signal(SIGPIPE, SIG_IGN);
    if (!fc_bus_guard_start())
        fc_log(FC_LOG_WARN, "arenas_unguarded", fc_log_text("why", "no handler for SIGBUS"));
    signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes: arenas are files, and too large is an error */
    return show(&p.options) ? FC_EXIT_OK : serve(&p);
}

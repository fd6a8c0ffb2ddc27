/* How the process ends. Only main exits with one of these (and deadman.c when main hangs). Any thread. */
#ifndef FC_DAEMON_EXIT_H
#define FC_DAEMON_EXIT_H

typedef enum fc_exit {
#define FC_EXIT_ROW(symbol, code, text) symbol = code,
#include "daemon/exit.def"
#undef FC_EXIT_ROW
} fc_exit;

/* Ends the process as it stands, and takes nothing down. Where the device is the reason, its driver may hold the
 * process up for as long as it likes once its files are closed, and they are closed before the sockets, as they were
 * opened: so every socket is shut first. Whoever is connected learns that it is over, after what was sent, and nobody
 * can connect to a process that will never answer. */
_Noreturn void fc_exit_now(fc_exit code);

#endif

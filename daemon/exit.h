/* How the process ends. Only main exits with one of these (and deadman.c when main hangs). */
#ifndef FC_DAEMON_EXIT_H
#define FC_DAEMON_EXIT_H

typedef enum fc_exit {
#define FC_EXIT_ROW(symbol, code, text) symbol = code,
#include "daemon/exit.def"
#undef FC_EXIT_ROW
} fc_exit;

#endif

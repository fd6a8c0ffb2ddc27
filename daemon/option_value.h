/* One option's value from text and to text, by its type. Pure functions, any thread. */
#ifndef FC_DAEMON_OPTION_VALUE_H
#define FC_DAEMON_OPTION_VALUE_H

#include "daemon/options.h"

/* Checks text against the option's type and range and writes it to field (for a list: appends). FC_INVALID_ARGUMENT
 * with "expected ..., got ..."; the field is unchanged then. */
fc_status fc_option_value_parse(const fc_option *option, const char *text, void *field, fc_reason *out_reason);

/* The field as a user would write it; of a list the index-th entry. */
void fc_option_value_format(const fc_option *option, const void *field, uint32_t index,
                            char text[FC_OPTION_VALUE_BYTES]);

/* The range or the words of the type; "" where there is nothing to say. */
void fc_option_value_range(const fc_option *option, char text[FC_OPTION_VALUE_BYTES]);

#endif

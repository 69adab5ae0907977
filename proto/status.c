/*
 * status.c - the table of outcomes.
 */
#include "proto/status.h"

#include <string.h>

#include "proto/base.h"

#define STATUS_ROW(name, code, text) {code, text},
static const struct {
    enum grpc_code code;
    const char *text;
} table[STATUS_COUNT] = {STATUS_TABLE(STATUS_ROW)};
#undef STATUS_ROW

static const char *const code_names[] = {
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
};

enum grpc_code status_code(enum status st)
{
    ASSERT(st < STATUS_COUNT);
    return table[st].code;
}

const char *status_text(enum status st)
{
    ASSERT(st < STATUS_COUNT);
    return table[st].text;
}

enum status status_of_text(const char *text)
{
    for (size_t i = 0; i < STATUS_COUNT; i++) {
        if (strcmp(table[i].text, text) == 0) {
            return (enum status)i;
        }
    }
    return STATUS_COUNT;
}

const char *grpc_code_name(int code)
{
    if (code < 0 || (size_t)code >= ARRAY_LENGTH(code_names)) {
        return "UNKNOWN";
    }
    return code_names[code];
}

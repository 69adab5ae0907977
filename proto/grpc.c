/*
 * grpc.c - message prefixes, timeouts, percent-encoding, base64.
 */
#include "proto/grpc.h"

#include <stdio.h>
#include <string.h>

void grpc_put_prefix(uint8_t *out, size_t message_bytes)
{
    ASSERT(message_bytes <= UINT32_MAX);
    out[0] = 0;
    out[1] = (uint8_t)(message_bytes >> 24);
    out[2] = (uint8_t)(message_bytes >> 16);
    out[3] = (uint8_t)(message_bytes >> 8);
    out[4] = (uint8_t)message_bytes;
}

void grpc_get_prefix(const uint8_t *in, uint8_t *flag, size_t *message_bytes)
{
    *flag = in[0];
    *message_bytes = (size_t)in[1] << 24 | (size_t)in[2] << 16 |
                     (size_t)in[3] << 8 | (size_t)in[4];
}

/* ---- grpc-timeout ---------------------------------------------------- */

static uint64_t unit_ns(uint8_t unit)
{
    switch (unit) {
    case 'H':
        return UINT64_C(3600000000000);
    case 'M':
        return UINT64_C(60000000000);
    case 'S':
        return UINT64_C(1000000000);
    case 'm':
        return UINT64_C(1000000);
    case 'u':
        return UINT64_C(1000);
    case 'n':
        return 1;
    default:
        return 0;
    }
}

bool grpc_parse_timeout(struct slice text, uint64_t *ms)
{
    uint64_t n = 0, ns;

    if (text.size < 2 || text.size > 9) {
        return false;
    }
    for (size_t i = 0; i < text.size - 1; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') {
            return false;
        }
        n = 10 * n + (uint64_t)(text.data[i] - '0');
    }
    ns = unit_ns(text.data[text.size - 1]);
    if (ns == 0) {
        return false;
    }
    /* Eight digits of hours overflow a count of nanoseconds. */
    *ms = ns >= 1000000 ? n * (ns / 1000000) : (n * ns + 999999) / 1000000;
    return true;
}

size_t grpc_format_timeout(char *out, uint64_t ms)
{
    static const struct {
        uint64_t ms;
        char unit;
    } units[] = {{1, 'm'}, {1000, 'S'}, {60000, 'M'}, {3600000, 'H'}};
    size_t i = 0;
    uint64_t n;
    int size;

    while (i + 1 < ARRAY_LENGTH(units) && ms / units[i].ms > 99999998) {
        i++;
    }
    n = ms / units[i].ms + (ms % units[i].ms != 0);
    if (n > 99999999) {
        n = 99999999;
    }
    size =
        snprintf(out, GRPC_TIMEOUT_BYTES, "%u%c", (unsigned)n, units[i].unit);
    return (size_t)size;
}

/* ---- grpc-message ---------------------------------------------------- */

size_t grpc_percent_encode(char *out, const char *text, size_t size)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t n = 0;

    for (size_t i = 0; i < size; i++) {
        uint8_t byte = (uint8_t)text[i];

        if (byte >= 0x20 && byte <= 0x7e && byte != '%') {
            out[n++] = (char)byte;
            continue;
        }
        out[n++] = '%';
        out[n++] = hex[byte >> 4];
        out[n++] = hex[byte & 15];
    }
    return n;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

size_t grpc_percent_decode(char *out, const char *text, size_t size)
{
    size_t n = 0;

    for (size_t i = 0; i < size; i++) {
        int high = -1, low = -1;

        if (text[i] == '%' && size - i > 2) {
            high = hex_value(text[i + 1]);
            low = hex_value(text[i + 2]);
        }
        if (high < 0 || low < 0) {
            out[n++] = text[i];
            continue;
        }
        out[n++] = (char)(16 * high + low);
        i += 2;
    }
    return n;
}

/* ---- base64 ---------------------------------------------------------- */

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t grpc_base64_encode(char *out, const uint8_t *data, size_t size)
{
    size_t n = 0;

    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i < 3 ? size - i : 3;
        unsigned bits = (unsigned)data[i] << 16;

        bits |= left > 1 ? (unsigned)data[i + 1] << 8 : 0;
        bits |= left > 2 ? (unsigned)data[i + 2] : 0;
        for (size_t digit = 0; digit <= left; digit++) {
            out[n++] = base64_digits[bits >> (18 - 6 * digit) & 63];
        }
    }
    return n;
}

static int base64_value(uint8_t c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool grpc_base64_decode(uint8_t *out, size_t *out_size, struct slice text)
{
    size_t n = 0, digits = text.size;
    unsigned bits = 0;

    while (digits > 0 && text.size - digits < 2 &&
           text.data[digits - 1] == '=') {
        digits--;
    }
    if (digits % 4 == 1 || (digits != text.size && text.size % 4 != 0)) {
        return false;
    }
    for (size_t i = 0; i < digits; i++) {
        int value = base64_value(text.data[i]);

        if (value < 0) {
            return false;
        }
        bits = bits << 6 | (unsigned)value;
        if (i % 4 != 0) {
            out[n++] = (uint8_t)(bits >> (6 - 2 * (i % 4)));
        }
    }
    *out_size = n;
    return true;
}

bool grpc_is_content_type(struct slice value)
{
    static const char type[] = "application/grpc";
    size_t size = sizeof(type) - 1;

    return value.size >= size && memcmp(value.data, type, size) == 0 &&
           (value.size == size || value.data[size] == '+' ||
            value.data[size] == ';');
}

/* Kafka's records to their offsets, keys and values: what libs/kafka/record_starts.py says. */

#include <stddef.h>
#include <stdint.h>

#include "view.h"

typedef struct {
    const uint8_t *body;
    const int64_t *begins;
    const int64_t *counts;
    const int64_t *base_offsets;
    int64_t batches;
} Given;

typedef struct {
    int64_t *offsets;
    int64_t *key_at, *key_length;
    View *values;
    uint8_t *has_value;
    int64_t without_value;
} Columns;

static const uint8_t *zigzag(const uint8_t *at, const uint8_t *end, int64_t *number) {
    uint64_t read = 0;
    for (int shift = 0; shift < 70 && at < end; shift += 7) {
        uint64_t octet = *at++;
        read |= (octet & 0x7F) << shift;
        if (octet < 0x80) {
            *number = (int64_t)(read >> 1 ^ (0 - (read & 1)));
            return at;
        }
    }
    return NULL;
}

/* Reads a length and the bytes it is of; a negative one is of none. */
static const uint8_t *bytes(
    const uint8_t *at, const uint8_t *end, const uint8_t **found, int64_t *length) {
    at = zigzag(at, end, length);
    if (at == NULL || *length > end - at) return NULL;
    *found = at;
    return *length > 0 ? at + *length : at;
}

static void put_value(const Given *given, Columns *to, int64_t row, const uint8_t *at, int64_t length) {
    View view = {0};
    to->has_value[row] = length >= 0;
    to->without_value += length < 0;
    view.length = length > 0 ? (int32_t)length : 0;
    if (view.length <= 12) {
        __builtin_memcpy(view.within, at, (size_t)view.length);
    } else {
        __builtin_memcpy(view.elsewhere.prefix, at, sizeof view.elsewhere.prefix);
        view.elsewhere.offset = (int32_t)(at - given->body);
    }
    to->values[row] = view;
}

static const uint8_t *record(
    const Given *given, Columns *to, int64_t row, int64_t base, const uint8_t *at, const uint8_t *end) {
    int64_t length, skipped, value_length;
    const uint8_t *key, *value;
    at = zigzag(at, end, &length);
    if (at == NULL || length < 1 || length > end - at) return NULL;
    end = at + length;
    at = zigzag(at + 1, end, &skipped);
    if (at == NULL || (at = zigzag(at, end, &skipped)) == NULL) return NULL;
    to->offsets[row] = (int64_t)((uint64_t)base + (uint64_t)skipped);
    if ((at = bytes(at, end, &key, &to->key_length[row])) == NULL) return NULL;
    to->key_at[row] = key - given->body;
    if (bytes(at, end, &value, &value_length) == NULL) return NULL;
    put_value(given, to, row, value, value_length);
    return end;
}

/* Returns how many records there are, -1 where one does not lie within its batch. */
int64_t k2_records(const Given *given, Columns *to) {
    int64_t row = 0;
    for (int64_t batch = 0; batch < given->batches; batch++) {
        const uint8_t *at = given->body + given->begins[batch];
        const uint8_t *end = given->body + given->begins[batch + 1];
        for (int64_t left = given->counts[batch]; left > 0; left--) {
            at = record(given, to, row++, given->base_offsets[batch], at, end);
            if (at == NULL) return -1;
        }
    }
    return row;
}

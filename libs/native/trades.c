/* Trades in Protobuf to Arrow's columns: what libs/wire/columns.py says of the rows it takes.

   A row is taken whole or left. What is left may be a trade all the same, written in a way that is
   not known here, or none: that is for the other path to say, with its reason. Nothing is read
   outside a value and nothing written outside the columns, whatever the bytes are. */

#include <stddef.h>
#include <stdint.h>

#include "view.h"

typedef unsigned __int128 wide;

typedef struct {
    const uint8_t *at;
    int64_t length;
} Text;

/* Texts one after the other, as Arrow has them: ends[0] is 0. */
typedef struct {
    int32_t *ends;
    uint8_t *bytes;
    int64_t count;
} Texts;

/* A column of few values: `slots` are a hash table of places among `values`, -1 where free. */
typedef struct {
    int32_t *codes;
    Text *values;
    int32_t *slots;
    int64_t slot_mask;
    int64_t count;
} Codes;

typedef struct {
    const View *views;
    const uint8_t *const *buffers;
    const uint8_t *present;
    int64_t first;
    int64_t count;
    uint8_t header[8];
    int64_t header_bytes;
    int64_t earliest_us;
    int64_t latest_receipt_us;
    int64_t day_us;
    int64_t asset_classes;
    int64_t sides;
    int64_t origins;
} Given;

typedef struct {
    int64_t *rows;
    Codes exchange, symbol, currency;
    int32_t *asset_class, *side, *origin;
    Texts trade_id;
    int64_t *source_sequence;
    uint8_t *has_sequence;
    int64_t without_sequence;
    int32_t *sequence_epoch;
    int64_t *timestamp_us, *ingest_timestamp_us;
    uint8_t *price, *quantity, *notional;
    int32_t *conditions_ends;
    Texts conditions;
    int32_t *vendor_ends;
    Texts vendor_keys, vendor_values;
    int64_t most_entries;
} Columns;

typedef struct {
    Text exchange, symbol, trade_id, price, quantity, currency;
    uint64_t asset_class, side, origin, sequence, epoch, timestamp_us, ingest_timestamp_us;
    int has_sequence;
} Trade;

enum { MOST_VENDOR_KEYS = 16, VARINT = 0, TEXT = 2 };

#define TAG(number, kind) ((number) << 3 | (kind))

static const uint64_t ONE = 1000000000000;
static const uint64_t MILLION = 1000000;
static const uint64_t POWERS[] = {
    1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000, 10000000000,
    100000000000, 1000000000000};

/* Reads a varint; returns what follows it, NULL where it is cut off or wider than 64 bits. */
static const uint8_t *varint(const uint8_t *at, const uint8_t *end, uint64_t *number) {
    uint64_t read = 0;
    for (int shift = 0; shift < 70 && at < end; shift += 7) {
        uint64_t octet = *at++;
        if (shift == 63 && octet > 1) return NULL;
        read |= (octet & 0x7F) << shift;
        if (octet < 0x80) {
            *number = read;
            return at;
        }
    }
    return NULL;
}

static const uint8_t *text(const uint8_t *at, const uint8_t *end, Text *found) {
    uint64_t length;
    at = varint(at, end, &length);
    if (at == NULL || length > (uint64_t)(end - at)) return NULL;
    found->at = at;
    found->length = (int64_t)length;
    return at + length;
}

/* Reads a text of which there is one at most: what another takes the place of is looked at too. */
static const uint8_t *only_text(const uint8_t *at, const uint8_t *end, Text *found) {
    return found->at == NULL ? text(at, end, found) : NULL;
}

/* Whether text is ASCII: all else is somebody else's to check. */
static int is_plain(Text found) {
    uint8_t seen = 0;
    for (int64_t i = 0; i < found.length; i++) seen |= found.at[i];
    return seen < 0x80;
}

static int is_same(Text a, Text b) {
    return a.length == b.length && __builtin_memcmp(a.at, b.at, (size_t)a.length) == 0;
}

static int add(Texts *texts, Text found) {
    if (!is_plain(found)) return 0;
    int32_t start = texts->ends[texts->count];
    __builtin_memcpy(texts->bytes + start, found.at, (size_t)found.length);
    texts->ends[++texts->count] = start + (int32_t)found.length;
    return 1;
}

static int add_condition(Columns *to, Text found) {
    return to->conditions.count < to->most_entries && add(&to->conditions, found);
}

/* An entry as every encoder writes it: key, value, each once. A repeated key is left. */
static int add_entry(Columns *to, Text entry, Text *keys, int64_t held) {
    const uint8_t *at = entry.at, *end = entry.at + entry.length;
    Text value;
    if (held == MOST_VENDOR_KEYS || to->vendor_keys.count == to->most_entries) return 0;
    if (at == end || *at != TAG(1, TEXT) || (at = text(at + 1, end, &keys[held])) == NULL) return 0;
    if (at == end || *at != TAG(2, TEXT) || text(at + 1, end, &value) != end) return 0;
    for (int64_t i = 0; i < held; i++)
        if (is_same(keys[i], keys[held])) return 0;
    return add(&to->vendor_keys, keys[held]) && add(&to->vendor_values, value);
}

/* Reads every field, the last of a varint winning; 0 where one is not known here. */
static int parsed(const uint8_t *at, const uint8_t *end, Trade *trade, Columns *to) {
    Text keys[MOST_VENDOR_KEYS], found;
    int64_t held = 0;
    while (at != NULL && at < end) {
        switch (*at++) {
            case TAG(1, TEXT): at = only_text(at, end, &trade->exchange); break;
            case TAG(2, VARINT): at = varint(at, end, &trade->asset_class); break;
            case TAG(3, TEXT): at = only_text(at, end, &trade->symbol); break;
            case TAG(4, TEXT): at = only_text(at, end, &trade->trade_id); break;
            case TAG(5, VARINT):
                at = varint(at, end, &trade->sequence);
                trade->has_sequence = 1;
                break;
            case TAG(6, VARINT): at = varint(at, end, &trade->epoch); break;
            case TAG(7, VARINT): at = varint(at, end, &trade->timestamp_us); break;
            case TAG(8, VARINT): at = varint(at, end, &trade->ingest_timestamp_us); break;
            case TAG(9, TEXT): at = only_text(at, end, &trade->price); break;
            case TAG(10, TEXT): at = only_text(at, end, &trade->quantity); break;
            case TAG(11, TEXT): at = only_text(at, end, &trade->currency); break;
            case TAG(12, VARINT): at = varint(at, end, &trade->side); break;
            case TAG(13, TEXT):
                at = text(at, end, &found);
                if (at == NULL || !add_condition(to, found)) return 0;
                break;
            case TAG(14, VARINT): at = varint(at, end, &trade->origin); break;
            case TAG(15, TEXT):
                at = text(at, end, &found);
                if (at == NULL || !add_entry(to, found, keys, held++)) return 0;
                break;
            default: return 0;
        }
    }
    return at == end;
}

/* Reads digits, at most `most`; returns how many. */
static int64_t digits(const uint8_t *at, const uint8_t *end, int64_t most, uint64_t *number) {
    const uint8_t *start = at;
    uint64_t read = 0;
    if (end - at > most) end = at + most;
    for (; at < end && (uint8_t)(*at - '0') < 10; at++) read = read * 10 + (uint64_t)(*at - '0');
    *number = read;
    return at - start;
}

/* Reads 1 to 16 digits, then a point and 1 to 12 where there is one; 0 where it is not above 0. */
static int above_zero(Text found, wide *number) {
    const uint8_t *at = found.at, *end = found.at + found.length;
    uint64_t whole, rest = 0;
    int64_t count = digits(at, end, 16, &whole);
    if (count == 0) return 0;
    at += count;
    if (at < end) {
        if (*at++ != '.') return 0;
        count = digits(at, end, 12, &rest);
        if (count == 0 || at + count != end) return 0;
        rest *= POWERS[12 - count];
    }
    *number = (wide)whole * ONE + rest;
    return *number != 0;
}

/* Divides by a million in place, 32 bits at a time, and returns the rest. */
static uint64_t divide(uint32_t number[4]) {
    uint64_t rest = 0;
    for (int i = 3; i >= 0; i--) {
        rest = rest << 32 | number[i];
        number[i] = (uint32_t)(rest / MILLION);
        rest %= MILLION;
    }
    return rest;
}

static wide rounded(wide whole, uint64_t rest) {
    return whole + (rest > ONE / 2 || (rest == ONE / 2 && (whole & 1)));
}

/* Long multiplication in base 10^6 of numbers below 2^62. */
static wide multiplied_narrow(uint64_t price, uint64_t quantity) {
    uint64_t a = price / MILLION, b = price % MILLION;
    uint64_t c = quantity / MILLION, d = quantity % MILLION;
    uint64_t low = b * d, middle = a * d + b * c + low / MILLION;
    return rounded((wide)a * c + middle / MILLION, middle % MILLION * MILLION + low % MILLION);
}

/* Price times quantity in units of 10^-12, rounded half to even; 0 where 128 bits are too few. */
static int multiplied(wide price, wide quantity, wide *product) {
    wide exact, whole = 0;
    uint32_t words[4];
    if ((price | quantity) >> 62 == 0) {
        *product = multiplied_narrow((uint64_t)price, (uint64_t)quantity);
        return 1;
    }
    if (__builtin_mul_overflow(price, quantity, &exact)) return 0;
    for (int i = 0; i < 4; i++) words[i] = (uint32_t)(exact >> (32 * i));
    uint64_t low = divide(words), high = divide(words);
    for (int i = 3; i >= 0; i--) whole = whole << 32 | words[i];
    *product = rounded(whole, high * MILLION + low);
    return 1;
}

/* Puts a number where it belongs, which need not be aligned. */
static void put_wide(uint8_t *column, int64_t row, wide number) {
    __builtin_memcpy(column + row * (int64_t)sizeof number, &number, sizeof number);
}

static int put_numbers(const Trade *trade, Columns *to, int64_t row) {
    wide price, quantity, product;
    if (!above_zero(trade->price, &price) || !above_zero(trade->quantity, &quantity)) return 0;
    if (to->notional != NULL) {
        if (!multiplied(price, quantity, &product)) return 0;
        put_wide(to->notional, row, product);
    }
    put_wide(to->price, row, price);
    put_wide(to->quantity, row, quantity);
    return 1;
}

static void put_code(Codes *codes, int64_t row, Text found) {
    if (row > 0 && is_same(codes->values[codes->codes[row - 1]], found)) {
        codes->codes[row] = codes->codes[row - 1];
        return;
    }
    uint64_t hash = 14695981039346656037u;
    for (int64_t i = 0; i < found.length; i++) hash = (hash ^ found.at[i]) * 1099511628211u;
    int64_t slot = (int64_t)(hash ^ hash >> 32) & codes->slot_mask;
    while (codes->slots[slot] >= 0 && !is_same(codes->values[codes->slots[slot]], found))
        slot = (slot + 1) & codes->slot_mask;
    if (codes->slots[slot] < 0) {
        codes->values[codes->count] = found;
        codes->slots[slot] = (int32_t)codes->count++;
    }
    codes->codes[row] = codes->slots[slot];
}

static int is_required(Text found) {
    return found.length > 0 && is_plain(found);
}

static int is_possible(const Given *given, const Trade *trade) {
    int64_t received_us = (int64_t)trade->ingest_timestamp_us;
    int64_t traded_us = (int64_t)trade->timestamp_us;
    return given->earliest_us <= received_us && received_us < given->latest_receipt_us &&
           given->earliest_us <= traded_us && traded_us - given->day_us <= received_us;
}

static int is_named(const Given *given, const Trade *trade) {
    return trade->asset_class - 1 < (uint64_t)given->asset_classes &&
           trade->side < (uint64_t)given->sides && trade->origin - 1 < (uint64_t)given->origins;
}

/* Puts a trade into every column, or is done with it before anything of it counts. */
static int put(const Given *given, const Trade *trade, Columns *to, int64_t row) {
    int64_t epoch = (int64_t)trade->epoch;
    if (!is_named(given, trade) || !is_possible(given, trade)) return 0;
    if (epoch != (int32_t)epoch || trade->trade_id.length == 0) return 0;
    if (!is_required(trade->exchange) || !is_required(trade->symbol)) return 0;
    if (!is_required(trade->currency)) return 0;
    if (!put_numbers(trade, to, row) || !add(&to->trade_id, trade->trade_id)) return 0;
    put_code(&to->exchange, row, trade->exchange);
    put_code(&to->symbol, row, trade->symbol);
    put_code(&to->currency, row, trade->currency);
    to->asset_class[row] = (int32_t)trade->asset_class - 1;
    to->side[row] = (int32_t)trade->side;
    to->origin[row] = (int32_t)trade->origin - 1;
    to->source_sequence[row] = (int64_t)trade->sequence;
    to->has_sequence[row] = (uint8_t)trade->has_sequence;
    to->without_sequence += !trade->has_sequence;
    to->sequence_epoch[row] = (int32_t)epoch;
    to->timestamp_us[row] = (int64_t)trade->timestamp_us;
    to->ingest_timestamp_us[row] = (int64_t)trade->ingest_timestamp_us;
    to->conditions_ends[row + 1] = (int32_t)to->conditions.count;
    to->vendor_ends[row + 1] = (int32_t)to->vendor_keys.count;
    return 1;
}

/* Finds the n-th value's payload, behind the one header that is looked for. */
static int payload(const Given *given, int64_t row, Text *found) {
    int64_t at = given->first + row;
    const View *view = &given->views[at];
    if (given->present != NULL && !(given->present[at >> 3] >> (at & 7) & 1)) return 0;
    if (view->length < given->header_bytes) return 0;
    const uint8_t *value = view->length <= 12
                               ? view->within
                               : given->buffers[view->elsewhere.buffer] + view->elsewhere.offset;
    found->at = value + given->header_bytes;
    found->length = view->length - given->header_bytes;
    return __builtin_memcmp(value, given->header, (size_t)given->header_bytes) == 0;
}

/* Takes what rows it can, in order; returns how many, and which in `rows`. */
int64_t k2_trades(const Given *given, Columns *to) {
    int64_t taken = 0;
    for (int64_t row = 0; row < given->count; row++) {
        Text message;
        Trade trade = {0};
        int64_t conditions = to->conditions.count, entries = to->vendor_keys.count;
        if (payload(given, row, &message) &&
            parsed(message.at, message.at + message.length, &trade, to) &&
            put(given, &trade, to, taken)) {
            to->rows[taken++] = row;
            continue;
        }
        to->conditions.count = conditions;
        to->vendor_keys.count = to->vendor_values.count = entries;
    }
    return taken;
}

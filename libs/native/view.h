#ifndef K2_VIEW_H
#define K2_VIEW_H

#include <stdint.h>

/* One value of Arrow's binary_view. */
typedef struct {
    int32_t length;
    union {
        uint8_t within[12];
        struct {
            uint8_t prefix[4];
            int32_t buffer;
            int32_t offset;
        } elsewhere;
    };
} View;

#endif

"""How large a message may be, at either end, and what suits those that are small."""

from __future__ import annotations

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
SIZE_OPTIONS = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
)
# gRPC sends a ping for what it has read, to measure the bandwidth and widen its window by it. Where
# streams carry a small message now and then that doubles the packets, and widens nothing.
TRICKLE_OPTIONS = (("grpc.http2.bdp_probe", 0),)

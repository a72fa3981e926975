"""How large a message may be, at either end."""

from __future__ import annotations

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
SIZE_OPTIONS = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
)

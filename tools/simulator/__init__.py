"""A simulated Binance spot exchange, over real WebSocket and HTTP."""

"""The original's HTTP, WebSocket and SSE interface, frozen: change it only for compatibility."""

"""Ollama's native API: what its clients send, and the answers they know."""

"""Floor 8: the server. One chat core, many dialects; nothing here knows how a token is made."""

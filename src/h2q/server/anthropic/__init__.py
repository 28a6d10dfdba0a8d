"""The dialect of Anthropic."""

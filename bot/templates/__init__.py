"""Jinja templates of what we publish, and the filters that make any value safe to print in Markdown."""

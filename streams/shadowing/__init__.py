"""Shadowing: a challenger scores what was served, off the consumers' path."""

"""Pages that say how a pipeline's versions do: one self-contained HTML file, or pictures."""

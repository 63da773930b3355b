"""What operators ask of a running pipeline."""

"""Feature state in Redis or Valkey."""

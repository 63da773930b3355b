"""Kafka clients, topics, reading and offsets: all that speaks to aiokafka outside the engine."""

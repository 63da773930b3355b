"""The embedded stack: Apache Kafka, Triton and Valkey as child processes, from packages alone."""

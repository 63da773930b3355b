"""Faust at batch speed: the only package that knows the inside of Faust and aiokafka."""

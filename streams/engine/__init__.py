"""The engine: Faust at batch speed. Only wiring imports it, and only it imports Faust."""

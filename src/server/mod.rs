//! Wiring, listeners, TLS, telemetry, shutdown order, real clock and randomness.

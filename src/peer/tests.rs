//! Keys through a simulated network.

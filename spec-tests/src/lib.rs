//! Black-box tests of Lockstep by specification section, with real clients, and its benchmarks.

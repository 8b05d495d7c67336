//! The vocabulary: positions, lanes, facts, readers, ids, and the clock and randomness ports.

//! Ordered tables, typed keys, atomic batches; three engines behind one trait.

//! Routes, extractors, error rendering, rate limits.

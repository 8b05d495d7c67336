//! Stored rooms, read-only: events, heads, state lookups and differences, timeline pages.

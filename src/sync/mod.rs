//! Renders pages of the log for clients: sync v3.

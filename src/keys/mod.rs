//! Canonical JSON, our signing key, signing and checking of events.

//! The configuration tree; its doc comments are the manual.

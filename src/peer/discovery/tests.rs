//! Discovery by table.

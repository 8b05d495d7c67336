//! The committer, lanes, registers, subscriptions, cursors, pages, and the switchboard.

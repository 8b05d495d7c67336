//! Push-rule evaluation and unread counts, both as folds over a lane.

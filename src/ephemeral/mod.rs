//! Typing, receipts, presence: which fact, which lane, when.

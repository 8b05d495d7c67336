//! Pure room logic without I/O: parse, build, judge, resolve, state snapshots.

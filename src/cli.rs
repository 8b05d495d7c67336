//! Arguments, exit codes, subcommands.

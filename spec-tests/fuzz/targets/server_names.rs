//! See `lockstep_fuzz::server_names`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lockstep_fuzz::server_names(data));

//! See `lockstep_fuzz::sync`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lockstep_fuzz::sync(data));

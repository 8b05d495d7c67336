//! See `lockstep_fuzz::response`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lockstep_fuzz::response(data));

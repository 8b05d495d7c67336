//! See `lockstep_fuzz::x_matrix`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lockstep_fuzz::x_matrix(data));

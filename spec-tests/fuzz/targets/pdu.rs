//! See `lockstep_fuzz::pdu`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lockstep_fuzz::pdu(data));

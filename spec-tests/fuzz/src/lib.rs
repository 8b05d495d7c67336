//! What is fuzzed; the test `fuzz_seeds` runs the same without a fuzzer.

mod checks;

/// See [`checks::pdu`].
pub fn pdu(data: &[u8]) {
    checks::pdu(data);
}

/// See [`checks::sync`].
pub fn sync(data: &[u8]) {
    checks::sync(data);
}

/// See [`checks::ids`].
pub fn ids(data: &[u8]) {
    checks::ids(data);
}

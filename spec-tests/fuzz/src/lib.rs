//! What is fuzzed; the test `fuzz_seeds` runs the same without a fuzzer.

mod checks;
mod federation;

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

/// See [`federation::transaction`].
pub fn transaction(data: &[u8]) {
    federation::transaction(data);
}

/// See [`federation::response`].
pub fn response(data: &[u8]) {
    federation::response(data);
}

/// See [`federation::x_matrix`].
pub fn x_matrix(data: &[u8]) {
    federation::x_matrix(data);
}

/// See [`federation::server_names`].
pub fn server_names(data: &[u8]) {
    federation::server_names(data);
}

//! A fingerprint of a set of rows that does not depend on their order, and the checksum of a row.
//!
//! Every engine and every dump computes the same fingerprint for the same content, so that "is this
//! store that store" is one comparison. It finds damage; it is no defence against forgers.

/// How many rows there are, and the wrapping sum of their hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// Number of rows.
    pub count: u64,
    /// Wrapping sum of the rows' hashes.
    pub sum: u64,
}

impl Digest {
    /// Counts a row in.
    pub fn add(&mut self, key: &[u8], checksum: u32) {
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(row_hash(key, checksum));
    }

    /// Counts a row out that was counted in before.
    pub fn remove(&mut self, key: &[u8], checksum: u32) {
        self.count = self.count.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(row_hash(key, checksum));
    }
}

/// CRC-32 over key and value.
#[must_use]
pub(crate) fn checksum(key: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(value);
    hasher.finalize()
}

fn row_hash(key: &[u8], checksum: u32) -> u64 {
    // The key's own checksum tells apart rows that differ only in where the key ends.
    let mut x = u64::from(checksum) << 32 | u64::from(crc32fast::hash(key));
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter_and_removal_undoes() {
        let rows: [(&[u8], &[u8]); 3] = [(b"a", b"1"), (b"b", b"2"), (b"a1", b"")];
        let mut one = Digest::default();
        let mut two = Digest::default();
        rows.iter().for_each(|(key, value)| one.add(key, checksum(key, value)));
        rows.iter().rev().for_each(|(key, value)| two.add(key, checksum(key, value)));
        assert_eq!(one, two);
        two.remove(b"a1", checksum(b"a1", b""));
        assert_ne!(one.sum, two.sum, "`a` = 1 and `a1` = nothing are different rows");
        assert_eq!(two.count, 2);
    }
}

//! Ranges of IP addresses, written as `ADDRESS/BITS`.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A range of addresses. IPv4 is a part of IPv6 here (`::ffff:0:0/96`), so that no address has two forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpRange {
    first: IpAddr,
    bits: u8,
}

impl IpRange {
    /// The addresses that share the first `bits` bits of `first`.
    #[must_use]
    pub const fn new(first: IpAddr, bits: u8) -> Self {
        Self { first, bits }
    }

    /// Whether `ip` lies within.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.first, ip.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(ip)) => {
                same(first.to_bits().into(), ip.to_bits().into(), 32, self.bits)
            }
            (IpAddr::V6(first), IpAddr::V6(ip)) => same(first.to_bits(), ip.to_bits(), 128, self.bits),
            _ => false,
        }
    }
}

fn same(a: u128, b: u128, width: u8, bits: u8) -> bool {
    let dropped = u32::from(width.saturating_sub(bits));
    (a ^ b).checked_shr(dropped).unwrap_or(0) == 0
}

impl FromStr for IpRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("`{text}` is no `ADDRESS/BITS`");
        let (address, bits) = match text.trim().split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| wrong())?)),
            None => (text.trim(), None),
        };
        let first: IpAddr = address.parse().map_err(|_| wrong())?;
        let width = if first.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(width);
        if bits > width {
            return Err(wrong());
        }
        Ok(match first {
            IpAddr::V6(v6) => match (v6.to_ipv4_mapped(), bits.checked_sub(96)) {
                (Some(v4), Some(bits)) => Self::new(v4.into(), bits),
                _ => Self::new(first, bits),
            },
            IpAddr::V4(_) => Self::new(first, bits),
        })
    }
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

impl Serialize for IpRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for IpRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The IPv4 address that a translator reaches under an IPv6 address of `64:ff9b::/96`.
///
/// RFC 6052
#[must_use]
pub fn translated(ip: Ipv6Addr) -> Option<IpAddr> {
    let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = ip.segments() else { return None };
    Some(std::net::Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low)).into())
}

#[cfg(test)]
mod tests {
    use super::IpRange;

    #[track_caller]
    fn check(range: &str, ip: &str, expected: bool) {
        let range: IpRange = range.parse().unwrap();
        assert_eq!(range.contains(ip.parse().unwrap()), expected, "{range} {ip}");
    }

    #[test]
    fn ranges_contain_what_they_say() {
        check("10.0.0.0/8", "10.255.0.1", true);
        check("10.0.0.0/8", "11.0.0.0", false);
        check("10.0.0.0/8", "::ffff:10.1.2.3", true);
        check("::ffff:10.0.0.0/104", "10.1.2.3", true);
        check("127.0.0.1", "127.0.0.1", true);
        check("127.0.0.1", "127.0.0.2", false);
        check("0.0.0.0/0", "1.2.3.4", true);
        check("0.0.0.0/0", "2a00::1", false);
        check("::/0", "2a00::1", true);
        check("fc00::/7", "fdff::1", true);
        check("fc00::/7", "fe00::1", false);
        check("::1/128", "::1", true);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "a/8", "10.0.0.0/-1", "10.0.0.0/8/8"] {
            assert!(text.parse::<IpRange>().is_err(), "{text}");
        }
    }
}

//! Which addresses this server connects to.
//!
//! Names of servers come from strangers, so a name may lead anywhere: into the network of the operator, to the
//! machine itself, to a cloud's metadata. What a name resolves to is judged at every connection, after the
//! look-up and before the first packet, and the connection goes to the address that was judged.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::types::{IpRange, translated};

/// IPv4 ranges that are no public servers (IANA special-purpose registry, multicast, reserved).
const SPECIAL_V4: [IpRange; 15] = [
    v4([0, 0, 0, 0], 8),
    v4([10, 0, 0, 0], 8),
    v4([100, 64, 0, 0], 10),
    v4([127, 0, 0, 0], 8),
    v4([169, 254, 0, 0], 16),
    v4([172, 16, 0, 0], 12),
    v4([192, 0, 0, 0], 24),
    v4([192, 0, 2, 0], 24),
    v4([192, 88, 99, 0], 24),
    v4([192, 168, 0, 0], 16),
    v4([198, 18, 0, 0], 15),
    v4([198, 51, 100, 0], 24),
    v4([203, 0, 113, 0], 24),
    v4([224, 0, 0, 0], 4),
    v4([240, 0, 0, 0], 4),
];

/// The part of IPv6 that is given out to the public, and what in it is special: Teredo and its like, 6to4,
/// documentation. Everything outside of it is local, multicast or not in use.
const PUBLIC_V6: IpRange = v6([0x2000, 0], 3);
const SPECIAL_V6: [IpRange; 4] =
    [v6([0x2001, 0], 23), v6([0x2001, 0xdb8], 32), v6([0x2002, 0], 16), v6([0x3fff, 0], 20)];

const fn v4(octets: [u8; 4], bits: u8) -> IpRange {
    IpRange::new(IpAddr::V4(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3])), bits)
}

const fn v6(segments: [u16; 2], bits: u8) -> IpRange {
    IpRange::new(IpAddr::V6(Ipv6Addr::new(segments[0], segments[1], 0, 0, 0, 0, 0, 0)), bits)
}

/// Judges addresses.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    /// Admitted whatever else is said.
    pub allow: Vec<IpRange>,
    /// Not admitted, though public.
    pub deny: Vec<IpRange>,
}

impl Gate {
    /// Admits everything.
    #[must_use]
    pub fn open() -> Self {
        let all = |ip: IpAddr| IpRange::new(ip, 0);
        let allow = vec![all(Ipv4Addr::UNSPECIFIED.into()), all(Ipv6Addr::UNSPECIFIED.into())];
        Self { allow, deny: Vec::new() }
    }

    /// Whether this server may connect to `ip`.
    #[must_use]
    pub fn admits(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let within = |ranges: &[IpRange]| ranges.iter().any(|range| range.contains(ip));
        if within(&self.allow) {
            return true;
        }
        if within(&self.deny) {
            return false;
        }
        match ip {
            IpAddr::V4(_) => !within(&SPECIAL_V4),
            IpAddr::V6(v6) => match translated(v6) {
                Some(v4) => self.admits(v4),
                None => PUBLIC_V6.contains(ip) && !within(&SPECIAL_V6),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Gate;

    #[track_caller]
    fn check(gate: &Gate, expected: bool, addresses: &[&str]) {
        for ip in addresses {
            assert_eq!(gate.admits(ip.parse().unwrap()), expected, "{ip}");
        }
    }

    /// Rows 4.1, 4.3 and 4.5 of the list of known vulnerabilities: every special range, in every disguise.
    #[test]
    fn special_addresses_are_not_connected_to() {
        let gate = Gate::default();
        check(&gate, false, &["0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.9.9.9"]);
        check(&gate, false, &["169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1"]);
        check(&gate, false, &["192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1"]);
        check(&gate, false, &["224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "192.88.99.1"]);
        check(&gate, false, &["::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254"]);
        check(&gate, false, &["::127.0.0.1", "::10.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe"]);
        check(
            &gate,
            false,
            &["64:ff9b:1::1", "100::1", "2001::1", "2001:10::1", "2001:db8::1", "2002:7f00:1::"],
        );
        check(&gate, false, &["fc00::1", "fd12::1", "fe80::1", "fec0::1", "ff02::1", "3fff::1", "4000::1"]);
        check(&gate, true, &["1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "192.0.1.1", "198.20.0.1"]);
        check(&gate, true, &["2a00:1450::1", "2606:4700::1", "::ffff:1.1.1.1", "64:ff9b::8.8.8.8"]);
    }

    #[test]
    fn an_open_gate_admits_everything() {
        check(
            &Gate::open(),
            true,
            &["127.0.0.1", "::1", "169.254.169.254", "8.8.8.8", "fe80::1", "64:ff9b::1"],
        );
    }

    #[test]
    fn what_is_allowed_by_name_wins_over_what_is_denied() {
        let range = |text: &str| vec![text.parse().unwrap()];
        let gate = Gate { allow: range("127.0.0.0/8"), deny: range("8.0.0.0/8") };
        check(&gate, true, &["127.0.0.1", "::ffff:127.0.0.1", "9.9.9.9"]);
        check(&gate, false, &["8.8.8.8", "::1", "10.0.0.1", "::ffff:8.8.8.8"]);
    }
}

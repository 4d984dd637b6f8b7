//! Networks of IP addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network, such as `10.0.0.0/8` or `2001:db8::/32`; a single address is one, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network {
    first: IpAddr,
    prefix: u8,
}

impl Network {
    /// Reads a network. Bits beyond its prefix may be set, and do not count. One of IPv4 that is written as IPv6
    /// (`::ffff:10.0.0.0/104`) is one of IPv4, as the addresses in it are. The error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a network such as 10.0.0.0/8 or 2001:db8::/32");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(prefix) if prefix.bytes().all(|b| b.is_ascii_digit()) => prefix.parse().map_err(|_| wrong())?,
            Some(_) => return Err(wrong()),
        };
        if prefix > bits {
            return Err(wrong());
        }
        let first = cut(address, prefix);
        match first.to_canonical() {
            IpAddr::V4(v4) if bits == 128 && prefix >= MAPPED => {
                Ok(Network { first: v4.into(), prefix: prefix - MAPPED })
            }
            _ => Ok(Network { first, prefix }),
        }
    }

    /// Whether the address is in the network. An IPv4 address written as IPv6 (`::ffff:10.0.0.1`) is one of IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && cut(address, self.prefix) == self.first
    }

    /// How many leading bits the addresses share.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The first of its addresses.
    pub fn first(&self) -> IpAddr {
        self.first
    }
}

/// Bits of IPv6 before those of an address of IPv4.
const MAPPED: u8 = 96;

/// The address without its bits beyond the prefix.
fn cut(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & u32::MAX.unbounded_shl(32 - u32::from(prefix))).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & u128::MAX.unbounded_shl(128 - u32::from(prefix))).into(),
    }
}

/// The address that a text is; none if it is none.
pub fn parse_address(text: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_in_a_network_if_its_first_bits_are() {
        for (network, address, expected) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.1.2.3/8", "10.9.9.9", true),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "::1", false),
            ("192.168.1.7", "192.168.1.7", true),
            ("192.168.1.7", "192.168.1.6", false),
            ("2001:db8::/33", "2001:db8:7fff::", true),
            ("2001:db8::/33", "2001:db8:8000::", false),
            ("::/0", "2001::", true),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("::ffff:10.0.0.0/104", "10.255.0.1", true),
            ("::ffff:10.0.0.0/104", "::ffff:10.255.0.1", true),
            ("::ffff:10.0.0.0/104", "11.0.0.1", false),
            ("::ffff:192.168.1.7", "192.168.1.7", true),
            ("::ffff:0:0/96", "1.2.3.4", true),
            ("::ffff:0:0/96", "2001::", false),
            ("::/0", "1.2.3.4", false),
        ] {
            let network = Network::parse(network).unwrap();
            assert_eq!(network.contains(parse_address(address.as_bytes()).unwrap()), expected, "{network:?} {address}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/+8", "10.0.0.0/", "a/8", "10.0.0.0/8/8"] {
            let error = Network::parse(text).unwrap_err();
            assert_eq!(error, format!("`{text}` is not a network such as 10.0.0.0/8 or 2001:db8::/32"));
        }
    }
}

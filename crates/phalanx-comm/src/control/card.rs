//! Where a rank can be reached: its host, and a port at one of several addresses.

use super::error::ControlError;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;

/// The most addresses of a card: more are of no use to anybody.
const MAX_ADDRESSES: usize = 16;

/// The most bytes of a host's name.
const MAX_HOST: usize = 255;

/// Where a rank can be reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Card {
    /// The name of its host.
    pub host: Arc<str>,
    /// The port of its control channel.
    pub port: u16,
    /// The addresses of its host, those of other machines' networks first.
    pub addresses: Vec<IpAddr>,
}

impl Card {
    /// The bytes that travel to the other ranks.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.port.to_le_bytes().to_vec();
        let addresses = &self.addresses[..self.addresses.len().min(MAX_ADDRESSES)];
        bytes.push(u8::try_from(addresses.len()).unwrap_or(0));
        for address in addresses {
            let v6 = match address {
                IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                IpAddr::V6(v6) => *v6,
            };
            bytes.extend_from_slice(&v6.octets());
        }
        let cut = (0..=self.host.len().min(MAX_HOST)).rev().find(|at| self.host.is_char_boundary(*at));
        bytes.extend_from_slice(&self.host.as_bytes()[..cut.unwrap_or(0)]);
        bytes
    }

    /// Reads a card of another rank; `None` if it is none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (port, bytes) = bytes.split_first_chunk()?;
        let (count, mut bytes) = bytes.split_first()?;
        let mut addresses = Vec::new();
        for _ in 0..*count {
            let (octets, rest) = bytes.split_first_chunk::<16>()?;
            addresses.push(IpAddr::from(Ipv6Addr::from(*octets)).to_canonical());
            bytes = rest;
        }
        let is_sound = addresses.len() <= MAX_ADDRESSES && bytes.len() <= MAX_HOST;
        let host = std::str::from_utf8(bytes).ok().filter(|_| is_sound)?.into();
        Some(Self { host, port: u16::from_le_bytes(*port), addresses })
    }

    /// Where a rank on `host` should look for this one: on its own host by the loopback first.
    pub(super) fn places(&self, host: &str) -> Vec<SocketAddr> {
        let loopback = (*self.host == *host).then_some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let all = loopback.into_iter().chain(self.addresses.iter().copied());
        all.map(|address| SocketAddr::new(address, self.port)).collect()
    }
}

/// A port that is open, before the other ranks know it.
#[derive(Debug)]
pub struct Port {
    pub(super) listener: TcpListener,
    card: Card,
}

impl Port {
    /// Opens a port on every address of this host.
    ///
    /// # Errors
    /// [`ControlError::Io`] when the system gives none.
    pub fn open(host: &str) -> Result<Self, ControlError> {
        let any =
            [SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)), SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))];
        Self::at(host, &any, own_addresses())
    }

    /// Opens a port on the loopback only: for ranks of one host.
    ///
    /// # Errors
    /// [`ControlError::Io`] when the system gives none.
    pub fn local(host: &str) -> Result<Self, ControlError> {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Self::at(host, &[SocketAddr::new(loopback, 0)], vec![loopback])
    }

    fn at(host: &str, at: &[SocketAddr], addresses: Vec<IpAddr>) -> Result<Self, ControlError> {
        let listener = TcpListener::bind(at).map_err(ControlError::io("open a port"))?;
        listener.set_nonblocking(true).map_err(ControlError::io("open a port"))?;
        let port = listener.local_addr().map_err(ControlError::io("open a port"))?.port();
        Ok(Self { listener, card: Card { host: host.into(), port, addresses } })
    }

    /// Where this rank can be reached.
    pub const fn card(&self) -> &Card {
        &self.card
    }
}

/// The addresses of this host, as its kernel lists them; the loopback's if there are no others.
fn own_addresses() -> Vec<IpAddr> {
    // a system without these files tells nothing, and ranks of one host still find each other
    let v4 = fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let v6 = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let v4 = local_v4(&v4).into_iter().map(IpAddr::V4);
    let v6 = global_v6(&v6).into_iter().map(IpAddr::V6);
    let mut addresses: Vec<_> = v4.chain(v6).filter(|address| !address.is_loopback()).collect();
    if addresses.is_empty() {
        addresses.push(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    addresses.truncate(MAX_ADDRESSES);
    addresses
}

/// The addresses that a routing table calls local: `|-- 10.0.0.1`, and below it `/32 host LOCAL`.
fn local_v4(table: &str) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    let mut latest = None;
    for line in table.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            latest = address.parse().ok();
        } else if line.starts_with("/32 host LOCAL") {
            found.extend(latest.filter(|address| !found.contains(address)));
        }
    }
    found
}

/// The addresses of global scope in a list of `address index length scope flags name`, all in hexadecimal.
fn global_v6(list: &str) -> Vec<Ipv6Addr> {
    let global = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (address, scope) = (fields.next()?, fields.nth(2)?);
        let bits = u128::from_str_radix(address, 16).ok()?;
        (scope == "00").then_some(Ipv6Addr::from_bits(bits))
    };
    list.lines().filter_map(global).collect()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cards_come_back_as_they_went() {
        let addresses = vec!["10.0.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let card = Card { host: "node-ä".into(), port: 41_000, addresses };
        assert_eq!(Card::decode(&card.encode()), Some(card));
    }

    #[test]
    fn a_neighbour_on_the_same_host_is_called_by_the_loopback_first() {
        let card = Card { host: "a".into(), port: 7, addresses: vec!["10.0.0.1".parse().unwrap()] };
        let places = |host| card.places(host).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(places("a"), ["127.0.0.1:7", "10.0.0.1:7"]);
        assert_eq!(places("b"), ["10.0.0.1:7"]);
    }

    #[test]
    fn the_kernels_tables_are_read() {
        let trie = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.77.0.0\n        /24 link UNICAST\n     |-- 10.77.0.2\n        \
                    /32 host LOCAL\n     |-- 10.77.0.255\n        /32 link BROADCAST\n     |-- 127.0.0.1\n        /32 host LOCAL\n";
        assert_eq!(local_v4(trie), [Ipv4Addr::new(10, 77, 0, 2), Ipv4Addr::LOCALHOST]);
        let list = "00000000000000000000000000000001 01 80 10 80       lo\n\
                    20010db8000000000000000000000005 02 40 00 80     eth0\n\
                    fe800000000000000000000000000005 02 40 20 80     eth0\n";
        assert_eq!(global_v6(list), ["2001:db8::5".parse::<Ipv6Addr>().unwrap()]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_card_or_none(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Some(card) = Card::decode(&bytes) {
                prop_assert_eq!(Card::decode(&card.encode()), Some(card));
            }
        }
    }
}

//! Which of many networks an address is in.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;

use weir_plugin::network::Network;

/// Networks with their rows.
pub struct Networks {
    v4: Sorted,
    v6: Sorted,
}

/// Networks of one version by their first addresses; one that contains another is before it.
#[derive(Default)]
struct Sorted(Vec<Entry>);

/// Ordered by what is compared first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    first: u128,
    last: Reverse<u128>,
    row: u32,
    /// Index of the smallest network around this one.
    around: Option<u32>,
}

impl Networks {
    /// Of a network that comes twice the last row counts.
    pub fn new(networks: Vec<(Network, u32)>) -> Self {
        // A heap is sorted by a tenth of the code that a list is.
        let (mut v4, mut v6) = (BinaryHeap::new(), BinaryHeap::new());
        for (network, row) in networks {
            let (first, width) = number(network.first());
            let last = first | u128::MAX.checked_shr(128 - width + u32::from(network.prefix())).unwrap_or(0);
            let list = if width == 32 { &mut v4 } else { &mut v6 };
            list.push(Entry { first, last: Reverse(last), row, around: None });
        }
        Networks { v4: Sorted::new(v4), v6: Sorted::new(v6) }
    }

    /// The row of the smallest network that the address is in.
    pub fn find(&self, address: IpAddr) -> Option<u32> {
        let (address, width) = number(address.to_canonical());
        if width == 32 { self.v4.find(address) } else { self.v6.find(address) }
    }
}

/// The address as a number of so many bits.
fn number(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(v4) => (v4.to_bits().into(), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    }
}

impl Sorted {
    fn new(networks: BinaryHeap<Entry>) -> Self {
        let mut entries = networks.into_sorted_vec();
        entries.dedup_by(|later, earlier| {
            let same = (later.first, later.last) == (earlier.first, earlier.last);
            if same {
                earlier.row = later.row;
            }
            same
        });
        let mut around: Vec<u32> = Vec::new();
        for i in 0..entries.len() {
            while around.last().is_some_and(|outer| entries[*outer as usize].last.0 < entries[i].first) {
                around.pop();
            }
            entries[i].around = around.last().copied();
            around.push(i as u32);
        }
        Sorted(entries)
    }

    fn find(&self, address: u128) -> Option<u32> {
        let after = self.0.partition_point(|entry| entry.first <= address);
        let mut entry = self.0.get(after.checked_sub(1)?)?;
        while entry.last.0 < address {
            entry = &self.0[entry.around? as usize];
        }
        Some(entry.row)
    }
}

//! Which partition a device's events go to: a fixed function of its id, the same as in the platform's own tools.

use std::fmt;

use skerry_model::DeviceId;

/// Logical partitions, which are dealt out to the real ones in contiguous ranges.
const LOGICAL: u32 = 32_767;

/// One partition of a stream, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(pub u16);

impl PartitionId {
    /// The partition of `count` (at least 1) where events of `device` and its modules go (`service-eventhub-endpoint` §6).
    pub fn of(device: &DeviceId, count: u16) -> Self {
        let count = u32::from(count.max(1));
        let logical = logical(device);
        let (size, larger) = (LOGICAL / count, LOGICAL % count);
        // The first `larger` partitions own one logical partition more than the others.
        let boundary = larger * (size + 1);
        let index = if logical < boundary { logical / (size + 1) } else { larger + (logical - boundary) / size };
        Self(u16::try_from(index).unwrap_or(0))
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, out)
    }
}

fn logical(device: &DeviceId) -> u32 {
    let (c, b) = lookup3(device.as_str().to_ascii_uppercase().as_bytes());
    let low = (c ^ b).to_le_bytes();
    let folded = i32::from(i16::from_le_bytes([low[0], low[1]]));
    (folded % 32_767).unsigned_abs()
}

/// Bob Jenkins' lookup3, the variant with two results, both seeds 0.
fn lookup3(bytes: &[u8]) -> (u32, u32) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let start = 0xdead_beef_u32.wrapping_add(length);
    let (mut a, mut b, mut c) = (start, start, start);
    let mut rest = bytes;
    // The last block is finished differently, even when it is a full one.
    while rest.len() > 12 {
        let (block, behind) = rest.split_at(12);
        a = a.wrapping_add(word(block, 0));
        b = b.wrapping_add(word(block, 4));
        c = c.wrapping_add(word(block, 8));
        mix(&mut a, &mut b, &mut c);
        rest = behind;
    }
    if rest.is_empty() {
        return (c, b);
    }
    a = a.wrapping_add(word(rest, 0));
    b = b.wrapping_add(word(rest, 4));
    c = c.wrapping_add(word(rest, 8));
    finish(&mut a, &mut b, &mut c);
    (c, b)
}

/// Four bytes at `at`, little-endian; bytes behind the end count as zero.
fn word(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    for (to, from) in word.iter_mut().zip(bytes.iter().skip(at)) {
        *to = *from;
    }
    u32::from_le_bytes(word)
}

fn mix(a: &mut u32, b: &mut u32, c: &mut u32) {
    let step = |x: &mut u32, y: &mut u32, z: u32, turn: u32| {
        *x = x.wrapping_sub(*y) ^ y.rotate_left(turn);
        *y = y.wrapping_add(z);
    };
    step(a, c, *b, 4);
    step(b, a, *c, 6);
    step(c, b, *a, 8);
    step(a, c, *b, 16);
    step(b, a, *c, 19);
    step(c, b, *a, 4);
}

fn finish(a: &mut u32, b: &mut u32, c: &mut u32) {
    let step = |x: &mut u32, y: u32, turn: u32| *x = (*x ^ y).wrapping_sub(y.rotate_left(turn));
    step(c, *b, 14);
    step(a, *c, 11);
    step(b, *a, 25);
    step(c, *b, 16);
    step(a, *c, 4);
    step(b, *a, 14);
    step(c, *b, 24);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_go_where_the_shared_cases_say() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../tests/vectors/service-partition-assignment.json")).unwrap();
        let cases = vectors["cases"].as_array().unwrap();
        assert!(cases.len() >= 5);
        for case in cases {
            let Ok(device) = DeviceId::parse(case["deviceId"].as_str().unwrap()) else { continue };
            assert_eq!(u64::from(logical(&device)), case["logicalPartition"].as_u64().unwrap(), "{device}");
            for (count, index) in case["partition"].as_object().unwrap() {
                let index = PartitionId(index.as_str().unwrap().parse().unwrap());
                assert_eq!(PartitionId::of(&device, count.parse().unwrap()), index, "{device} of {count}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn every_device_has_a_partition_that_exists(id in "[A-Za-z0-9.-]{1,40}", count in 1u16..=32) {
            let device = DeviceId::parse(&id).unwrap();
            proptest::prop_assert!(PartitionId::of(&device, count).0 < count);
        }
    }
}

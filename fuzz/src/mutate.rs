//! Changes of inputs.

use fastrand::Rng;

/// Numbers at which things break.
const EDGES: [u64; 12] =
    [0, 1, 2, 0x7f, 0x80, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 32, i64::MAX as u64, u64::MAX];

/// Changes an input in one to eight places; `other` is another input, to take parts of.
pub fn mutate(rng: &mut Rng, input: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..rng.usize(1..=8) {
        change(rng, input, other);
    }
}

fn change(rng: &mut Rng, input: &mut Vec<u8>, other: &[u8]) {
    let at = rng.usize(..=input.len());
    let end = (at + 1 + rng.usize(..16)).min(input.len());
    match rng.u8(..10) {
        0 | 1 => set(input, at, |byte| byte ^ 1 << rng.u8(..8)),
        2 => set(input, at, |_| rng.u8(..)),
        3 => set(input, at, |_| EDGES[rng.usize(..6)] as u8),
        4 => {
            let number = EDGES[rng.usize(..EDGES.len())].to_le_bytes();
            let length = [2, 4, 8][rng.usize(..3)];
            for (offset, byte) in number.iter().take(length).enumerate() {
                set(input, at + offset, |_| *byte);
            }
        }
        5 => {
            // A number of variable length, as postcard writes it, in place of one of a byte.
            let number = varint(EDGES[rng.usize(..EDGES.len())]);
            input.splice(at..(at + 1).min(input.len()), number);
        }
        6 => {
            input.drain(at..end);
        }
        7 => {
            let part = input[at..end].to_vec();
            let to = rng.usize(..=input.len());
            input.splice(to..to, part);
        }
        8 => {
            let from = rng.usize(..=other.len());
            let until = (from + rng.usize(..64)).min(other.len());
            input.splice(at..end, other[from..until].iter().copied());
        }
        _ => {
            if rng.u8(..4) == 0 {
                input.truncate(at);
            } else {
                let new: Vec<u8> = (0..rng.usize(..8)).map(|_| rng.u8(..)).collect();
                input.splice(at..at, new);
            }
        }
    }
}

fn set(input: &mut [u8], at: usize, to: impl FnOnce(u8) -> u8) {
    if let Some(byte) = input.get_mut(at) {
        *byte = to(*byte);
    }
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

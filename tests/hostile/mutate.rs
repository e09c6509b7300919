//! Wounds: the same for the same number, so that a mutant is named by its format and its number.

use serde_json::Value;

/// SplitMix64.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// One of 0 … n − 1 (0 for n = 0).
    pub fn below(&mut self, n: usize) -> usize {
        (((self.next() >> 32) * n as u64) >> 32) as usize
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Sizes at which arithmetic goes wrong.
const ODD: [u64; 24] = [
    0,
    1,
    2,
    3,
    7,
    8,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x1fff,
    0x2000,
    0x7fff,
    0x8000,
    0xffff,
    0x10000,
    0xff_ffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    0x1_0000_0000,
    i64::MAX as u64,
    u64::MAX,
];

/// One to five wounds anywhere, with the format's own `words` among what is put in.
pub fn bytes(bytes: &mut Vec<u8>, other: &[u8], words: &[&str], random: &mut Random) {
    for _ in 0..1 + random.below(5) {
        let a = random.below(bytes.len());
        // Most wounds are small; some take half of the file.
        let n = if random.one_in(8) { random.below(bytes.len()) } else { random.below(16) };
        let b = (a + n).min(bytes.len());
        match random.below(12) {
            0 => drop(bytes.drain(a..b)),
            1 => {
                let (piece, at) = (bytes[a..b].to_vec(), random.below(bytes.len()));
                bytes.splice(at..at, piece);
            }
            2 => {
                if let Some(byte) = bytes.get_mut(a) {
                    *byte ^= 1 << random.below(8);
                }
            }
            3 => {
                if let Some(byte) = bytes.get_mut(a) {
                    *byte = random.next() as u8;
                }
            }
            4 | 5 => {
                // A number of 1, 2, 4 or 8 bytes, in either order.
                let width = 1 << random.below(4);
                let value = random.pick(&ODD).wrapping_add(random.below(3) as u64).wrapping_sub(1);
                let number = if random.one_in(2) { value.to_le_bytes()[..width].to_vec() } else { value.to_be_bytes()[8 - width..].to_vec() };
                for (to, from) in bytes[a..].iter_mut().zip(number) {
                    *to = from;
                }
            }
            6 => {
                let value = random.next() as u8;
                bytes[a..b].fill(value);
            }
            7 if random.one_in(4) => bytes.truncate(a),
            7 | 8 if !words.is_empty() => {
                let word = random.pick(words);
                let end = if random.one_in(2) { a } else { b };
                bytes.splice(a..end, word.bytes());
            }
            9 => {
                let from = random.below(other.len());
                let to = (from + n).min(other.len());
                bytes.splice(a..b, other[from..to].iter().copied());
            }
            10 => number(bytes, a, random),
            _ => {
                let insert: Vec<u8> = (0..n.min(16)).map(|_| random.next() as u8).collect();
                bytes.splice(a..a, insert);
            }
        }
        bytes.truncate(1 << 16); // doublings of doublings would only be slow
    }
}

/// Puts an odd number in the place of a written one, the next after `at`.
fn number(bytes: &mut Vec<u8>, at: usize, random: &mut Random) {
    let Some(start) = bytes[at.min(bytes.len())..].iter().position(u8::is_ascii_digit).map(|n| at + n) else { return };
    let end = bytes[start..].iter().position(|b| !b.is_ascii_digit()).map_or(bytes.len(), |n| start + n);
    let text = match random.below(6) {
        0 => format!("-{}", random.pick(&ODD)),
        1 => "1e999".into(),
        2 => "0.5".into(),
        3 => "9".repeat(1 + random.below(40)),
        _ => random.pick(&ODD).to_string(),
    };
    bytes.splice(start..end, text.bytes());
}

/// One to three changes of a JSON value that leave it JSON.
pub fn json(value: &mut Value, words: &[&str], random: &mut Random) {
    for _ in 0..1 + random.below(3) {
        let nodes = count(value);
        let (from, to) = (random.below(nodes), random.below(nodes));
        let new = match random.below(12) {
            0 => Value::Null,
            1 => Value::Bool(random.one_in(2)),
            2 | 3 => Value::from(*random.pick(&ODD)),
            4 => Value::from(-(random.below(1 << 20) as i64)),
            5 => Value::from(random.below(1 << 16) as f64 * 1e300),
            6 | 7 if !words.is_empty() => Value::from(*random.pick(words)),
            8 => {
                let most = 1 << random.below(12);
                Value::from("x".repeat(random.below(most)))
            }
            9 => (0..random.below(140)).fold(Value::Null, |inner, _| Value::Array(vec![inner])),
            10 => Value::Object(serde_json::Map::new()),
            // Another part of the same file: right in itself, wrong here.
            _ => node(value, &mut from.clone()).map(|node| node.clone()).unwrap_or_default(),
        };
        let key = random.one_in(6).then(|| if random.one_in(2) { random.pick(words).to_string() } else { String::new() });
        if let Some(place) = node(value, &mut to.clone()) {
            match (place, key) {
                (Value::Object(map), Some(key)) => drop(map.insert(key, new)),
                (Value::Object(map), None) if random.one_in(3) && !map.is_empty() => {
                    let key = map.keys().nth(random.below(map.len())).cloned().unwrap_or_default();
                    map.remove(&key);
                }
                (Value::Array(list), Some(_)) => {
                    let at = random.below(list.len() + 1);
                    list.insert(at, new);
                }
                (place, _) => *place = new,
            }
        }
    }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(count).sum(),
        Value::Object(map) => map.values().map(count).sum(),
        _ => 0,
    }
}

/// The node that comes `at`-th when the tree is walked.
fn node<'a>(value: &'a mut Value, at: &mut usize) -> Option<&'a mut Value> {
    if *at == 0 {
        return Some(value);
    }
    *at -= 1;
    match value {
        Value::Array(list) => list.iter_mut().find_map(|value| node(value, at)),
        Value::Object(map) => map.values_mut().find_map(|value| node(value, at)),
        _ => None,
    }
}

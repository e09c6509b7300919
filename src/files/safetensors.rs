//! Tensors in a safetensors file.
//!
//! [`load_safetensors`] trusts nothing that a file says: it reads the header only if it is of a sane length, refuses a
//! name that comes twice, and checks that every tensor's bytes are in the file, without gap or overlap, and are as many
//! as its shape and dtype need. (Format: <https://huggingface.co/docs/safetensors>.)

use super::write_file_atomic_with;
use crate::dtype::DType;
use crate::error::{Error, Result};
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A longer header is refused before it is read: a model of ours needs some kilobytes.
pub const MAX_HEADER_BYTES: u64 = 1 << 20;

/// A tensor on its way to or from a file: shape, dtype and its elements' bytes, little-endian.
pub type Stored = (Vec<usize>, DType, Vec<u8>);

/// Writes tensors into one safetensors file, atomically. The same arguments give the same bytes: tensors lie in the file
/// by falling element size, then by name. `metadata` goes into `__metadata__`, with `format = "pt"` added if it is not
/// there (`transformers` opens no file without it).
///
/// # Errors
/// [`Error::Mismatch`] where bytes and shape disagree or a name comes twice, [`Error::TooLarge`] for a header beyond
/// [`MAX_HEADER_BYTES`], [`Error::Io`] where the system refuses.
pub fn save_safetensors(path: &Path, metadata: &[(&str, String)], tensors: &[(String, Vec<usize>, DType, Vec<u8>)]) -> Result<()> {
    let infos: Vec<_> = tensors.iter().map(|(name, shape, dtype, _)| (name.clone(), shape.clone(), *dtype)).collect();
    write_file_atomic_with(path, |file| write_safetensors(path, file, metadata, &infos, |i| Ok(tensors[i].3.clone())))
}

/// Writes tensors into an open file as [`save_safetensors`] does, one after the other: `bytes(i)` is asked for the elements of
/// `tensors[i]` when it is their turn, so that only one tensor is in memory at a time.
///
/// # Errors
/// As [`save_safetensors`], and those of `bytes`. `path` is for the messages.
pub fn write_safetensors(
    path: &Path,
    file: &mut impl Write,
    metadata: &[(&str, String)],
    tensors: &[(String, Vec<usize>, DType)],
    mut bytes: impl FnMut(usize) -> Result<Vec<u8>>,
) -> Result<()> {
    const OP: &str = "save_safetensors";
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by(|&a, &b| tensors[b].2.size().cmp(&tensors[a].2.size()).then_with(|| tensors[a].0.cmp(&tensors[b].0)));

    let mut strings: BTreeMap<&str, &str> = metadata.iter().map(|(key, value)| (*key, value.as_str())).collect();
    strings.entry("format").or_insert("pt");
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), serde_json::json!(strings));
    let mut end = 0usize;
    for &i in &order {
        let (name, shape, dtype) = &tensors[i];
        let too_large = || Error::TooLarge { what: format!("{}: bytes of tensor {name}", path.display()), size: u128::MAX, limit: usize::MAX as u128 };
        let to = byte_count(shape, *dtype).and_then(|count| end.checked_add(count)).ok_or_else(too_large)?;
        let info = TensorInfo { dtype: stored_dtype(*dtype), shape: shape.clone(), data_offsets: (end, to) };
        end = to;
        let info = serde_json::to_value(&info).expect("a name, numbers");
        if name == "__metadata__" || header.insert(name.clone(), info).is_some() {
            return Err(Error::mismatch(OP, "name", "names that differ from each other", format!("{name} twice")));
        }
    }
    let mut header = serde_json::to_vec(&header).expect("strings and numbers");
    header.resize(header.len().next_multiple_of(8), b' '); // the data start aligned
    if header.len() as u64 > MAX_HEADER_BYTES {
        return Err(Error::TooLarge { what: format!("{}: bytes of the header", path.display()), size: header.len() as u128, limit: MAX_HEADER_BYTES as u128 });
    }
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let mut write = |bytes: &[u8]| out.write_all(bytes).map_err(Error::io(path, "write"));
    write(&(header.len() as u64).to_le_bytes())?;
    write(&header)?;
    for i in order {
        let ((name, shape, dtype), bytes) = (&tensors[i], bytes(i)?);
        let needed = byte_count(shape, *dtype);
        if needed != Some(bytes.len()) {
            return Err(Error::mismatch(OP, "bytes", format!("{name} {shape:?} {dtype}: {needed:?}"), bytes.len()));
        }
        write(&bytes)?;
    }
    out.flush().map_err(Error::io(path, "write"))
}

/// A safetensors file whose header has been read and checked; its tensors are read one by one.
pub struct Safetensors {
    path: PathBuf,
    file: File,
    data: u64,
    tensors: BTreeMap<String, TensorInfo>,
}

impl Safetensors {
    /// Opens a file and trusts nothing that its header says.
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses, [`Error::File`] with the tensor's name for whatever the file gets wrong.
    pub fn open(path: &Path) -> Result<Self> {
        // Opening a pipe would wait for its other end, so the kind of file is looked at first.
        let about = fs::metadata(path).map_err(Error::io(path, "open"))?;
        if !about.is_file() {
            return Err(Error::file(path, "expected a safetensors file, found a folder or a device"));
        }
        let mut file = File::open(path).map_err(Error::io(path, "open"))?;
        let file_bytes = about.len();
        if file_bytes < 8 {
            return Err(Error::file(path, format!("a safetensors file has at least 8 bytes, this one {file_bytes}: it is empty or was cut off")));
        }
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(Error::io(path, "read"))?;
        let header_bytes = u64::from_le_bytes(length);
        if header_bytes > MAX_HEADER_BYTES {
            return Err(Error::file_at(
                path,
                "byte 0",
                format!("the header claims {header_bytes} bytes, more than the limit of {MAX_HEADER_BYTES}: this is not a safetensors file of a small model"),
            ));
        }
        if header_bytes > file_bytes - 8 {
            return Err(Error::file_at(
                path,
                "byte 0",
                format!("the header claims {header_bytes} bytes, but only {} follow: the file was cut off", file_bytes - 8),
            ));
        }
        let mut header = vec![0; header_bytes as usize];
        file.read_exact(&mut header).map_err(Error::io(path, "read"))?;
        let data = 8 + header_bytes;
        let tensors = parse_header(path, &header, file_bytes - data)?.into_iter().collect();
        Ok(Safetensors { path: path.to_path_buf(), file, data, tensors })
    }

    /// Name, shape and dtype of every tensor, by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &[usize], DType)> {
        self.tensors.iter().map(|(name, info)| (name.as_str(), info.shape.as_slice(), dtype(info.dtype).expect("checked by parse_header")))
    }

    /// The elements of a tensor, little-endian.
    ///
    /// # Errors
    /// [`Error::File`] where there is no such tensor, [`Error::Io`] where the system refuses.
    pub fn read(&mut self, name: &str) -> Result<Vec<u8>> {
        let info = self.tensors.get(name).ok_or_else(|| Error::file_at(&self.path, format!("tensor {name}"), "missing"))?;
        let (from, to) = info.data_offsets;
        self.file.seek(SeekFrom::Start(self.data + from as u64)).map_err(Error::io(&self.path, "read"))?;
        // What the header says fits what the file has: no allocation here is larger than the file.
        let mut bytes = vec![0; to - from];
        self.file.read_exact(&mut bytes).map_err(Error::io(&self.path, "read"))?;
        Ok(bytes)
    }

    /// Checks that the tensors are exactly these, of these shapes.
    ///
    /// # Errors
    /// [`Error::File`] that names the first tensor that is missing, misshapen or superfluous.
    pub fn expect(&self, expected: &[(String, Vec<usize>)]) -> Result<()> {
        expect_shapes(&self.path, &self.tensors.iter().map(|(name, info)| (name.as_str(), info.shape.as_slice())).collect(), expected)
    }
}

/// Reads every tensor of a safetensors file, by name.
///
/// # Errors
/// As [`Safetensors::open`].
pub fn load_safetensors(path: &Path) -> Result<BTreeMap<String, Stored>> {
    let mut file = Safetensors::open(path)?;
    let listed: Vec<_> = file.tensors().map(|(name, shape, dtype)| (name.to_string(), shape.to_vec(), dtype)).collect();
    listed.into_iter().map(|(name, shape, dtype)| file.read(&name).map(|bytes| (name, (shape, dtype, bytes)))).collect()
}

/// The tensors of a header in the order of their bytes, which lie one after the other and fill `data_bytes`.
fn parse_header(path: &Path, header: &[u8], data_bytes: u64) -> Result<Vec<(String, TensorInfo)>> {
    let header: Header = serde_json::from_slice(header).map_err(|e| Error::file_at(path, "header", format!("not a safetensors header: {e}")))?;
    let mut infos = header.tensors;
    infos.sort_by_key(|(_, info)| info.data_offsets);
    let mut end = 0;
    for (name, info) in &infos {
        let fail = |what: String| Error::file_at(path, format!("tensor {name}"), what);
        let Some(dtype) = dtype(info.dtype) else {
            return Err(fail(format!("expected dtype F64, F32, BF16, F16, I32 or U8, found {:?}", info.dtype)));
        };
        let (from, to) = info.data_offsets;
        if to as u64 > data_bytes {
            return Err(fail(format!("its bytes end at {to}, but the file has only {data_bytes} bytes of data: it was cut off, or its header is wrong")));
        }
        let Some(needed) = byte_count(&info.shape, dtype) else {
            return Err(fail(format!("a shape of {:?} is impossible", info.shape)));
        };
        if to.checked_sub(from) != Some(needed) {
            return Err(fail(format!("a {dtype} tensor of shape {:?} takes {needed} bytes, but its offsets are [{from}, {to}]", info.shape)));
        }
        if from != end {
            return Err(fail(format!("expected its bytes to start at {end}, where the last tensor ends, found {from}")));
        }
        end = to;
    }
    if (end as u64) < data_bytes {
        return Err(Error::file(path, format!("{} bytes after the last tensor belong to no tensor", data_bytes - end as u64)));
    }
    Ok(infos)
}

pub(super) fn expect_shapes(path: &Path, tensors: &BTreeMap<&str, &[usize]>, expected: &[(String, Vec<usize>)]) -> Result<()> {
    for (name, shape) in expected {
        match tensors.get(name.as_str()) {
            None => return Err(Error::file_at(path, format!("tensor {name}"), format!("missing: expected one of shape {shape:?}"))),
            Some(found) if found != shape => {
                return Err(Error::file_at(path, format!("tensor {name}"), format!("expected shape {shape:?}, found {found:?}")));
            }
            Some(_) => {}
        }
    }
    let known: BTreeSet<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
    match tensors.iter().find(|(name, _)| !known.contains(**name)) {
        Some((name, shape)) => Err(Error::file_at(path, format!("tensor {name}"), format!("of shape {shape:?}: this model has no such tensor"))),
        None => Ok(()),
    }
}

fn byte_count(shape: &[usize], dtype: DType) -> Option<usize> {
    shape.iter().try_fold(dtype.size(), |product, &size| product.checked_mul(size))
}

fn stored_dtype(dtype: DType) -> Dtype {
    match dtype {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::Bf16 => Dtype::BF16,
        DType::F16 => Dtype::F16,
        DType::I32 => Dtype::I32,
        DType::U8 => Dtype::U8,
    }
}

fn dtype(stored: Dtype) -> Option<DType> {
    [DType::F64, DType::F32, DType::Bf16, DType::F16, DType::I32, DType::U8].into_iter().find(|&d| stored_dtype(d) == stored)
}

/// The header's JSON. Read key by key, because a map would silently keep the last of two equal keys.
struct Header {
    tensors: Vec<(String, TensorInfo)>,
}

/// A JSON object of strings in which no key comes twice.
struct Strings;

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Header;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Header, A::Error> {
                let mut seen = BTreeSet::new();
                let mut tensors = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    if !seen.insert(key.clone()) {
                        return Err(serde::de::Error::custom(format!("the name {key:?} comes twice")));
                    }
                    if key == "__metadata__" {
                        map.next_value::<Strings>()?;
                    } else {
                        tensors.push((key, map.next_value()?));
                    }
                }
                Ok(Header { tensors })
            }
        }
        from.deserialize_map(Keys)
    }
}

impl<'de> Deserialize<'de> for Strings {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Strings;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of strings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Strings, A::Error> {
                let mut seen = BTreeSet::new();
                while let Some((key, _)) = map.next_entry::<String, String>()? {
                    if !seen.insert(key.clone()) {
                        return Err(serde::de::Error::custom(format!("__metadata__: the key {key:?} comes twice")));
                    }
                }
                Ok(Strings)
            }
        }
        from.deserialize_map(Keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_tensors() -> Vec<(String, Vec<usize>, DType, Vec<u8>)> {
        vec![
            ("b.u8".into(), vec![3], DType::U8, vec![1, 2, 3]),
            ("a.f32".into(), vec![2, 2], DType::F32, bytemuck::cast_slice(&[1f32, -2.0, 0.5, f32::MIN]).to_vec()),
            ("c.i32".into(), vec![1], DType::I32, 7i32.to_le_bytes().to_vec()),
            ("d.none".into(), vec![0, 5], DType::F64, vec![]),
            ("e.bf16".into(), vec![], DType::Bf16, vec![0x80, 0x3f]),
        ]
    }

    fn only_error(path: &Path) -> String {
        let error = load_safetensors(path).unwrap_err().to_string();
        assert!(error.starts_with(&path.display().to_string()), "{error}");
        assert!(!error.contains('\n'), "{error}");
        error
    }

    fn file_of(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }

    #[test]
    fn tensors_come_back_and_the_crate_agrees() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let metadata = [("step", "3".to_string()), ("author", "é \"quoted\"".into())];
        save_safetensors(&path, &metadata, &some_tensors()).unwrap();
        let read = load_safetensors(&path).unwrap();
        assert_eq!(read.len(), 5);
        for (name, shape, dtype, bytes) in some_tensors() {
            assert_eq!(read[&name], (shape, dtype, bytes));
        }
        let bytes = fs::read(&path).unwrap();
        let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(theirs.tensor("a.f32").unwrap().shape(), [2, 2]);
        let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = metadata.metadata().as_ref().unwrap();
        assert_eq!((metadata["format"].as_str(), metadata["step"].as_str()), ("pt", "3"));
        let mut backwards = some_tensors();
        backwards.reverse();
        save_safetensors(&path, &[("author", "é \"quoted\"".into()), ("step", "3".into())], &backwards).unwrap();
        assert_eq!(fs::read(&path).unwrap(), bytes, "the same bytes whatever the order");
    }

    #[test]
    fn every_truncation_and_one_byte_more_is_one_clear_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        save_safetensors(&path, &[], &some_tensors()).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            only_error(&path);
        }
        fs::write(&path, [&whole[..], &[0]].concat()).unwrap();
        assert!(only_error(&path).contains("1 bytes after the last tensor"));
    }

    #[test]
    fn every_single_byte_of_the_header_may_be_wrong_without_a_panic() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        save_safetensors(&path, &[], &some_tensors()).unwrap();
        let whole = fs::read(&path).unwrap();
        let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
        for at in 0..header {
            for value in [0, b'9', b'"', 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                fs::write(&path, &damaged).unwrap();
                let _ = load_safetensors(&path);
            }
        }
    }

    #[test]
    fn lies_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let one = |dtype: &str, shape: &str, from: u64, to: u64| format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}}}"#);
        let twice = r#"{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"w":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#;
        let metadata_twice = r#"{"__metadata__":{"format":"pt","format":"np"}}"#;
        let overlapping = r#"{"v":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"w":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#;
        for (header, data, expected) in [
            (one("F32", "[2]", 0, 8), 4, "tensor w: its bytes end at 8, but the file has only 4"),
            (one("F32", "[3]", 0, 8), 8, "tensor w: a f32 tensor of shape [3] takes 12 bytes, but its offsets are [0, 8]"),
            (one("F32", "[4294967296,4294967296,4294967296]", 0, 8), 8, "tensor w: a shape of [4294967296, 4294967296, 4294967296] is impossible"),
            (one("F32", "[1]", 4, 8), 8, "tensor w: expected its bytes to start at 0"),
            (one("F32", "[1]", 4, 0), 8, "tensor w: a f32 tensor of shape [1] takes 4 bytes, but its offsets are [4, 0]"),
            (one("F32", "[18446744073709551615]", 0, 8), 8, "is impossible"),
            (one("F32", "[-1]", 0, 8), 8, "header: not a safetensors header: invalid value: integer `-1`"),
            (one("F8_E4M3", "[1]", 0, 1), 1, "tensor w: expected dtype F64, F32, BF16, F16, I32 or U8, found F8_E4M3"),
            (one("F99", "[1]", 0, 1), 1, "header: not a safetensors header: unknown variant `F99`"),
            (twice.into(), 2, "header: not a safetensors header: the name \"w\" comes twice"),
            (metadata_twice.into(), 0, "__metadata__: the key \"format\" comes twice"),
            (overlapping.into(), 3, "tensor w: expected its bytes to start at 2, where the last tensor ends, found 1"),
            ("[]".into(), 0, "header: not a safetensors header: invalid type: sequence, expected an object of tensors"),
            ("[".repeat(100_000), 0, "header: not a safetensors header"),
        ] {
            fs::write(&path, file_of(&header, &vec![0; data])).unwrap();
            let error = only_error(&path);
            assert!(error.contains(expected), "{error}\n  expected {expected}");
        }
        fs::write(&path, u64::MAX.to_le_bytes()).unwrap();
        assert!(only_error(&path).contains("byte 0: the header claims 18446744073709551615 bytes, more than the limit"));
        assert!(only_error(folder.path()).contains("found a folder"));
        assert!(only_error(&folder.path().join("nowhere")).contains("cannot open"));
    }

    #[test]
    fn the_first_tensor_that_is_not_as_expected_is_named() {
        let stored = some_tensors();
        let tensors: BTreeMap<&str, &[usize]> = stored.iter().map(|(name, shape, ..)| (name.as_str(), shape.as_slice())).collect();
        let mut expected: Vec<(String, Vec<usize>)> = some_tensors().into_iter().map(|(name, shape, ..)| (name, shape)).collect();
        let path = Path::new("m");
        expect_shapes(path, &tensors, &expected).unwrap();
        let last = expected.pop().unwrap();
        let error = |expected: &[(String, Vec<usize>)]| expect_shapes(path, &tensors, expected).unwrap_err().to_string();
        assert_eq!(error(&expected), "m, tensor e.bf16: of shape []: this model has no such tensor");
        expected.push((last.0, vec![1]));
        assert_eq!(error(&expected), "m, tensor e.bf16: expected shape [1], found []");
        expected.push(("f".into(), vec![4]));
        expected.remove(4);
        assert_eq!(error(&expected), "m, tensor f: missing: expected one of shape [4]");
    }

    #[test]
    fn wrong_arguments_of_save_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let short = [("w".to_string(), vec![2], DType::F32, vec![0; 4])];
        assert!(save_safetensors(&path, &[], &short).unwrap_err().to_string().contains("w [2] f32"));
        let twice = [("w".to_string(), vec![1], DType::U8, vec![0]), ("w".to_string(), vec![1], DType::U8, vec![0])];
        assert!(save_safetensors(&path, &[], &twice).unwrap_err().to_string().contains("w twice"));
        assert!(!path.exists());
    }
}

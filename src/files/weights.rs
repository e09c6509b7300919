//! The weights of a model's folder: one safetensors file, or several with an index that says which tensor is in which.
//!
//! `transformers` writes shards where a model is large (`model-00001-of-00002.safetensors`, …, `model.safetensors.index.json`), and takes
//! the one file where both are there. So does this.

use super::read::contents;
use super::safetensors::{Safetensors, expect_shapes};
use crate::dtype::DType;
use crate::error::{Error, Result};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// The table of an 8 B model has 30 KB.
const MAX_INDEX: u64 = 16 << 20;
/// Shards of one model.
const MAX_SHARDS: usize = 1024;

/// A tensor as it is stored.
pub struct StoredTensor {
    /// The file that it is in.
    pub path: PathBuf,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its dtype.
    pub dtype: DType,
    /// Its elements, little-endian.
    pub bytes: Vec<u8>,
}

/// The weights of a folder, whose headers have been read and checked.
pub struct Weights {
    /// What errors about all of it name: the one file, or the index.
    path: PathBuf,
    open: Vec<(PathBuf, Safetensors)>,
    /// In which file a tensor is, with shape and dtype; taken out as they are read.
    place: BTreeMap<String, (usize, Vec<usize>, DType)>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Weights {
    /// Opens a folder's weights.
    ///
    /// # Errors
    /// [`Error::File`] where there are none, where an index and its shards disagree, and as [`Safetensors::open`].
    pub fn open(folder: &Path) -> Result<Self> {
        let single = folder.join(SINGLE);
        if single.exists() { Self::file(&single) } else { Self::shards(folder) }
    }

    /// Opens one file.
    ///
    /// # Errors
    /// As [`Safetensors::open`].
    pub fn file(path: &Path) -> Result<Self> {
        let file = Safetensors::open(path)?;
        let place = file.tensors().map(|(name, shape, dtype)| (name.to_string(), (0, shape.to_vec(), dtype))).collect();
        Ok(Weights { path: path.to_path_buf(), open: vec![(path.to_path_buf(), file)], place })
    }

    fn shards(folder: &Path) -> Result<Self> {
        let index = folder.join(INDEX);
        if !index.exists() {
            let others = [
                ("adapter_model.safetensors", "an adapter: merge it into its model first (peft: merge_and_unload)"),
                ("pytorch_model.bin", "pytorch_model.bin: save the model as safetensors first"),
                ("pytorch_model.bin.index.json", "pytorch_model.bin in parts: save the model as safetensors first"),
            ];
            let other = others.into_iter().find(|(name, _)| folder.join(name).exists());
            let found = other.map_or("neither", |(_, what)| what);
            return Err(Error::file(folder, format!("expected {SINGLE}, or {INDEX} and its shards, found {found}")));
        }
        let Index { weight_map } = serde_json::from_slice(&contents(&index, MAX_INDEX)?)
            .map_err(|e| Error::file_at(&index, format!("line {}, column {}", e.line(), e.column()), e))?;
        let names: BTreeSet<&String> = weight_map.values().collect();
        if names.len() > MAX_SHARDS {
            return Err(Error::file(&index, format!("expected at most {MAX_SHARDS} shards, found {}", names.len())));
        }
        if let Some(name) = names.iter().find(|name| Path::new(name).file_name().is_none_or(|file| file != name.as_str())) {
            return Err(Error::file(&index, format!("{name:?}: expected the name of a file in the same folder")));
        }
        let (mut open, mut place) = (Vec::new(), BTreeMap::new());
        for name in names {
            let path = folder.join(name);
            let file = Safetensors::open(&path)?;
            for (tensor, shape, dtype) in file.tensors() {
                if weight_map.get(tensor) != Some(name) {
                    return Err(Error::file_at(&path, format!("tensor {tensor}"), format!("{INDEX} does not say that it is in this file")));
                }
                place.insert(tensor.to_string(), (open.len(), shape.to_vec(), dtype));
            }
            open.push((path, file));
        }
        if let Some((tensor, name)) = weight_map.iter().find(|(tensor, _)| !place.contains_key(*tensor)) {
            return Err(Error::file_at(folder.join(name), format!("tensor {tensor}"), format!("missing: {INDEX} says that it is in this file")));
        }
        Ok(Weights { path: index, open, place })
    }

    /// The file of the weights, or the index of the shards: what errors about all of them name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every file that these weights are in: the index first, where there is one.
    pub fn files(&self) -> Vec<PathBuf> {
        let index = (self.open.len() != 1 || self.open[0].0 != self.path).then(|| self.path.clone());
        index.into_iter().chain(self.open.iter().map(|(path, _)| path.clone())).collect()
    }

    /// The names of the tensors that were not taken yet.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.place.keys().map(String::as_str)
    }

    /// Checks that the tensors that were not taken yet are exactly these, of these shapes.
    ///
    /// # Errors
    /// [`Error::File`] that names the first tensor that is missing, misshapen or superfluous.
    pub fn expect(&self, expected: &[(String, Vec<usize>)]) -> Result<()> {
        expect_shapes(&self.path, &self.place.iter().map(|(name, (_, shape, _))| (name.as_str(), shape.as_slice())).collect(), expected)
    }

    /// Reads a tensor, which is then no longer among those that are left; `None` where there is none of this name.
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses.
    pub fn take(&mut self, name: &str) -> Result<Option<StoredTensor>> {
        let found = self.read(name)?;
        self.place.remove(name);
        Ok(found)
    }

    /// Reads a tensor and leaves it; `None` where there is none of this name.
    ///
    /// # Errors
    /// As [`Weights::take`].
    pub fn read(&mut self, name: &str) -> Result<Option<StoredTensor>> {
        let Some((file, shape, dtype)) = self.place.get(name) else { return Ok(None) };
        let (path, file) = &mut self.open[*file];
        Ok(Some(StoredTensor { path: path.clone(), shape: shape.clone(), dtype: *dtype, bytes: file.read(name)? }))
    }
}

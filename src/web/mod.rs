//! The page of `examples/web/` as a site: every file that a browser may ask for, by name.
//!
//! A [`Site`] is a list, fixed when it is made: the page, the shaders, the manifest, an example, and of a run the files of its
//! model. Nothing else can be asked for, whatever the request says; there is no folder that a path could leave. The golden vectors
//! are made when the first of them is asked for, into a temporary folder: it takes seconds.
//!
//! ```no_run
//! # use std::path::Path;
//! # fn main() -> trimodal::Result<()> {
//! let site = trimodal::web::Site::new(Some(Path::new("my-model")))?;
//! site.write(Path::new("page"))?; // for any static server
//! # Ok(())
//! # }
//! ```

pub mod server;

use crate::data::meadow::{self, HEADLINE, SPLITS};
use crate::data::tokenizer::Tokenizer;
use crate::device::Language;
use crate::device::shader::SHADERS;
use crate::error::{Error, Result};
use crate::files::read::regular;
use crate::files::temporary::Temporary;
use crate::files::weights::Weights;
use crate::golden;
use crate::model::Config;
use crate::train::ModelFolder;
use crate::train::model_folder::expect_parameters;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// A file of the page, as it is in `examples/web/`.
macro_rules! page {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../examples/web/", $name)))),*]
    };
}

/// The page itself.
const PAGE: [(&str, &str); 18] = page![
    "app.js",
    "bench.js",
    "config.js",
    "contract.js",
    "describe.js",
    "folder.js",
    "golden.js",
    "gpu.js",
    "index.html",
    "kernels.js",
    "model.js",
    "overlay.js",
    "picture.js",
    "safetensors.js",
    "sound.js",
    "style.css",
    "tables.js",
    "tokenizer.js",
];

/// What the page loads of a model's folder, beside its weights.
const MODEL: [&str; 2] = ["config.json", "tokenizer.json"];

/// Where the golden vectors are, with the slash.
const GOLDEN: &str = "golden/";

/// The content of a name.
enum Content {
    Text(&'static str),
    Bytes(Vec<u8>),
    File(PathBuf),
}

/// What a browser gets for a name: its MIME type, and where its bytes are.
pub struct SiteResponse {
    /// `text/html; charset=utf-8`
    pub mime: &'static str,
    /// The bytes.
    pub source: Source,
}

/// Where the bytes of a [`SiteResponse`] are.
pub enum Source {
    /// In memory.
    Bytes(Cow<'static, [u8]>),
    /// In an open file.
    File(fs::File),
}

/// Every file of the page. Names have no slash in front.
pub struct Site {
    files: BTreeMap<String, Content>,
    /// Made when it is asked for, removed with the site; or why it could not be made.
    golden: OnceLock<std::result::Result<(tempfile::TempDir, Temporary), String>>,
    /// Nothing more is made.
    closing: AtomicBool,
}

impl Site {
    /// The page, with the model of a run or a model folder where one is given.
    ///
    /// # Errors
    /// Those of [`ModelFolder::locate`], and of files that make no sense or do not fit each other: better here than in a browser.
    pub fn new(run: Option<&Path>) -> Result<Site> {
        let mut files: BTreeMap<String, Content> = PAGE.map(|(name, text)| (name.to_string(), Content::Text(text))).into();
        files.extend(SHADERS.iter().map(|shader| (format!("shaders/{}.wgsl", shader.stem), Content::Text(shader.source))));
        files.insert("kernels.json".into(), Content::Text(crate::contract::TEXT));
        let mut about = serde_json::json!({ "version": env!("CARGO_PKG_VERSION"), "model": null, "example": false });
        if let Some(run) = run {
            let folder = ModelFolder::locate(run)?;
            let config = Config::load(&folder.join("config.json"))?;
            Tokenizer::load(&folder.join("tokenizer.json"))?;
            let mut weights = Weights::open(&folder)?;
            expect_parameters(&mut weights, &config)?;
            let mut names = Vec::new();
            for path in MODEL.map(|name| folder.join(name)).into_iter().chain(weights.files()) {
                regular(&path, u64::MAX).map_err(|what| Error::file(&path, what))?;
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                files.insert(format!("model/{name}"), Content::File(path));
                names.push(name);
            }
            about["files"] = names.into();
            about["model"] = name_of(run, &folder).into();
            about["example"] = (config.vision_config.is_some() || config.audio_config.is_some()).into();
            let (split, index) = (SPLITS.len() - 1, 0);
            files.insert("example/picture.png".into(), Content::Bytes(meadow::png(&meadow::picture(&HEADLINE, 0, split, index))?));
            files.insert("example/sound.wav".into(), Content::Bytes(meadow::wav(&meadow::sound(&HEADLINE, 0, split, index))?));
        }
        files.insert("site.json".into(), Content::Bytes(format!("{about}\n").into_bytes()));
        Ok(Site { files, golden: OnceLock::new(), closing: AtomicBool::new(false) })
    }

    /// The answer for a name; `None` where there is no such name.
    ///
    /// # Errors
    /// A model's file that has been removed meanwhile, golden vectors that cannot be made.
    pub fn open(&self, name: &str) -> Result<Option<SiteResponse>> {
        let name = if name.is_empty() { "index.html" } else { name };
        let mime = mime(name);
        let file = |path: &Path| regular(path, u64::MAX).map(|(file, _)| Source::File(file)).map_err(|what| Error::file(path, what));
        let source = match (self.files.get(name), name.strip_prefix(GOLDEN)) {
            (Some(Content::Text(text)), _) => Some(Source::Bytes(Cow::Borrowed(text.as_bytes()))),
            (Some(Content::Bytes(bytes)), _) => Some(Source::Bytes(Cow::Owned(bytes.clone()))),
            (Some(Content::File(path)), _) => Some(file(path)?),
            (None, Some(vector)) => listed(self.golden()?, vector)?.map(|path| file(&path)).transpose()?,
            (None, None) => None,
        };
        Ok(source.map(|source| SiteResponse { mime, source }))
    }

    /// The folder of the golden vectors; a request waits while they are made.
    fn golden(&self) -> Result<&Path> {
        let made = self.golden.get_or_init(|| {
            let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
            let held = Temporary::hold(folder.path());
            let mut go_on = |_| if self.closing.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
            write_golden(&folder.path().join("golden"), &mut go_on).map_err(|error| error.to_string())?;
            Ok((folder, held))
        });
        match made {
            Ok((folder, _)) => Ok(folder.path()),
            Err(what) => Err(Error::Usage(format!("the golden vectors cannot be made: {what}"))),
        }
    }

    /// Removes the golden vectors from the temporary folder, and stops whoever is making them: a site that a server holds is never dropped.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        // Waits for whoever is making them.
        if let Ok((folder, _)) = self.golden.get_or_init(|| Err("the page is being closed".into())) {
            let _ = fs::remove_dir_all(folder.path());
        }
    }

    /// Writes the page as a folder that any static server serves; gives the files and the bytes in it.
    ///
    /// # Errors
    /// [`Error::File`] for a folder that is there and not empty; [`Error::Io`] where the system refuses.
    pub fn write(&self, folder: &Path) -> Result<(usize, u64)> {
        fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
        if fs::read_dir(folder).map_err(Error::io(folder, "read"))?.next().is_some() {
            return Err(Error::file(folder, "is not empty, and was left as it is: give a new folder"));
        }
        let (mut count, mut bytes) = (0, 0);
        for name in self.files.keys() {
            let path = folder.join(name);
            let of_file = path.parent().expect("a file lies in the folder");
            fs::create_dir_all(of_file).map_err(Error::io(of_file, "create"))?;
            let mut file = fs::File::create(&path).map_err(Error::io(&path, "create"))?;
            bytes += match self.open(name)?.expect("a name of the list").source {
                Source::Bytes(bytes) => file.write_all(&bytes).map(|()| bytes.len() as u64),
                Source::File(mut from) => std::io::copy(&mut from, &mut file),
            }
            .map_err(Error::io(&path, "write"))?;
            count += 1;
        }
        let index = write_golden(&folder.join(GOLDEN), &mut |_| ControlFlow::Continue(()))?;
        Ok((count + index.cases.len() + 1, bytes + index.cases.iter().map(|case| case.bytes).sum::<u64>()))
    }
}

fn write_golden(folder: &Path, progress: &mut dyn FnMut(usize) -> ControlFlow<()>) -> Result<golden::Index> {
    golden::write(&golden::plan(Language::Wgsl, None)?, folder, false, progress)
}

/// The place of a golden vector, if it is one: the index, or a file that the index lists.
fn listed(folder: &Path, name: &str) -> Result<Option<PathBuf>> {
    let folder = folder.join(GOLDEN);
    let path = folder.join(golden::INDEX);
    if name == golden::INDEX {
        return Ok(Some(path));
    }
    let text = fs::read(&path).map_err(Error::io(&path, "read"))?;
    let index: serde_json::Value = serde_json::from_slice(&text).map_err(|error| Error::file(&path, error.to_string()))?;
    let known = index["cases"].as_array().is_some_and(|cases| cases.iter().any(|case| case["file"] == name));
    Ok(known.then(|| folder.join(name)))
}

/// How the page calls a model: by its run, and the checkpoint where there is one.
fn name_of(run: &Path, folder: &Path) -> String {
    let name = |path: &Path| path.canonicalize().ok().and_then(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()));
    match (name(run), name(folder)) {
        (Some(run), Some(folder)) if run != folder => format!("{run}, {folder}"),
        (Some(run), _) => run,
        _ => "the model".into(),
    }
}

/// The MIME types that browsers insist on: a JavaScript module must have the right one.
fn mime(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "wgsl" => "text/wgsl; charset=utf-8",
        "png" => "image/png",
        "wav" => "audio/wav",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/web");
        let mut there: Vec<String> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        there.sort();
        assert_eq!(there, PAGE.map(|(name, _)| name), "the files in examples/web and those that the program serves");
    }

    #[test]
    fn only_what_is_listed_can_be_asked_for() {
        let site = Site::new(None).unwrap();
        let text = |name: &str| match site.open(name).unwrap()?.source {
            Source::Bytes(bytes) => Some(String::from_utf8(bytes.into_owned()).unwrap()),
            Source::File(_) => panic!("{name} is a file on the disk, which this test does not expect"),
        };
        assert_eq!(text(""), text("index.html"));
        assert!(text("shaders/rms_norm.wgsl").unwrap().starts_with("// rms_norm"));
        assert_eq!(text("site.json").unwrap(), format!("{{\"example\":false,\"model\":null,\"version\":\"{}\"}}\n", env!("CARGO_PKG_VERSION")));
        for name in ["/etc/passwd", "../Cargo.toml", "shaders/../index.html", "shaders", "model/config.json", "index.html/", "INDEX.HTML", "\0"] {
            assert!(site.open(name).unwrap().is_none(), "{name:?}");
        }
    }
}

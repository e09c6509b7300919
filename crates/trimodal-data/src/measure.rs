//! What can be known of a row's files without decoding them: whether they are there, how long, of when, of what size.

use std::io::Cursor;
use std::path::Path;
use std::time::UNIX_EPOCH;

use super::contained::contained;
use super::content::Content;
use super::folder::{Dataset, MediaInfo};
use super::row::{MediaSource, Origin, TableRow};
use super::sound;
use trimodal_base::Result;

/// Bytes of a picture in which its size is looked for: headers, colour profiles and previews come before it.
const HEAD: u64 = 1 << 20;

/// A file's length and when it was last written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp {
    /// In bytes.
    pub bytes: u64,
    /// Nanoseconds since 1970; 0 where the system does not say.
    pub modified: u64,
}

impl Dataset {
    /// The files that a row's picture and sound are in, as the data set names them, with their stamps; `None` for one that is not there.
    pub fn files(&self, row: &TableRow) -> Vec<(String, Option<FileStamp>)> {
        let stamp = |path: &Path| {
            let about = std::fs::metadata(path).ok()?;
            let modified = about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |since| since.as_nanos() as u64);
            Some(FileStamp { bytes: about.len(), modified })
        };
        let parts = [&row.file, &row.picture, &row.sound].into_iter().flatten();
        parts
            .map(|part| match part {
                MediaSource::File(name) => (name.clone(), stamp(&self.folder.given.join(name))),
                // In the shard that the row is written down in.
                _ => {
                    let (path, _) = self.place(row);
                    (path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(), stamp(&path))
                }
            })
            .collect()
    }

    /// Where a row comes from, for drawing evenly from every source: its table or shard, and the folder of its files.
    pub fn source(&self, row: &TableRow) -> String {
        let first = [&row.file, &row.picture, &row.sound].into_iter().flatten().find_map(|part| match part {
            MediaSource::File(name) => Some(name.as_str()),
            _ => None,
        });
        let folder = |name: &str| name.rsplit_once('/').map_or("", |(folder, _)| folder).to_string();
        match row.origin {
            Origin::File => folder(&row.name),
            _ => format!("{}\n{}", self.place(row).0.display(), first.map(folder).unwrap_or_default()),
        }
    }

    /// The sizes of a row's picture and sound, from the beginnings of its files; `None` for what does not tell there.
    ///
    /// # Errors
    /// A file that cannot be opened or read, with the row's place.
    pub fn measure(&self, row: &TableRow) -> Result<MediaInfo> {
        let mut found = MediaInfo::default();
        for (part, expected) in [(&row.file, None), (&row.picture, Some(Content::Picture)), (&row.sound, Some(Content::Sound))] {
            let Some(part) = part else { continue };
            let Some((mut file, start)) = self.open_part(row, part).map_err(|what| self.error(row, what))? else { continue };
            match Content::of(&start).or(expected) {
                // One sample: what the decoder needs for it, and no more, is read.
                Some(Content::Sound) => found.sound = sound::read(file, 16_000, 1, &self.limits).ok().map(|(_, info)| info),
                Some(Content::Picture) => {
                    let head = file.head(HEAD).map_err(|error| self.error(row, format!("cannot read it: {error}")))?;
                    found.picture = dimensions(&head);
                }
                None => {}
            }
        }
        Ok(found)
    }
}

/// Width and height out of a picture's beginning.
fn dimensions(head: &[u8]) -> Option<(u32, u32)> {
    let read = || {
        let reader = image::ImageReader::new(Cursor::new(head)).with_guessed_format().map_err(|error| error.to_string())?;
        reader.into_dimensions().map_err(|error| error.to_string())
    };
    contained(read).ok()
}

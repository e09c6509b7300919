//! What a data set may ask of this machine.

/// What a data set may ask of this machine. A file beyond a limit is refused before it is decoded; the message names the limit.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The longest line of a table, and the longest text of a shard or `.txt` file, in bytes (default 1 MiB).
    pub line_bytes: usize,
    /// The longest header of a shard's member (a long name, pax), in bytes (default 1 MiB).
    pub header_bytes: usize,
    /// The longest footer of a Parquet file, in bytes (default 32 MiB).
    pub footer_bytes: u64,
    /// The largest page of a Parquet file, decompressed, in bytes (default 512 MiB): one is decoded whole.
    pub page_bytes: u64,
    /// The longest side of a picture, in pixels (default 8,192).
    pub picture_side: u32,
    /// The size of a decoded picture, and of its file, in bytes (default 128 MiB).
    pub picture_bytes: u64,
    /// The size of a sound file, in bytes (default 4 GiB − 1, the largest WAV).
    pub file_bytes: u64,
    /// The lowest and highest sample rate of a sound, in Hz (default 8,000 to 192,000).
    pub sound_rate: (u32, u32),
    /// The most channels of a sound (default 8).
    pub sound_channels: u16,
    /// The longest sound, in seconds (default 600).
    pub sound_seconds: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            line_bytes: 1 << 20,
            header_bytes: 1 << 20,
            footer_bytes: 32 << 20,
            page_bytes: 512 << 20,
            picture_side: 8192,
            picture_bytes: 128 << 20,
            file_bytes: u32::MAX as u64,
            sound_rate: (8_000, 192_000),
            sound_channels: 8,
            sound_seconds: 600,
        }
    }
}

impl Limits {
    /// `found a line of 2000000 bytes: more than the limit line_bytes = 1048576`
    pub(crate) fn beyond(name: &str, what: &str, found: impl std::fmt::Display, unit: &str, limit: impl std::fmt::Display) -> String {
        format!("found {what} {found} {unit}: more than the limit {name} = {limit}")
    }
}

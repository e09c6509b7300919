//! Paths in settings, which are text: a path that is not UTF-8 is written as a `file:` URL (RFC 8089), which has every byte.

use std::path::{Path, PathBuf};

const SCHEME: &str = "file://";

/// A path as text. [`from_text`] makes the same path of it.
pub fn to_text(path: &Path) -> String {
    #[cfg(unix)]
    if path.to_str().is_none_or(|text| text.starts_with(SCHEME)) {
        use std::fmt::Write;
        use std::os::unix::ffi::OsStrExt;
        let mut text = SCHEME.to_string();
        for &byte in path.as_os_str().as_bytes() {
            if byte.is_ascii_alphanumeric() || b"/._~-".contains(&byte) {
                text.push(byte as char);
            } else {
                let _ = write!(text, "%{byte:02X}");
            }
        }
        return text;
    }
    path.display().to_string()
}

/// The path that a text of [`to_text`], or any path that somebody wrote, means.
pub fn from_text(text: &str) -> PathBuf {
    #[cfg(unix)]
    if let Some(url) = text.strip_prefix(SCHEME) {
        use std::os::unix::ffi::OsStringExt;
        let (mut bytes, mut rest) = (Vec::new(), url.as_bytes());
        while let [byte, after @ ..] = rest {
            let digits = after.get(..2).filter(|_| *byte == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
            match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                Some(byte) => {
                    bytes.push(byte);
                    rest = &after[2..];
                }
                None => {
                    bytes.push(*byte);
                    rest = after;
                }
            }
        }
        return PathBuf::from(std::ffi::OsString::from_vec(bytes));
    }
    PathBuf::from(text)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn every_path_comes_back() {
        for bytes in [&b"/data/my cats"[..], b"/caf\xe9/100%/\xff\n", "/katzen/äö".as_bytes(), b"file:///odd", b"rel/\x80", b""] {
            let path = Path::new(std::ffi::OsStr::from_bytes(bytes));
            assert_eq!(from_text(&to_text(path)), path, "{}", to_text(path));
        }
        assert_eq!(to_text(Path::new(std::ffi::OsStr::from_bytes(b"/caf\xe9 1"))), "file:///caf%E9%201");
        assert_eq!(from_text("file:///100%/x"), Path::new("/100%/x"));
    }
}

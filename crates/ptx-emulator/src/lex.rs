//! Words, numbers and signs of a PTX file, each with its line.

/// One token. Words keep their dots (`ld.global.nc.v4.f32`, `%tid.x`, `.param`): PTX is read word by word.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Token<'a> {
    /// An identifier, a register, an opcode with its modifiers or a directive.
    Word(&'a str),
    /// A number as written: `12`, `0x1F`, `0f3F800000`, `8.4`.
    Number(&'a str),
    /// The text between two quotes.
    Text(&'a str),
    /// One ASCII sign.
    Sign(u8),
    /// The end of the file; there is exactly one, the last.
    End,
}

impl std::fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Token::Word(w) | Token::Number(w) => write!(f, "`{w}`"),
            Token::Text(t) => write!(f, "\"{t}\""),
            Token::Sign(c) => write!(f, "`{}`", *c as char),
            Token::End => write!(f, "the end of the file"),
        }
    }
}

fn starts_word(c: u8) -> bool {
    c.is_ascii_alphabetic() || matches!(c, b'_' | b'$' | b'%' | b'.')
}

fn goes_on(c: u8) -> bool {
    starts_word(c) || c.is_ascii_digit()
}

/// All tokens of `text` with their lines, counted from 1; or the line and what is wrong in it.
pub fn tokens(text: &str) -> Result<Vec<(Token<'_>, u32)>, (u32, String)> {
    let bytes = text.as_bytes();
    let at = |i: usize| bytes.get(i).copied().unwrap_or(0);
    let (mut i, mut line, mut found) = (0, 1u32, Vec::with_capacity(text.len() / 4));
    while i < bytes.len() {
        let (c, start) = (bytes[i], i);
        match c {
            b'\n' => (i, line) = (i + 1, line + 1),
            b' ' | b'\t' | b'\r' => i += 1,
            b'/' if at(i + 1) == b'/' => {
                while i < bytes.len() && bytes[i] != b'\n' {
                    i += 1;
                }
            }
            b'/' if at(i + 1) == b'*' => {
                let opened = line;
                i += 2;
                while !(at(i) == b'*' && at(i + 1) == b'/') {
                    if i >= bytes.len() {
                        return Err((opened, "a comment that never ends".into()));
                    }
                    line += u32::from(bytes[i] == b'\n');
                    i += 1;
                }
                i += 2;
            }
            b'"' => {
                i += 1;
                while !matches!(at(i), b'"' | b'\n') && i < bytes.len() {
                    i += 1;
                }
                if at(i) != b'"' {
                    return Err((line, "a text without a closing quote on its line".into()));
                }
                found.push((Token::Text(&text[start + 1..i]), line));
                i += 1;
            }
            _ if starts_word(c) => {
                // `.L1::evict_last` is one word; `label:` is a word and a sign.
                while goes_on(at(i)) || (at(i) == b':' && at(i + 1) == b':' && goes_on(at(i + 2))) {
                    i += if at(i) == b':' { 2 } else { 1 };
                }
                found.push((Token::Word(&text[start..i]), line));
            }
            _ if c.is_ascii_digit() => {
                while at(i).is_ascii_alphanumeric()
                    || (at(i) == b'.' && at(i + 1).is_ascii_digit())
                    || (matches!(at(i), b'+' | b'-') && is_exponent(&bytes[start..i]))
                {
                    i += 1;
                }
                found.push((Token::Number(&text[start..i]), line));
            }
            _ if c.is_ascii_graphic() => {
                found.push((Token::Sign(c), line));
                i += 1;
            }
            _ => return Err((line, format!("expected PTX, found the byte 0x{c:02x}"))),
        }
    }
    found.push((Token::End, line));
    Ok(found)
}

/// Whether `1.5e` waits for the sign of its exponent; `0x1e` does not.
fn is_exponent(number: &[u8]) -> bool {
    matches!(number, [.., b'e' | b'E']) && !matches!(number, [b'0', b'x' | b'X' | b'f' | b'F' | b'd' | b'D', ..])
}

//! Plain aligned text.

use crate::files::shown::shown;

/// A table with a line under its header; two spaces between columns, no space at the end of a line. A column whose cells
/// all begin like a number (or are empty or `-`) is aligned to the right, every other one to the left.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    // A line break in a cell would be another row.
    let cell = |row: &[String], column: usize| row.get(column).map_or_else(String::new, |text| shown(text).into_owned());
    let columns = header.len();
    let mut widths: Vec<usize> = header.iter().map(|h| h.chars().count()).collect();
    let mut numbers = vec![!rows.is_empty(); columns];
    for row in rows {
        for column in 0..columns {
            let text = cell(row, column);
            widths[column] = widths[column].max(text.chars().count());
            let starts_as_number = text.trim_start_matches(['-', '+', '−', '≤', '≥', '<', '>', '~', ' ', '.']).starts_with(|c: char| c.is_ascii_digit());
            numbers[column] &= starts_as_number || matches!(text.as_str(), "" | "-" | "–" | "—");
        }
    }
    let line = |cells: Vec<String>| {
        let padded: Vec<String> = cells
            .iter()
            .enumerate()
            .map(|(column, text)| {
                let width = widths[column];
                if numbers[column] { format!("{text:>width$}") } else { format!("{text:<width$}") }
            })
            .collect();
        padded.join("  ").trim_end().to_string() + "\n"
    };
    let mut text = line(header.iter().map(ToString::to_string).collect());
    text += &line(widths.iter().map(|&w| "─".repeat(w)).collect());
    for row in rows {
        text += &line((0..columns).map(|column| cell(row, column)).collect());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_right_and_words_left() {
        let rows =
            [vec!["iid".to_string(), "95.2 %".into(), "x".into()], vec!["held_out".into(), "–".into()], vec!["é".into(), "100.0 %".into(), "long".into()]];
        let expected = "\
split       exact  note
────────  ───────  ────
iid        95.2 %  x
held_out        –
é         100.0 %  long
";
        assert_eq!(table(&["split", "exact", "note"], &rows), expected);
        assert_eq!(table(&["a", "b"], &[]), "a  b\n─  ─\n");
    }
}

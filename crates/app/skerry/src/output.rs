//! What the program prints: aligned tables and lines for people, JSON for programs.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Value, json};
use skerry_model::{Json, Timestamp};

/// Columns are two spaces apart.
const GAP: usize = 2;

/// Where output goes, and whether a program reads it.
pub(crate) struct Output {
    to: Box<dyn Write>,
    json: bool,
}

impl Output {
    /// Standard output; `json` when a program reads it.
    pub(crate) fn to_stdout(json: bool) -> Self {
        Self { to: Box::new(io::stdout()), json }
    }

    /// Whether a program reads it.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// One line for people; programs get nothing.
    pub(crate) fn say(&mut self, line: impl AsRef<str>) -> io::Result<()> {
        if self.json { Ok(()) } else { self.line(line) }
    }

    /// One line, whoever reads.
    pub(crate) fn line(&mut self, line: impl AsRef<str>) -> io::Result<()> {
        self.to.write_all(format!("{}\n", line.as_ref()).as_bytes())?;
        self.to.flush()
    }

    /// Bytes as they are, whoever reads.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes)?;
        self.to.flush()
    }

    /// A document, whoever reads: in one line for programs, indented for people.
    pub(crate) fn document(&mut self, document: &Json) -> io::Result<()> {
        let text = if self.json { document.to_string() } else { format!("{document:#}") };
        self.line(text)
    }

    /// A document for programs, a table for people.
    pub(crate) fn table_or(&mut self, document: &Json, table: &Table) -> io::Result<()> {
        if self.json { self.document(document) } else { self.raw(table.to_string().as_bytes()) }
    }

    /// A document for programs, a sentence for people.
    pub(crate) fn line_or(&mut self, document: &Json, line: impl AsRef<str>) -> io::Result<()> {
        if self.json { self.document(document) } else { self.line(line) }
    }
}

/// Rows under headings.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub(crate) fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self { rows: vec![headings.map(str::to_owned).to_vec()] }
    }

    /// Names and values in two columns, without headings.
    pub(crate) fn of_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let shown = |value: String| if value.is_empty() { "-".to_owned() } else { value };
        Self { rows: pairs.into_iter().map(|(name, value)| vec![name.to_owned(), shown(value)]).collect() }
    }

    /// Adds a row.
    pub(crate) fn push<const N: usize>(&mut self, row: [String; N]) {
        self.rows.push(row.to_vec());
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|at| {
                self.rows
                    .iter()
                    .filter_map(|row| row.get(at))
                    .map(|cell| printable(cell).chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let cell = printable(cell);
                line.push_str(&cell);
                line.extend(std::iter::repeat_n(' ', width + GAP - cell.chars().count()));
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Text of strangers on a terminal: one line, no control characters.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A member of a document as text; empty when it is missing or null.
pub(crate) fn text(document: &Json, name: &str) -> String {
    match &document[name] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What programs read when there is nothing else to say.
pub(crate) fn done() -> Json {
    json!({ "done": true })
}

/// A moment for people; `never` for the one that stands for it.
pub(crate) fn moment(text: &str) -> String {
    if text.is_empty() || text.starts_with("0001-") { "never".to_owned() } else { text.to_owned() }
}

/// `2 days`, `an hour`, `5 minutes`, `12 seconds`: the largest unit alone.
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3_600 => (seconds / 60, "minute"),
        3_600..86_400 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    if count == 1 { format!("1 {unit}") } else { format!("{count} {unit}s") }
}

/// How long ago `at` was.
pub(crate) fn ago(at: Timestamp, now: Timestamp) -> String {
    format!("{} ago", span(now.since(at)))
}

/// `1.5 MiB`: bytes with the unit that makes them readable.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    for (unit, size) in UNITS {
        if count >= size {
            let tenths = count / (size / 10).max(1);
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{count} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_nothing_trails() {
        let mut table = Table::new(["ID", "STATE", "NOTE"]);
        table.push(["a".into(), "enabled".into(), String::new()]);
        table.push(["länger".into(), "x".into(), "two\nlines\u{1b}[31m".into()]);
        assert_eq!(
            table.to_string(),
            "ID      STATE    NOTE\na       enabled\nlänger  x        two\u{fffd}lines\u{fffd}[31m\n"
        );
    }

    #[test]
    fn amounts_are_readable() {
        assert_eq!(span(Duration::from_secs(1)), "1 second");
        assert_eq!(span(Duration::from_secs(119)), "1 minute");
        assert_eq!(span(Duration::from_secs(200_000)), "2 days");
        assert_eq!([bytes(512), bytes(1_536), bytes(5 << 30)], ["512 B", "1.5 KiB", "5.0 GiB"]);
        assert_eq!(moment("0001-01-01T00:00:00Z"), "never");
    }
}

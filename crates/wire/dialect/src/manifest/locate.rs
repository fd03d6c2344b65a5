//! Where in a JSON text the value at a path is. The text was parsed before, so it is well formed and not too deep.

/// Line and column, both from 1, of the innermost part of `path` that exists. Dotted keys of an operator's manifest are
/// followed too: `properties.desired` and then `routes` may be one key.
pub(super) fn place(text: &str, path: &[String]) -> Option<(usize, usize)> {
    let mut scanner = Scanner { bytes: text.as_bytes(), at: 0 };
    scanner.space();
    let mut found = scanner.at;
    let mut rest = path;
    while !rest.is_empty() {
        let Some((key_at, taken)) = scanner.enter(rest) else { break };
        found = key_at;
        rest = &rest[taken..];
    }
    let before = text.get(..found)?;
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Some((before.matches('\n').count() + 1, before[line_start..].chars().count() + 1))
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    /// Goes from an object or array to the member that `path` begins with; where its key is, and how many parts it takes.
    fn enter(&mut self, path: &[String]) -> Option<(usize, usize)> {
        match self.bytes.get(self.at)? {
            b'{' => self.enter_object(path),
            b'[' => self.enter_array(path.first()?.parse().ok()?),
            _ => None,
        }
    }

    fn enter_object(&mut self, path: &[String]) -> Option<(usize, usize)> {
        // The last of equal keys counts, as for the parser.
        let mut best: Option<(usize, usize, usize)> = None;
        self.at += 1;
        loop {
            self.space();
            if *self.bytes.get(self.at)? == b'}' {
                break;
            }
            let key_at = self.at;
            let key = self.string()?;
            self.space();
            self.at += 1;
            self.space();
            let taken = (1..=path.len()).find(|taken| path[..*taken].join(".") == key);
            if let Some(taken) = taken.filter(|taken| best.is_none_or(|(_, _, before)| before <= *taken)) {
                best = Some((key_at, self.at, taken));
            }
            self.skip()?;
            self.space();
            if *self.bytes.get(self.at)? == b',' {
                self.at += 1;
            }
        }
        let (key_at, value_at, taken) = best?;
        self.at = value_at;
        Some((key_at, taken))
    }

    fn enter_array(&mut self, index: usize) -> Option<(usize, usize)> {
        self.at += 1;
        let mut before = 0;
        loop {
            self.space();
            match self.bytes.get(self.at)? {
                b']' => return None,
                b',' => self.at += 1,
                _ if before == index => return Some((self.at, 1)),
                _ => {
                    self.skip()?;
                    before += 1;
                }
            }
        }
    }

    fn space(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn string(&mut self) -> Option<String> {
        let from = self.at;
        self.skip_string()?;
        serde_json::from_slice(&self.bytes[from..self.at]).ok()
    }

    fn skip_string(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            match self.bytes.get(self.at)? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Some(())
    }

    /// Goes behind the value that begins here.
    fn skip(&mut self) -> Option<()> {
        let mut open = 0_usize;
        loop {
            match self.bytes.get(self.at)? {
                b'"' => self.skip_string()?,
                b'{' | b'[' => {
                    open += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    open = open.checked_sub(1)?;
                    self.at += 1;
                }
                _ if open == 0 => {
                    while self.bytes.get(self.at).is_some_and(|byte| !b",]} \t\r\n".contains(byte)) {
                        self.at += 1;
                    }
                }
                _ => self.at += 1,
            }
            if open == 0 {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, path: &[&str]) -> Option<(usize, usize)> {
        place(text, &path.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn values_are_found_by_their_path() {
        let text = "{\n \"a\": {\"x\": [1, {\"}\": 2}], \"b.c\": {\n  \"d\": true}},\n \"e\\u0066\": null\n}";
        assert_eq!(at(text, &[]), Some((1, 1)));
        assert_eq!(at(text, &["a", "x", "1"]), Some((2, 17)));
        assert_eq!(at(text, &["a", "b", "c", "d"]), Some((3, 3)));
        assert_eq!(at(text, &["a", "b.c", "d"]), Some((3, 3)));
        assert_eq!(at(text, &["ef"]), Some((4, 2)));
        assert_eq!(at(text, &["a", "nosuch", "deeper"]), Some((2, 2)));
        assert_eq!(at(text, &["a", "x", "7"]), Some((2, 8)));
    }
}

//! What a program under test logs.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::Level;
use tracing::subscriber::DefaultGuard;

/// Everything that is logged on this thread while this lives, from the level `info` on.
pub struct Log {
    text: Text,
    _subscribed: DefaultGuard,
}

#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Reads along from now on.
    pub fn read_along() -> Self {
        let text = Text::default();
        let writer = text.clone();
        let subscriber = tracing_subscriber::fmt()
            .without_time()
            .with_ansi(false)
            .with_target(false)
            .with_max_level(Level::INFO)
            .with_writer(move || writer.clone())
            .finish();
        Self { text, _subscribed: tracing::subscriber::set_default(subscriber) }
    }

    /// The lines that hold `part`, without the moment.
    pub fn lines_with(&self, part: &str) -> Vec<String> {
        let text = self.text.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = String::from_utf8_lossy(&text);
        lines.lines().filter(|line| line.contains(part)).map(|line| line.trim().to_owned()).collect()
    }
}

impl io::Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! What our hub and our edge say beyond Azure's interface, to our own command line: reading events, who is connected, how an edge
//! fares.

mod connections;
mod events;
mod status;

pub use connections::{ConnectedLine, Connections, RefusedLine};
pub use events::{Cursor, EventLine, EventQuery, Line, Start, cursor_line, event_line, read_line};
pub use status::{DeploymentState, EdgeStatus, StoreState};

/// The content type of an answer that holds one JSON document per line.
pub const LINES_CONTENT_TYPE: &str = "application/x-ndjson";

#[cfg(test)]
mod tests;

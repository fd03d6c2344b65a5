//! The edge's local socket: the management API's part for modules, and how the edge fares.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use skerry_dialect::error;
use skerry_net::http::{BodyReader, ClientLimits, HttpAddress, HttpClient, Method, Request, Response};

use crate::failure::Failure;

/// The socket's name in the edge's data folder.
const NAME: &str = "management.sock";
/// The data folder of the packaged edge.
const DATA_FOLDER: &str = "/var/lib/skerry-edge";
/// An error's text.
const ERROR_BYTES_MAX: usize = 64 * 1024;

/// The edge on this machine.
pub(crate) struct Edge(HttpClient);

impl Edge {
    /// The edge whose socket is at `socket`, or in its data folder `folder`.
    pub(crate) fn new(socket: Option<PathBuf>, folder: Option<&Path>, timeout: Duration) -> Self {
        let socket = socket.unwrap_or_else(|| folder.unwrap_or(Path::new(DATA_FOLDER)).join(NAME));
        let limits = ClientLimits { answer_max: timeout, ..ClientLimits::default() };
        Self(HttpClient::new(HttpAddress::Unix(socket), limits))
    }

    /// Sends a request and gives the answer's body.
    pub(crate) async fn send(&self, method: Method, target: &str) -> Result<Bytes, Failure> {
        let response = self.0.request(Request::new(method, target)).await?;
        if response.status.is_success() { Ok(response.body) } else { Err(refused(&response)) }
    }

    /// Sends a request and gives the answer's body piece by piece.
    pub(crate) async fn open(&self, target: &str) -> Result<BodyReader, Failure> {
        let mut response = self.0.open(Request::new(Method::GET, target)).await?;
        if response.status.is_success() {
            return Ok(response.body);
        }
        let mut body = Vec::new();
        while let Some(piece) = response.body.piece().await? {
            body.extend_from_slice(&piece);
            if body.len() > ERROR_BYTES_MAX {
                break;
            }
        }
        Err(refused(&Response { status: response.status, headers: response.headers, body: Bytes::from(body) }))
    }
}

fn refused(response: &Response) -> Failure {
    Failure::from(error::read(response.status.as_u16(), &response.body))
}

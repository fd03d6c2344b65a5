//! Bytes in and out of one MQTT connection: the runtime's one read buffer, what is left of a packet, what waits to be written.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use skerry_mqtt::{WireLimits, head};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// Bytes read at once; one such buffer per connection runtime, none per connection.
const READ_BYTES: usize = 65_536;
/// Buffers for writing that a runtime keeps for its connections to take turns with.
const SPARE_BUFFERS_MAX: usize = 32;
/// A spare buffer larger than this is given back to the system.
const SPARE_BYTES_MAX: usize = 262_144;

/// The buffers that all connections of one runtime share.
pub(crate) struct Buffers {
    read: RefCell<Box<[u8]>>,
    spare: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    pub(crate) fn new() -> Self {
        Self { read: RefCell::new(vec![0; READ_BYTES].into_boxed_slice()), spare: RefCell::default() }
    }

    fn take(&self) -> Vec<u8> {
        self.spare.borrow_mut().pop().unwrap_or_default()
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        let mut spare = self.spare.borrow_mut();
        if buffer.capacity() > 0 && buffer.capacity() <= SPARE_BYTES_MAX && spare.len() < SPARE_BUFFERS_MAX {
            buffer.clear();
            spare.push(buffer);
        }
    }
}

/// What waits to be written to one connection. Holds memory only while there is something.
#[derive(Default)]
pub(crate) struct Outgoing {
    bytes: Vec<u8>,
    written: usize,
    unflushed: bool,
}

impl Outgoing {
    /// Makes room to append to.
    pub(crate) fn open(&mut self, buffers: &Buffers) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = buffers.take();
        }
        &mut self.bytes
    }

    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Writes as much as the socket takes; ready when nothing is left.
    pub(crate) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        buffers: &Buffers,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.written < self.bytes.len() {
            match Pin::new(&mut *stream).poll_write(cx, &self.bytes[self.written..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(bytes)) => self.written += bytes,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
            self.unflushed = true;
        }
        self.written = 0;
        buffers.give_back(std::mem::take(&mut self.bytes));
        if self.unflushed {
            // A TLS stream may have taken everything and keep records that the socket did not take.
            std::task::ready!(Pin::new(stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

/// What was read and not understood yet: the beginning of a packet, or packets that have to wait. Holds memory only then.
#[derive(Default)]
pub(crate) struct Incoming {
    rest: Vec<u8>,
}

impl Incoming {
    /// Reads once and hands everything that is there to `consume`, which answers how many bytes it understood. Ready with
    /// what was read: 0 at the end of the stream.
    pub(crate) fn poll_read<S: AsyncRead + Unpin, E: From<io::Error>>(
        &mut self,
        stream: &mut S,
        buffers: &Buffers,
        limits: &WireLimits,
        cx: &mut Context<'_>,
        consume: impl FnOnce(&[u8]) -> Result<usize, E>,
    ) -> Poll<Result<usize, E>> {
        let wanted = head(&self.rest, limits).ok().flatten().map_or(0, |head| head.packet_bytes);
        if wanted.max(self.rest.len()) + READ_BYTES / 2 > READ_BYTES {
            return self.poll_read_large(stream, wanted, cx, consume);
        }
        let mut shared = buffers.read.borrow_mut();
        let kept = self.rest.len();
        shared[..kept].copy_from_slice(&self.rest);
        let mut buffer = ReadBuf::new(&mut shared[kept..]);
        match Pin::new(stream).poll_read(cx, &mut buffer) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
            Poll::Ready(Ok(())) => {}
        }
        let read = buffer.filled().len();
        let filled = &shared[..kept + read];
        let consumed = consume(filled)?;
        self.keep(&filled[consumed..]);
        Poll::Ready(Ok(read))
    }

    /// A packet that does not fit beside others into the shared buffer is gathered in a buffer of its own.
    fn poll_read_large<S: AsyncRead + Unpin, E: From<io::Error>>(
        &mut self,
        stream: &mut S,
        wanted: usize,
        cx: &mut Context<'_>,
        consume: impl FnOnce(&[u8]) -> Result<usize, E>,
    ) -> Poll<Result<usize, E>> {
        let missing = (wanted.max(self.rest.len()) + READ_BYTES / 2) - self.rest.len();
        self.rest.reserve_exact(missing);
        let read = match std::pin::pin!(stream.read_buf(&mut self.rest)).poll(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
            Poll::Ready(Ok(read)) => read,
        };
        let consumed = consume(&self.rest)?;
        self.rest.drain(..consumed);
        if self.rest.len() < READ_BYTES / 2 {
            self.rest.shrink_to_fit();
        }
        Poll::Ready(Ok(read))
    }

    /// Hands what waits to `consume` again, without reading.
    pub(crate) fn again<E>(&mut self, consume: impl FnOnce(&[u8]) -> Result<usize, E>) -> Result<(), E> {
        let rest = std::mem::take(&mut self.rest);
        let consumed = consume(&rest)?;
        self.rest = rest;
        self.rest.drain(..consumed);
        if self.rest.is_empty() {
            self.rest = Vec::new();
        }
        Ok(())
    }

    fn keep(&mut self, rest: &[u8]) {
        if rest.is_empty() {
            self.rest = Vec::new();
        } else {
            self.rest.clear();
            self.rest.extend_from_slice(rest);
        }
    }
}

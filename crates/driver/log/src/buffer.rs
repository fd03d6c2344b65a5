//! Memory that disks can write from directly: aligned to a block, used again and again.

use std::sync::{Arc, Mutex, PoisonError};

use crate::disk::BLOCK;

/// Buffers that wait to be used again, at most.
const IDLE_MAX: usize = 4;

/// A buffer of fixed capacity whose first byte lies on a block boundary.
#[derive(Debug)]
pub(crate) struct AlignedBuffer {
    memory: Vec<u8>,
    start: usize,
    capacity: usize,
}

impl AlignedBuffer {
    /// A zeroed buffer; `capacity` is rounded up to whole blocks.
    pub(crate) fn new(capacity: usize) -> Self {
        let capacity = capacity.next_multiple_of(BLOCK);
        let memory = vec![0; capacity + BLOCK];
        let start = memory.as_ptr().align_offset(BLOCK).min(BLOCK);
        Self { memory, start, capacity }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.capacity]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.capacity]
    }
}

/// Buffers of one capacity.
#[derive(Debug)]
pub(crate) struct BufferPool {
    capacity: usize,
    idle: Mutex<Vec<AlignedBuffer>>,
}

impl BufferPool {
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self { capacity, idle: Mutex::new(Vec::with_capacity(IDLE_MAX)) })
    }

    /// A buffer with any content.
    pub(crate) fn take(&self) -> AlignedBuffer {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.unwrap_or_else(|| AlignedBuffer::new(self.capacity))
    }

    fn give_back(&self, buffer: AlignedBuffer) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(buffer);
        }
    }
}

/// A written buffer that is shared with readers and goes back to its pool when the last of them is done.
pub(crate) struct SharedBuffer {
    buffer: Option<AlignedBuffer>,
    used: usize,
    pool: Arc<BufferPool>,
}

impl SharedBuffer {
    pub(crate) fn new(buffer: AlignedBuffer, used: usize, pool: Arc<BufferPool>) -> Self {
        Self { buffer: Some(buffer), used, pool }
    }
}

impl AsRef<[u8]> for SharedBuffer {
    fn as_ref(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], |buffer| &buffer.bytes()[..self.used])
    }
}

impl Drop for SharedBuffer {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.pool.give_back(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_come_back() {
        let pool = BufferPool::new(5000);
        let mut buffer = pool.take();
        assert_eq!(buffer.capacity(), 8192);
        assert_eq!(buffer.bytes().as_ptr().align_offset(BLOCK), 0);
        buffer.bytes_mut()[0] = 7;
        let place = buffer.bytes().as_ptr();
        let shared = bytes::Bytes::from_owner(SharedBuffer::new(buffer, 10, Arc::clone(&pool)));
        let slice = shared.slice(0..1);
        drop(shared);
        assert_ne!(pool.take().bytes().as_ptr(), place);
        drop(slice);
        assert_eq!(pool.take().bytes().as_ptr(), place);
    }
}

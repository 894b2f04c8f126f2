//! A body given to `multer` one chunk at a time.
//!
//! `multer` reads whatever is there before it looks at any of it, and keeps what it has not
//! understood. From a fast client that could be the whole upload; so could a part header that
//! never ends.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::body::BodyDataStream;
use bytes::Bytes;
use futures_util::Stream;

/// Most bytes that may come without becoming a part or data of one: the preamble or a header.
const UNREAD_BYTES_MAX: usize = 4 << 20;

/// Bytes given to `multer` since it last gave something back.
#[derive(Debug, Clone, Default)]
pub(super) struct Unread(Arc<AtomicUsize>);

impl Unread {
    /// Notes that `multer` gave something back.
    pub(super) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// The body, paused after each chunk.
pub(super) struct Paced {
    inner: BodyDataStream,
    unread: Unread,
    pause: bool,
}

impl Paced {
    pub(super) fn new(inner: BodyDataStream, unread: Unread) -> Self {
        Self { inner, unread, pause: false }
    }
}

impl Stream for Paced {
    type Item = Result<Bytes, Box<dyn std::error::Error + Send + Sync>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.pause) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let next = std::task::ready!(Pin::new(&mut self.inner).poll_next(context));
        Poll::Ready(next.map(|chunk| {
            let chunk = chunk?;
            self.pause = true;
            let before = self.unread.0.fetch_add(chunk.len(), Ordering::Relaxed);
            match before + chunk.len() > UNREAD_BYTES_MAX {
                true => Err(EndlessHeader.into()),
                false => Ok(chunk),
            }
        }))
    }
}

/// Much came that is no part.
#[derive(Debug, thiserror::Error)]
#[error("multipart body has {UNREAD_BYTES_MAX} bytes before a part or in the headers of one")]
pub(super) struct EndlessHeader;

//! The MQTT head: from a connection's first byte to its last.

mod client;
mod io;
mod opening;

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::{Backend, Connected, Peer, Runtime};

pub(crate) use client::{Client, End, ReplyTo};
pub(crate) use io::Buffers;

/// How long a closing connection may take to read what was written to it last.
const FAREWELL: Duration = Duration::from_secs(5);

/// Serves one connection until it ends. Nobody is believed before the opening is over.
pub(crate) async fn serve<B: Backend, S: AsyncRead + AsyncWrite + Unpin>(
    runtime: Rc<Runtime<B>>,
    mut stream: S,
    peer: Peer,
) {
    match opening::open(&runtime, &mut stream, &peer).await {
        Ok(opened) => Box::pin(run(&runtime, &mut stream, &peer, opened)).await,
        Err(refused) => {
            if let Some(reason) = &refused.reason {
                runtime.door.refuse(runtime.clock.now(), peer.address.ip(), "mqtt", &refused.claimed, reason);
            }
            if !refused.answer.is_empty() {
                farewell(&mut stream, &refused.answer).await;
            }
        }
    }
}

async fn run<B: Backend, S: AsyncRead + AsyncWrite + Unpin>(
    runtime: &Rc<Runtime<B>>,
    stream: &mut S,
    peer: &Peer,
    opened: opening::Opened<B>,
) {
    let opening::Opened { mut client, will, product, admitted } = opened;
    let now = runtime.clock.now();
    let inside = runtime.door.enter(Connected {
        client: client.id.clone(),
        peer: peer.address.ip(),
        protocol: "mqtt",
        product,
        since: now.wall,
    });
    tracing::info!(client = %client.id, peer = %peer.address, "connected");
    let end = live(runtime, stream, &mut client).await;
    drop((inside, admitted));
    if let Some(will) = will.filter(|_| !matches!(end, End::Left)) {
        client.publish_will(&will);
    }
    if end.is_refusal() {
        runtime.door.refuse(runtime.clock.now(), peer.address.ip(), "mqtt", &client.id.to_string(), &end.to_string());
    }
    tracing::info!(client = %client.id, peer = %peer.address, reason = %end, "disconnected");
    drop(client);
    farewell(stream, &[]).await;
}

async fn live<B: Backend, S: AsyncRead + AsyncWrite + Unpin>(
    runtime: &Runtime<B>,
    stream: &mut S,
    client: &mut Client<B>,
) -> End {
    let mut armed = runtime.clock.now().monotonic;
    let mut timer = std::pin::pin!(tokio::time::sleep_until(runtime.clock.instant(armed)));
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(end) = client.poll(runtime, stream, cx) {
                return Poll::Ready(end);
            }
            let now = runtime.clock.now();
            let is_due = armed <= now.monotonic;
            if is_due && let Some(end) = client.handle_timeout(now) {
                return Poll::Ready(end);
            }
            // What happened in this round may have brought the next deadline nearer. A later one is found out when the timer
            // fires, so that a busy connection does not set its timer for every packet.
            let next = client.next_timeout(now);
            if is_due || next < armed {
                armed = next;
                timer.as_mut().reset(runtime.clock.instant(armed));
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await
}

/// Writes the last bytes and closes; a peer that does not read them is not waited for.
async fn farewell<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) {
    let last_words = async {
        stream.write_all(bytes).await?;
        stream.shutdown().await
    };
    // Whether the peer heard it makes no difference any more.
    let _ = tokio::time::timeout(FAREWELL, last_words).await;
}

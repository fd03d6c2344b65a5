//! Takes connections at its entrances and spreads them over the connection runtimes.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use skerry_net::{Clock, ListenAddress, Listener, Socket, Stream, TlsAcceptor};
use tokio::sync::mpsc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, LocalSet};

use crate::runtime::{Runtime, Shared};
use crate::{Backend, Door, GatewayConfig, HttpRoutes, http, mqtt};

/// Accepted connections that one runtime has not taken over yet.
const ARRIVALS_MAX: usize = 1_024;
/// Stack of a connection runtime's thread; the default of 2 MiB is never touched.
const STACK_BYTES: usize = 512 * 1_024;

/// Which protocol is spoken at an entrance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// MQTT 3.1.1.
    Mqtt,
    /// HTTP/1.1.
    Http,
}

impl Head {
    /// The protocol as the list of who is in and who was refused names it.
    fn protocol(self) -> &'static str {
        match self {
            Self::Mqtt => "mqtt",
            Self::Http => "https",
        }
    }
}

/// Somewhere clients come in.
pub struct Entrance {
    /// Where.
    pub listener: Listener,
    /// Without TLS only what comes over loopback may be served; whoever opens the entrance checks that.
    pub tls: Option<TlsAcceptor>,
    /// What is spoken there.
    pub head: Head,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// From where.
    pub address: SocketAddr,
    /// The certificate chain it showed, leaf first, DER; not judged yet.
    pub certificates: Vec<Vec<u8>>,
}

/// The protocol heads in front of a hub, not yet serving.
pub struct Gateway<B: Backend> {
    backend: Arc<B>,
    config: GatewayConfig,
    clock: Clock,
    door: Arc<Door>,
    routes: Option<Arc<dyn HttpRoutes>>,
    seed: u64,
}

impl<B: Backend> Gateway<B> {
    /// Protocol heads for `backend`. `seed` is a random number; it makes packet ids and tracking ids differ from start to start.
    pub fn new(backend: Arc<B>, config: GatewayConfig, clock: Clock, door: Arc<Door>, seed: u64) -> Self {
        Self { backend, config, clock, door, routes: None, seed }
    }

    /// What the HTTP head serves.
    #[must_use]
    pub fn mount_http(mut self, routes: Arc<dyn HttpRoutes>) -> Self {
        self.routes = Some(routes);
        self
    }

    /// Starts the connection runtimes. Needs to be called on a tokio runtime, which then accepts connections.
    ///
    /// # Errors
    /// When a thread or its runtime cannot be made.
    pub fn start(self) -> io::Result<Serving> {
        let runtimes = self.config.runtimes.max(1);
        let (clock, door) = (self.clock, self.door.clone());
        let places = Places::new(self.config.connections_max);
        let shared = Arc::new(Shared {
            backend: self.backend,
            config: self.config,
            clock: self.clock,
            door: self.door,
            routes: self.routes,
            numbers: AtomicU64::new(self.seed),
        });
        let mut threads = Vec::with_capacity(runtimes);
        let mut arrivals = Vec::with_capacity(runtimes);
        for number in 0..runtimes {
            let (sender, receiver) = mpsc::channel(ARRIVALS_MAX);
            let shared = shared.clone();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let thread = std::thread::Builder::new()
                .name(format!("connections-{number}"))
                .stack_size(STACK_BYTES)
                .spawn(move || LocalSet::new().block_on(&runtime, serve(shared, receiver)))?;
            threads.push(thread);
            arrivals.push(sender);
        }
        let next = AtomicUsize::new(0);
        Ok(Serving { spread: Arc::new(Spread { arrivals, next, places, clock, door }), threads })
    }
}

/// A running gateway. Dropping it, or [`Serving::stop`], closes every connection.
pub struct Serving {
    spread: Arc<Spread>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

/// An entrance that is open; dropping it closes it for newcomers, those inside stay.
#[derive(Debug)]
pub struct Open {
    address: ListenAddress,
    accepting: JoinHandle<()>,
}

impl Serving {
    /// Opens an entrance. Needs to be called on a tokio runtime.
    pub fn open(&self, entrance: Entrance) -> Open {
        let address = entrance.listener.address().clone();
        let Entrance { listener, tls, head } = entrance;
        let (spread, hall) = (self.spread.clone(), Arc::new(Hall { tls, head }));
        let accepting = tokio::spawn(async move {
            loop {
                let (socket, peer) = listener.accept().await;
                if let skerry_net::Peer::Tcp(address) = peer {
                    spread.hand_over(socket, address, &hall).await;
                }
            }
        });
        Open { address, accepting }
    }

    /// Who is connected, and who was refused.
    pub fn door(&self) -> &Arc<Door> {
        &self.spread.door
    }

    /// Closes every connection and waits for the runtimes to end. All entrances must be closed before.
    pub fn stop(mut self) {
        let (clock, door) = (self.spread.clock, self.spread.door.clone());
        let (arrivals, next, places) = (Vec::new(), AtomicUsize::new(0), Places::new(0));
        self.spread = Arc::new(Spread { arrivals, next, places, clock, door });
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a connection runtime ended in a panic");
            }
        }
    }
}

impl Open {
    /// Where it is, with the real port.
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Closes it; when this is over, its address is free.
    pub async fn close(mut self) {
        self.accepting.abort();
        // That it was ended is what was wanted.
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

struct Hall {
    tls: Option<TlsAcceptor>,
    head: Head,
}

struct Arrival {
    socket: Socket,
    address: SocketAddr,
    hall: Arc<Hall>,
    _place: OwnedSemaphorePermit,
}

struct Spread {
    arrivals: Vec<mpsc::Sender<Arrival>>,
    next: AtomicUsize,
    places: Places,
    clock: Clock,
    door: Arc<Door>,
}

/// Room for connections.
struct Places {
    free: Arc<Semaphore>,
    all: usize,
}

impl Places {
    fn new(connections_max: usize) -> Self {
        let all = connections_max.min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(all)), all }
    }

    fn take(&self) -> Option<OwnedSemaphorePermit> {
        self.free.clone().try_acquire_owned().ok()
    }
}

impl Spread {
    async fn hand_over(&self, socket: Socket, address: SocketAddr, hall: &Arc<Hall>) {
        let Some(place) = self.places.take() else {
            let reason = format!("as many connections as there may be: {}", self.places.all);
            self.door.refuse(self.clock.now(), address.ip(), hall.head.protocol(), "", &reason);
            return;
        };
        let at = self.next.fetch_add(1, Ordering::Relaxed) % self.arrivals.len().max(1);
        if let Some(runtime) = self.arrivals.get(at) {
            let arrival = Arrival { socket, address, hall: hall.clone(), _place: place };
            // A runtime is gone only when the gateway is stopping.
            let _ = runtime.send(arrival).await;
        }
    }
}

/// One connection runtime's life: ends when no entrance can reach it any more, and every connection with it.
async fn serve<B: Backend>(shared: Arc<Shared<B>>, mut arrivals: mpsc::Receiver<Arrival>) {
    let runtime = Runtime::new(shared);
    let lane = runtime.lane.clone();
    tokio::task::spawn_local(async move { lane.dispatch().await });
    while let Some(arrival) = arrivals.recv().await {
        tokio::task::spawn_local(welcome(runtime.clone(), arrival));
    }
}

async fn welcome<B: Backend>(runtime: Rc<Runtime<B>>, arrival: Arrival) {
    let Arrival { socket, address, hall, _place } = arrival;
    let stream = match socket.attach() {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(peer = %address, %error, "a connection could not be taken over");
            return;
        }
    };
    let (stream, certificates) = match &hall.tls {
        None => (stream, Vec::new()),
        Some(tls) => match tls.accept(stream).await {
            Ok((stream, peer)) => (stream, peer.chain.iter().map(|one| one.to_vec()).collect()),
            Err(error) => {
                let protocol = hall.head.protocol();
                runtime.door.refuse(runtime.clock.now(), address.ip(), protocol, "", &error.to_string());
                return;
            }
        },
    };
    let peer = Peer { address, certificates };
    speak(runtime, stream, peer, hall.head).await;
}

async fn speak<B: Backend>(runtime: Rc<Runtime<B>>, stream: Stream, peer: Peer, head: Head) {
    // On the heap and of its own size each, so that a connection costs what its own protocol needs.
    match head {
        Head::Mqtt => Box::pin(mqtt::serve(runtime, stream, peer)).await,
        Head::Http => Box::pin(http::serve(runtime, stream, peer)).await,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::tests::hub::Scripted;

    #[tokio::test]
    async fn the_address_of_a_closed_entrance_is_free() {
        let gateway = Gateway::new(
            Arc::new(Scripted::default()),
            GatewayConfig::new("hub.example"),
            Clock::system(),
            Arc::default(),
            1,
        );
        let serving = gateway.start().unwrap();
        let mut address = "127.0.0.1:0".parse::<SocketAddr>().unwrap();
        for _ in 0..3 {
            let listener = Listener::bind(&ListenAddress::Tcp(address)).unwrap();
            address.set_port(listener.port().unwrap());
            serving.open(Entrance { listener, tls: None, head: Head::Mqtt }).close().await;
        }
        tokio::task::spawn_blocking(move || serving.stop()).await.unwrap();
    }

    #[tokio::test]
    async fn who_comes_when_there_is_no_place_left_is_listed() {
        let config = GatewayConfig { connections_max: 1, ..GatewayConfig::new("hub.example") };
        let door = Arc::new(Door::new());
        let gateway = Gateway::new(Arc::new(Scripted::default()), config, Clock::system(), door.clone(), 1);
        let serving = gateway.start().unwrap();
        let mut entrances = Vec::new();
        for head in [Head::Mqtt, Head::Http] {
            let listener = Listener::bind(&ListenAddress::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
            let port = listener.port().unwrap();
            entrances.push((port, serving.open(Entrance { listener, tls: None, head })));
        }
        let connect = |at: usize| skerry_net::connect_tcp("127.0.0.1", entrances[at].0, Duration::from_secs(5));
        let inside = connect(0).await.unwrap();
        for at in [0, 0, 1] {
            // Where it had to wait it would be for CONNECT, a minute.
            let end = connect(at).await.unwrap().read(&mut [0; 1]).await;
            assert!(!matches!(end, Ok(1..)), "{end:?}");
        }
        let [entry] = &door.refused()[..] else { panic!("one entry for one peer: {:?}", door.refused()) };
        assert_eq!((entry.count, entry.protocol, entry.claimed.as_str()), (3, "https", ""));
        assert_eq!(entry.reason, "as many connections as there may be: 1");
        assert_eq!(entry.peer.to_string(), "127.0.0.1");
        drop((inside, entrances));
        tokio::task::spawn_blocking(move || serving.stop()).await.unwrap();
    }
}

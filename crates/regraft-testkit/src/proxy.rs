//! A network that fails: a TCP proxy between the program and a server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

/// Stands for no limit.
const ENDLESS: i64 = i64::MAX / 2;

/// A proxy in front of one server. It ends with the value.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    state: Arc<State>,
    end: watch::Sender<bool>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    /// Bytes that may still pass before everything is cut.
    left: AtomicI64,
    passed: AtomicU64,
    cuts: AtomicU64,
    refuse: AtomicBool,
    delay_ms: AtomicU64,
    /// Bytes a second each way of each connection; 0 for no limit.
    rate: AtomicU64,
    cut: Notify,
}

impl Proxy {
    /// A proxy to a server on this machine.
    pub fn to(port: u16) -> Self {
        let state = Arc::new(State {
            left: AtomicI64::new(ENDLESS),
            passed: AtomicU64::new(0),
            cuts: AtomicU64::new(0),
            refuse: AtomicBool::new(false),
            delay_ms: AtomicU64::new(0),
            rate: AtomicU64::new(0),
            cut: Notify::new(),
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        listener
            .set_nonblocking(true)
            .expect("the listener can be made non-blocking");
        let own_port = listener
            .local_addr()
            .expect("the listener has an address")
            .port();
        let (end, ended) = watch::channel(false);
        let shared = Arc::clone(&state);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let runtime = runtime.expect("a runtime starts");
            runtime.block_on(serve(
                listener,
                SocketAddr::from(([127, 0, 0, 1], port)),
                shared,
                ended,
            ));
        });
        Self {
            port: own_port,
            state,
            end,
            thread: Some(thread),
        }
    }

    /// The URL of a database behind the proxy, from its URL without.
    pub fn url(&self, direct: &str, port: u16) -> String {
        let (old, new) = (format!(":{port}/"), format!(":{}/", self.port));
        assert!(direct.contains(&old), "the URL names its port");
        direct.replace(&old, &new)
    }

    /// Bytes that have passed, both ways.
    pub fn passed(&self) -> u64 {
        self.state.passed.load(Ordering::Relaxed)
    }

    /// How often connections were cut.
    pub fn cuts(&self) -> u64 {
        self.state.cuts.load(Ordering::Relaxed)
    }

    /// Cuts every connection when so many more bytes have passed, once.
    pub fn cut_after(&self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(ENDLESS);
        self.state.left.store(bytes, Ordering::Relaxed);
    }

    /// Cuts every connection.
    pub fn cut_now(&self) {
        self.state.cut_all();
    }

    /// Refuses new connections, or takes them again.
    pub fn refuse(&self, refuse: bool) {
        self.state.refuse.store(refuse, Ordering::Relaxed);
    }

    /// Holds every block of bytes back for this long.
    pub fn delay(&self, delay: Duration) {
        let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.state.delay_ms.store(delay, Ordering::Relaxed);
    }

    /// Lets so many bytes a second pass, each way of each connection.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.state.rate.store(bytes_per_second, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.end.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl State {
    fn cut_all(&self) {
        self.cuts.fetch_add(1, Ordering::Relaxed);
        self.cut.notify_waiters();
    }

    /// Counts bytes that are about to pass; whether they may.
    fn pass(&self, bytes: usize) -> bool {
        let bytes = bytes as i64;
        let before = self.left.fetch_sub(bytes, Ordering::Relaxed);
        if before >= ENDLESS / 2 || before > bytes {
            self.passed
                .fetch_add(bytes.unsigned_abs(), Ordering::Relaxed);
            return true;
        }
        self.left.store(ENDLESS, Ordering::Relaxed);
        self.cut_all();
        false
    }
}

async fn serve(
    listener: std::net::TcpListener,
    upstream: SocketAddr,
    state: Arc<State>,
    mut ended: watch::Receiver<bool>,
) {
    let listener = TcpListener::from_std(listener).expect("the listener can be watched");
    loop {
        let client = tokio::select! {
            _ = ended.changed() => return,
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => client,
                Err(_) => continue,
            },
        };
        if state.refuse.load(Ordering::Relaxed) {
            continue;
        }
        tokio::spawn(connect(client, upstream, Arc::clone(&state)));
    }
}

async fn connect(client: TcpStream, upstream: SocketAddr, state: Arc<State>) {
    let Ok(server) = TcpStream::connect(upstream).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    // Registered before the first byte passes, so that no cut is missed.
    let cut = state.cut.notified();
    tokio::pin!(cut);
    cut.as_mut().enable();
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    tokio::select! {
        () = &mut cut => {}
        () = pump(client_read, server_write, &state) => {}
        () = pump(server_read, client_write, &state) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: &State) {
    let mut block = vec![0; 1 << 16];
    let mut due = tokio::time::Instant::now();
    loop {
        let Ok(read @ 1..) = from.read(&mut block).await else {
            return;
        };
        let delay = state.delay_ms.load(Ordering::Relaxed);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        let rate = state.rate.load(Ordering::Relaxed);
        let nanoseconds = (read as u64).saturating_mul(1_000_000_000);
        if let Some(nanoseconds) = nanoseconds.checked_div(rate) {
            due = due.max(tokio::time::Instant::now()) + Duration::from_nanos(nanoseconds);
            tokio::time::sleep_until(due).await;
        }
        if !state.pass(read) || to.write_all(&block[..read]).await.is_err() {
            return;
        }
    }
}
